"""The two forms of the graph, which differ in nothing but where a layer's past comes from.

One-shot: the past is silence. Layers look as exporters write them: `Pad` before a convolution, `ConvTranspose` and a
slice, a mask from positions that start at 0.

Streaming: the past is an input `past.<name>`, and what the next chunk will need of this one an output
`present.<name>`. From zero state and on all frames at once it is the one-shot decode.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import onnx_ir as ir

from omni_sdk.tools.export.config import Config
from omni_sdk.tools.export.graph import Graph

BATCH = "batch"
FRAMES = "frames"


class Form(Protocol):
    """What a layer asks of the form."""

    state: dict[str, str]
    """Carried state: each input's name to its output's."""

    def positions(self) -> ir.Value:
        """Absolute positions of the chunk's frames, int64 [frames]."""
        ...

    def keys_start(self) -> ir.Value:
        """Absolute position of the first of the keys that `extended` gives, int64 [1]; negative where it is padding."""
        ...

    def extended(self, name: str, value: ir.Value) -> ir.Value:
        """Keys or values [batch, heads, frames, head_dim] with those of past frames before them."""
        ...

    def context(self, name: str, value: ir.Value, channels: int, past: int) -> ir.Value:
        """Columns [batch, channels, columns] with `past` earlier ones before them."""
        ...

    def upsampled(self, value: ir.Value, name: str, factor: int) -> ir.Value:
        """Apply the transposed convolution `name` of kernel and stride `factor` to [batch, hidden, columns]."""
        ...

    def overlapped(self, state: str, value: ir.Value, name: str, block: int) -> ir.Value:
        """Apply the transposed convolution `name` of stride s and kernel 2 s, less s samples on each side."""
        ...


class OneShot:
    """The form without state.

    Parameters
    ----------
    graph : Graph
        Where the nodes go.
    codes : onnx_ir.Value
        The input of codes [batch, quantizers, frames].
    """

    def __init__(self, graph: Graph, codes: ir.Value) -> None:
        self.state: dict[str, str] = {}
        self._graph = graph
        frames = graph.op("Squeeze", graph.op("Shape", codes, start=2, end=3))
        zero, one = (graph.constant(np.array(number, np.int64)) for number in (0, 1))
        self._positions = graph.op("Range", zero, frames, one)

    def positions(self) -> ir.Value:
        return self._positions

    def keys_start(self) -> ir.Value:
        return self._graph.whole(0)

    def extended(self, name: str, value: ir.Value) -> ir.Value:
        return value

    def context(self, name: str, value: ir.Value, channels: int, past: int) -> ir.Value:
        return self._graph.op("Pad", value, self._graph.whole(0, 0, past, 0, 0, 0), mode="constant")

    def upsampled(self, value: ir.Value, name: str, factor: int) -> ir.Value:
        hidden = self._graph.config.hidden_size
        return self._transposed(value, name, (hidden, hidden, factor), factor)

    def overlapped(self, state: str, value: ir.Value, name: str, block: int) -> ir.Value:
        graph, (wide, narrow, rate) = self._graph, _block(self._graph.config, block)
        whole = self._transposed(value, name, (wide, narrow, 2 * rate), rate)
        return graph.op("Slice", whole, graph.whole(rate), graph.whole(-rate), graph.whole(2))

    def _transposed(self, value: ir.Value, name: str, shape: tuple[int, int, int], stride: int) -> ir.Value:
        weight = self._graph.tensor(f"{name}.weight", shape)
        bias = self._graph.tensor(f"{name}.bias", (shape[1],))
        return self._graph.op("ConvTranspose", value, weight, bias, kernel_shape=[shape[2]], strides=[stride])


class Streaming:
    """The form with carried state, of static shape from the first chunk on; a fresh stream is zeros.

    Parameters
    ----------
    graph : Graph
        Where the nodes go.
    codes : onnx_ir.Value
        The input of codes [batch, quantizers, frames].
    batch : int or str
        Size or name of the states' first dimension.

    Notes
    -----
    A transposed convolution of stride s and kernel 2 s, trimmed by s on each side, gives block q of s samples as
    W[:s] x[q + 1] + W[s:] x[q]: a convolution of two taps over s times the channels, then a shuffle of those into
    time. Its state is one column, which does not count before the first chunk.
    """

    def __init__(self, graph: Graph, codes: ir.Value, batch: int | str) -> None:
        self.state: dict[str, str] = {}
        self._graph = graph
        self._batch = batch
        past = graph.input("past.position", ir.DataType.INT64, [1])
        frames = graph.op("Shape", codes, start=2, end=3)
        present = graph.op("Add", past, frames)
        zero, one = (graph.constant(np.array(number, np.int64)) for number in (0, 1))
        self._positions = graph.op("Add", past, graph.op("Range", zero, graph.op("Squeeze", frames), one))
        self._keys_start = graph.op("Sub", past, graph.whole(graph.config.sliding_window - 1))
        self._is_first = graph.op("Cast", graph.op("Equal", past, graph.whole(0)), to=ir.DataType.INT64)
        self._carry("position", present, [1], ir.DataType.INT64)

    def positions(self) -> ir.Value:
        return self._positions

    def keys_start(self) -> ir.Value:
        return self._keys_start

    def extended(self, name: str, value: ir.Value) -> ir.Value:
        config = self._graph.config
        past = config.sliding_window - 1
        if past == 0:
            return value
        return self._joined(name, value, [self._batch, config.num_key_value_heads, past, config.head_dim], axis=2)

    def context(self, name: str, value: ir.Value, channels: int, past: int) -> ir.Value:
        return self._joined(name, value, [self._batch, channels, past], axis=2)

    def upsampled(self, value: ir.Value, name: str, factor: int) -> ir.Value:
        hidden = self._graph.config.hidden_size
        weight = self._graph.tensor(f"{name}.weight", (hidden, hidden, factor), to=lambda w: _phases(w, 0, factor))
        return self._shuffled(value, weight, name, hidden, factor)

    def overlapped(self, state: str, value: ir.Value, name: str, block: int) -> ir.Value:
        graph, (wide, narrow, rate) = self._graph, _block(self._graph.config, block)
        shape: list[int | str] = [self._batch, wide, 1]
        past = graph.input(f"past.{state}", graph.dtype, shape)
        self._carry(state, graph.cut(value, -1, 2), shape)
        joined = graph.op("Concat", graph.cut(past, self._is_first, 2), value, axis=2)

        def taps(weight: np.ndarray) -> np.ndarray:
            return np.concatenate([_phases(weight, rate, rate), _phases(weight, 0, rate)], axis=2)

        weight = graph.tensor(f"{name}.weight", (wide, narrow, 2 * rate), to=taps)
        return self._shuffled(joined, weight, name, narrow, rate)

    def _shuffled(self, value: ir.Value, weight: ir.Value, name: str, channels: int, rate: int) -> ir.Value:
        """Convolve to `rate` x `channels`, phases slowest, and lay the phases out in time."""
        graph = self._graph
        bias = graph.tensor(f"{name}.bias", (channels,), to=lambda b: np.tile(b, rate))
        phases = graph.op("Conv", value, weight, bias)
        apart = graph.op("Reshape", phases, graph.whole(0, rate, channels, -1))
        inner = graph.op("Transpose", apart, perm=[0, 2, 3, 1])
        return graph.op("Reshape", inner, graph.whole(0, channels, -1))

    def _joined(self, name: str, value: ir.Value, shape: list[int | str], axis: int) -> ir.Value:
        past = self._graph.input(f"past.{name}", self._graph.dtype, shape)
        joined = self._graph.op("Concat", past, value, axis=axis)
        length = shape[axis]
        assert isinstance(length, int)
        self._carry(name, self._graph.cut(joined, -length, axis), shape)
        return joined

    def _carry(
        self, name: str, present: ir.Value, shape: list[int | str] | list[int], dtype: ir.DataType | None = None
    ) -> None:
        self._graph.output(f"present.{name}", present, shape, dtype)
        self.state[f"past.{name}"] = f"present.{name}"


def _phases(weight: np.ndarray, start: int, rate: int) -> np.ndarray:
    """One tap of a transposed convolution's weight [in, out, kernel], as a convolution's [rate * out, in, 1]."""
    taps: np.ndarray = weight[:, :, start : start + rate].transpose(2, 1, 0)
    return taps.reshape(-1, len(weight), 1)


def _block(config: Config, block: int) -> tuple[int, int, int]:
    return config.block_channels(block), config.block_channels(block + 1), config.upsample_rates[block]
