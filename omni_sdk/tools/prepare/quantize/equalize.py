"""Channels of like range, since a quantized tensor has one scale: loud channels are turned down, quiet ones up.

    Conv(Snake(Conv(x)))   ->   the same graph; channel c between the convolutions is divided by t[c]

Snake scales with its parameters, snake(x; a, b) / t = snake(x / t; a t, b / t), so the factors go into the rows of the
weights before, the parameters, and the columns of the weights after, and no node is added. With t the square root of a
channel's range, activations and weights share the burden: SmoothQuant's balance (Xiao et al., 2023) by means of
cross-layer equalization (Nagel et al., 2019). In float the results are the same but for rounding.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from omni_sdk.tools.prepare.calibration import calibrating_place, sample_runs
from omni_sdk.tools.prepare.feeds import Feeds
from omni_sdk.tools.prepare.quantize.ties import Tie, ties_of
from omni_sdk.tools.prepare.rules.base import constant
from omni_sdk.tools.prepare.sessions import open_session, run
from omni_sdk.tools.saving import save_graph, save_model

FAINTEST = 2.0**-20
"""Channels whose range is a smaller fraction of the loudest one's count as silent and keep their scale."""

AXES_ARE_AN_INPUT = 18
"""Opset from which on `ReduceMax` takes its axes as an input."""

Scaling = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def equalize(graph: Path, samples: Sequence[Feeds], state: Mapping[str, str], out: Path) -> int:
    """Write the model with its channels equalized; it computes what it did.

    Parameters
    ----------
    graph : pathlib.Path
        The FP32 model.
    samples : sequence of Feeds
        By which ranges are measured.
    state : mapping of str to str
        Carried state, input to output: where both belong to one tie, the state is carried in the new scale.
    out : pathlib.Path
        The `.onnx` file to write, beside `graph`.

    Returns
    -------
    int
        How many ties were equalized; where it is 0, nothing is written.
    """
    model = ir.load(graph)
    ties = ties_of(model, state)
    if not ties:
        return 0
    ranges = _ranges(graph, [str(value.name) for tie in ties for value in tie.activations], samples, out)
    edits = _Edits(model.graph)
    for tie in ties:
        edits.add(tie, factors_of(np.max([ranges[str(value.name)] for value in tie.activations], axis=0)))
    edits.write()
    save_model(out, model)
    return len(ties)


def factors_of(ranges: NDArray[np.float32]) -> NDArray[np.float32]:
    """The square root of each channel's range, relative to the geometric mean of these; 1 for silent channels."""
    heard = (ranges > FAINTEST * ranges.max()) & (ranges > 0)
    factors = np.ones(len(ranges), np.float32)
    if heard.any():
        powers = np.log2(ranges[heard].astype(np.float64)) / 2
        factors[heard] = np.exp2(powers - powers.mean())
    return factors


def _ranges(
    graph: Path, names: Sequence[str], samples: Sequence[Feeds], beside: Path
) -> dict[str, NDArray[np.float32]]:
    """Largest magnitude of each channel of the named values, over all samples."""
    model = ir.load(graph)
    values = {str(value.name): value for node in model.graph for value in node.outputs}
    for name in names:
        _observe(model, values[name])
    augmented = beside.with_name("observed.onnx")
    save_graph(augmented, model)
    session, found = open_session(augmented, optimize=False), dict[str, NDArray[np.float32]]()
    for index, sample in enumerate(samples):
        with sample_runs(calibrating_place(index)):
            outputs = run(session, sample)
        for name in names:
            largest = outputs[_observed(name)]
            found[name] = np.maximum(found.get(name, largest), largest)
    return found


def _observed(name: str) -> str:
    return f"{name}.largest"


def _observe(model: ir.Model, value: ir.Value) -> None:
    """Add an output with the largest magnitude of each channel."""
    magnitude = ir.Node("", "Abs", [value])
    inputs, attributes = list(magnitude.outputs), [ir.AttrInt64("keepdims", 0)]
    if model.opset_imports[""] >= AXES_ARE_AN_INPUT:
        axes = ir.Value(name=f"{value.name}.axes", const_value=ir.tensor(np.array([0, 2])))
        model.graph.register_initializer(axes)
        inputs.append(axes)
    else:
        attributes.append(ir.AttrInt64s("axes", [0, 2]))
    largest = ir.Node("", "ReduceMax", inputs, attributes)
    largest.outputs[0].name, largest.outputs[0].type = _observed(str(value.name)), ir.TensorType(ir.DataType.FLOAT)
    model.graph.extend([magnitude, largest])
    model.graph.outputs.append(largest.outputs[0])


@dataclass(slots=True)
class _Edits:
    """Factors gathered for each constant input of each node, so that every weight is written once."""

    graph: ir.Graph
    scalings: dict[tuple[ir.Node, int], list[Scaling]] = field(default_factory=lambda: defaultdict(list))

    def add(self, tie: Tie, factors: NDArray[np.float32]) -> None:
        for node, index, scaling in _scalings(tie, factors):
            self.scalings[node, index].append(scaling)

    def write(self) -> None:
        for (node, index), scalings in self.scalings.items():
            old = node.inputs[index]
            if old is None or old.const_value is None:
                continue
            value = ir.Value(name=f"{old.name}.{node.name}.equalized", shape=old.shape, type=old.type)
            value.const_value = _scaled(old, scalings, str(value.name))
            self.graph.register_initializer(value)
            node.replace_input_with(index, value)


def _scaled(old: ir.Value, scalings: Sequence[Scaling], name: str) -> ir.LazyTensor:
    """The scaled array, computed only when it is written: all of them at once would be the model in memory."""
    assert old.const_value is not None, "the caller saw it"

    def array() -> ir.TensorProtocol:
        values = constant(old)
        assert values is not None, "the parts of a tie are constants"
        for scaling in scalings:
            values = scaling(values)
        return ir.Tensor(np.ascontiguousarray(values), name=name)

    shape = ir.Shape(old.const_value.shape.numpy())
    return ir.LazyTensor(array, dtype=old.const_value.dtype, shape=shape, name=name)


def _scalings(tie: Tie, factors: NDArray[np.float32]) -> Iterator[tuple[ir.Node, int, Scaling]]:
    """What each node of a tie does to its constants: rows and biases fall, columns and Snake's frequencies rise."""
    for node, repeats in tie.makers:
        rows = np.tile(1 / factors, repeats)
        yield node, 1, partial(np.multiply, rows[:, None, None])
        if len(node.inputs) > 2:
            yield node, 2, partial(np.multiply, rows)
    for node, alpha in tie.snakes:
        yield node, alpha, partial(np.multiply, factors)
        yield node, alpha + 1, partial(np.multiply, 1 / factors)
    for node in tie.users:
        yield node, 1, partial(np.multiply, factors[None, :, None])
