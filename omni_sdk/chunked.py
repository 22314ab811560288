"""Long inputs in pieces: `Settings(max_chunk=...)` behind `Model.infer`.

A model with carried state gives, chunk by chunk, what it would give at once (that is what makes it a streaming form),
while its buffers grow with the chunk and not with the input. A model without state can be given its context again with
every chunk, where `Settings.chunk_context` says how much it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from omni_sdk import feeds as feeding
from omni_sdk import ranges
from omni_sdk.binding import Interrupt
from omni_sdk.bundle import Audio
from omni_sdk.errors import InputError, StreamError
from omni_sdk.learned import ShapeSet
from omni_sdk.specs import TensorSpec
from omni_sdk.states import check_pairs, match_pairs
from omni_sdk.stream import Stream
from omni_sdk.window import Window


class Chunked:
    """How inputs of one model are cut into chunks, and its outputs joined.

    Parameters
    ----------
    inputs, outputs : sequence of TensorSpec
        Of the model.
    pairs : mapping of str to str or None
        Its state, input -> output; None to match by name.
    audio : Audio or None
        Names the input with frames and the output with samples, both along their last axis. Without it the frames lie
        along the last symbolic axis of the one input that has one, and so do the samples of each output.
    max_chunk : int
        Frames at a time.
    context : int or (int, int) or None
        Frames before, or before and after each chunk, for a model without state.

    Raises
    ------
    StreamError
        When the model carries no state and no context was given, or it is not clear what to cut.
    """

    def __init__(
        self,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        pairs: Mapping[str, str] | None,
        audio: Audio | None,
        max_chunk: int,
        context: int | tuple[int, int] | None,
    ) -> None:
        self._pairs = check_pairs(pairs, inputs, outputs) if pairs else match_pairs(inputs, outputs)
        if not self._pairs and context is None:
            raise StreamError("Expected a model with state, or chunk_context, got neither - at max_chunk")
        fresh = [spec for spec in inputs if spec.name not in self._pairs]
        given = [spec for spec in outputs if spec.name not in self._pairs.values()]
        cut = [spec.name for spec in fresh if _axis(spec) is not None] if audio is None else [audio.input]
        if len(cut) != 1 or any(_axis(spec) is None for spec in given):
            names = ", ".join(cut) or "none"
            raise StreamError(f"Expected one input and outputs of symbolic length, got {names} - at max_chunk")
        self._inputs = tuple(inputs)
        self._input = next(spec for spec in inputs if spec.name == cut[0])
        self._input_axis = -1 if audio is not None else _axis(self._input) or 0
        self._output_axes = {spec.name: _axis(spec) or 0 for spec in given}
        if audio is not None:
            self._output_axes[audio.output] = -1
        self._max_chunk = max_chunk
        self._window = None if self._pairs else self._windowed(context, audio)

    def _windowed(self, context: int | tuple[int, int] | None, audio: Audio | None) -> Window:
        left, right = context if isinstance(context, tuple) else (context or 0, 0)
        axes = set(self._output_axes.values())
        if len(axes) != 1:
            raise StreamError(f"Expected outputs that are cut along one axis, got axes {sorted(axes)} - at max_chunk")
        return Window(
            left,
            right,
            self._max_chunk,
            self._input.name,
            self._input_axis,
            axes.pop(),
            audio.hop if audio is not None else None,
        )

    @property
    def carries_state(self) -> bool:
        """Whether chunks go on from the model's own state, rather than from context that runs again."""
        return self._window is None

    def infer(
        self, feeds: Mapping[str, Any], open_stream: Callable[..., Stream], interrupt: Interrupt | None
    ) -> dict[str, Any]:
        """Run an input of any length.

        Parameters
        ----------
        feeds : mapping of str to ndarray
            Inputs by name; states that are left out begin as the stream's own do, with zeros.
        open_stream : callable
            What `Model.stream` opens, given `state`, `window`, `initial` and `constants`.
        interrupt : Interrupt or None
            Ends the run before its next chunk.

        Returns
        -------
        dict of str to ndarray
            All outputs, the last states among them.

        Raises
        ------
        InputError
            When an input is missing or unknown, or the one to cut does not fit or is empty.
        TimeoutError
            When the interrupt fired.
        """
        rest = dict(feeds)
        feeding.check_names(
            feeds, [spec for spec in self._inputs if spec.name in feeds or spec.name not in self._pairs]
        )
        whole = self._checked(rest.pop(self._input.name))
        initial = {name: rest.pop(name) for name in self._pairs if name in rest}
        pieces: dict[str, list[np.ndarray]] = {name: [] for name in self._output_axes}
        with open_stream(state=self._pairs or None, window=self._window, initial=initial, constants=rest) as stream:
            for start in range(0, whole.shape[self._input_axis], self._max_chunk):
                if interrupt is not None and interrupt.fired:
                    raise TimeoutError(f"Expected a result within {interrupt.timeout} s, got none - at infer")
                for name, piece in stream.step({self._input.name: self._chunk(whole, start)}).items():
                    pieces[name].append(piece)
            for name, piece in (stream.flush() or {}).items():
                pieces[name].append(piece)
            states = stream.snapshot()
        joined = {name: self._joined(name, parts) for name, parts in pieces.items()}
        return {**joined, **{source: states[name] for name, source in self._pairs.items()}}

    def pieces(self, feeds: Mapping[str, np.ndarray], ran: Iterable[ShapeSet]) -> set[ShapeSet]:
        """Those of the shapes that `ran` which an input like these feeds is run at, whatever the states."""
        whole = feeds[self._input.name].shape[self._input_axis]
        sizes = {min(whole, self._max_chunk), whole % self._max_chunk}
        wanted = []
        for size in sizes:
            cut = {name: array.shape for name, array in feeds.items() if name not in self._pairs}
            shape = list(cut[self._input.name])
            shape[self._input_axis] = size
            wanted.append({**cut, self._input.name: tuple(shape)})
        fresh = [(index, spec.name) for index, spec in enumerate(self._inputs) if spec.name not in self._pairs]
        return {shapes for shapes in ran if {name: shapes[index] for index, name in fresh} in wanted}

    def _joined(self, name: str, parts: list[np.ndarray]) -> np.ndarray:
        """Pieces in a row; a step that only waited for frames to come gave none."""
        return np.concatenate([part for part in parts if part.size] or parts, axis=self._output_axes[name])

    def _checked(self, value: Any) -> np.ndarray:
        whole = feeding.as_array(value, self._input)
        if not self._input.fits(whole.shape) or whole.ndim == 0 or whole.shape[self._input_axis] == 0:
            raise InputError(f"Expected {self._input} with one frame or more, got shape {whole.shape} - at infer")
        if self._input.allowed is not None:  # before the first chunk, and with the position in the whole
            ranges.check(whole, self._input.name, self._input.allowed)
        return whole

    def _chunk(self, whole: np.ndarray, start: int) -> np.ndarray:
        cut = [slice(None)] * whole.ndim
        cut[self._input_axis] = slice(start, start + self._max_chunk)
        return np.ascontiguousarray(whole[tuple(cut)])


def _axis(spec: TensorSpec) -> int | None:
    """The last axis of no fixed length, the first of several (the batch) left out; None where there is none."""
    free = [axis for axis, size in enumerate(spec.shape) if not isinstance(size, int)]
    if len(spec.shape) > 1:
        free = [axis for axis in free if axis > 0]
    return free[-1] if free else None
