"""Streams for models without state: overlapping chunks, each with the context that its frames need."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from omni_sdk import feeds as feeding
from omni_sdk._buffers import BufferPool
from omni_sdk.errors import InputError, StreamError
from omni_sdk.specs import TensorSpec
from omni_sdk.stream import Results, Stream, check_constants


@dataclass(frozen=True, slots=True)
class Window:
    """How a long input is cut.

    The output equals the one-shot output where `left` and `right` cover what a frame of output looks at, and where
    the model gives `ratio` samples more for each frame more; `WindowStream.check` says whether they do.

    Attributes
    ----------
    left : int
        Frames of context before those that are new.
    right : int
        Frames after them that must be known; the output lags by as many.
    hop : int, optional
        New frames a run; None runs on whatever each step brings.
    input : str, optional
        The input that is cut; default the only one that is not constant.
    input_axis, output_axis : int
        Where frames and samples lie.
    ratio : int, optional
        Samples of output for a frame of input; default measured at the first step, by one more run.
    """

    left: int
    right: int = 0
    hop: int | None = None
    input: str | None = None
    input_axis: int = -1
    output_axis: int = -1
    ratio: int | None = None

    def __post_init__(self) -> None:
        for name, value, least in (("left", self.left, 0), ("right", self.right, 0), ("hop", self.hop, 1)):
            if value is not None and (not isinstance(value, int) or value < least):
                raise StreamError(f"Expected {least} or more frames, got {value!r} - at Window.{name}")
        if self.ratio is not None and (not isinstance(self.ratio, int) or self.ratio < 1):
            raise StreamError(f"Expected 1 or more samples a frame, got {self.ratio!r} - at Window.ratio")
        axes: dict[str, object] = {"input_axis": self.input_axis, "output_axis": self.output_axis}
        for name, axis in axes.items():
            if not isinstance(axis, (int, np.integer)):
                raise StreamError(f"Expected the number of an axis, got {axis!r} - at Window.{name}")


@dataclass(frozen=True, slots=True)
class WindowCheck:
    """A windowed run held against the one-shot run of the same input, for the output that differs most.

    Attributes
    ----------
    equal : bool
        Same length, and nothing further apart than `tolerance` of the largest sample.
    max_abs_error : float
        Over the samples both have.
    expected_samples, samples : int
        Length of the one-shot and of the windowed output.
    """

    equal: bool
    max_abs_error: float
    expected_samples: int
    samples: int

    def __str__(self) -> str:
        verdict = "equals the one-shot output" if self.equal else "is NOT the one-shot output"
        return (
            f"windowed output {verdict}: {self.samples} of {self.expected_samples} samples,"
            f" at most {self.max_abs_error:.3g} apart"
        )


class WindowStream(Stream):
    """A stream over a model that knows no state. See `Window`.

    Parameters
    ----------
    infer : callable
        Feeds in, results out.
    inputs, outputs : sequence of TensorSpec
    window : Window
    constants : mapping of str to ndarray
    """

    def __init__(
        self,
        infer: Callable[[dict[str, Any]], Results],
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        window: Window,
        constants: Mapping[str, Any],
    ) -> None:
        super().__init__()
        check_constants(constants, inputs, {})
        fresh = [spec for spec in inputs if spec.name not in constants]
        named = [spec for spec in fresh if spec.name == window.input] if window.input else fresh
        if len(named) != 1 or len(fresh) != 1:
            names = ", ".join(spec.name for spec in fresh)
            raise StreamError(
                f"Expected one input to cut, got {names or 'none'} - at Window.input",
                hint="give the others as constants: model.stream(window=..., name=array)",
            )
        self.window = window
        self._infer = infer
        self._spec = named[0]
        self._outputs = [spec.name for spec in outputs]
        self._nothing = {spec.name: _nothing(spec, window.output_axis) for spec in outputs}
        self._constants = _kept(constants, [spec for spec in inputs if spec.name in constants])
        self._ratios: dict[str, int] = {}
        self.reset()

    def reset(self) -> None:
        self._frames: np.ndarray | None = None  # context, then what is new
        self._seen = 0  # frames ever taken in
        self._done = 0  # frames whose output was given
        self._waiting = 0  # frames at the end of _frames that no run has had as new ones

    def snapshot(self) -> dict[str, np.ndarray]:
        """The context and the counters; empty before the first step."""
        if self._frames is None:
            return {}
        return {"frames": self._frames.copy(), "counters": np.array([self._seen, self._done, self._waiting])}

    def _restore(self, snapshot: Mapping[str, np.ndarray]) -> None:
        if snapshot.keys() not in (set(), {"frames", "counters"}):
            given = ", ".join(map(str, snapshot))
            raise StreamError(f"Expected a window stream's snapshot, got {given} - at restore")
        frames, counters = None, (0, 0, 0)
        if snapshot:
            frames = feeding.as_array(snapshot["frames"], self._spec).copy()
            counters = self._counters(snapshot["counters"], frames)
        self.reset()
        self._frames, (self._seen, self._done, self._waiting) = frames, counters

    def _counters(self, counters: Any, frames: np.ndarray) -> tuple[int, int, int]:
        """Those of a snapshot: frames seen, done and waiting, held against the frames that it kept."""
        array, axis = np.asarray(counters), self.window.input_axis
        if array.shape == (3,) and array.dtype.kind in "iu" and self._spec.fits(frames.shape) and frames.ndim:
            seen, done, waiting = map(int, array)
            needed = seen - max(0, done - self.window.left)
            if 0 <= done <= seen and 0 <= waiting <= seen and needed <= frames.shape[axis] <= seen:
                return seen, done, waiting
        raise StreamError(
            f"Expected frames like {self._spec} and what was counted of them, got {frames.shape} and {counters}"
            " - at restore"
        )

    def flush(self) -> Results | None:
        """Runs what is left: frames short of a hop, and those that waited for `right` more."""
        with self._lock:
            self._check_open("flush")
            if self._done == self._seen or self._frames is None:
                return None
            results = self._take(self._seen)
            self._waiting = 0
            return results

    def check(self, feeds: Mapping[str, Any], *, frames: int | None = None, tolerance: float = 1e-5) -> WindowCheck:
        """Runs `feeds` in one shot and through a stream like this one, and compares.

        Parameters
        ----------
        feeds : mapping of str to ndarray
            A long input, constants left out.
        frames : int, optional
            Frames a step; default the window's hop, else its left context.
        tolerance : float
            Relative to the largest sample.

        Raises
        ------
        InputError
            When the input is missing or cannot be cut.
        """
        feeding.check_names(feeds, [self._spec])
        whole = self._checked(feeds[self._spec.name])
        chunk = frames or self.window.hop or max(1, self.window.left)
        length = whole.shape[self.window.input_axis]
        kept, self._frames, counters = self._frames, None, (self._seen, self._done, self._waiting)
        try:
            self.reset()
            cuts = [self._cut(whole, start, min(start + chunk, length)) for start in range(0, length, chunk)]
            parts = list(self.run({self._spec.name: cut} for cut in cuts))
        finally:
            self._frames, (self._seen, self._done, self._waiting) = kept, counters
        expected = self._infer({self._spec.name: whole, **self._constants})
        checks = [
            _compare(
                expected[name], self._joined([part[name] for part in parts], name), self.window.output_axis, tolerance
            )
            for name in self._outputs
        ]
        return max(checks, key=lambda check: (not check.equal, check.max_abs_error))

    def _step(self, feeds: dict[str, Any]) -> Results:
        if feeds.keys() != {self._spec.name}:
            raise StreamError(f"Expected the input {self._spec.name!r}, got {', '.join(feeds)} - at Stream.step")
        new, held = self._checked(feeds[self._spec.name]), self._frames
        if held is not None and held[self._at(held, 0)].shape != new[self._at(new, 0)].shape:
            at = f"input {self._spec.name!r}"
            raise InputError(f"Expected frames to follow those of shape {held.shape}, got {new.shape} - at {at}")
        axis, window = self.window.input_axis, self.window
        before = (self._frames, self._seen, self._done, self._waiting)
        frames = new if self._frames is None else np.concatenate([self._frames, new], axis=axis)
        try:
            self._frames = frames
            self._seen += new.shape[axis]
            self._waiting += new.shape[axis]
            hop = window.hop or max(1, self._waiting)
            parts = []
            while self._waiting >= hop:
                self._waiting -= hop
                ready = self._seen - self._waiting
                if ready - window.right > self._done:
                    parts.append(self._take(ready - window.right, seen=ready))
            return self._merged(parts)
        except BaseException:  # unharmed: the step can be taken again
            self._frames, self._seen, self._done, self._waiting = before
            raise

    def _checked(self, value: Any) -> np.ndarray:
        """Frames that can be cut. `InputError` when they cannot."""
        new, axis, where = feeding.as_array(value, self._spec), self.window.input_axis, f"input {self._spec.name!r}"
        feeding.check_shape(new, self._spec, where)
        if not -new.ndim <= axis < new.ndim:
            raise InputError(f"Expected frames along axis {axis}, got shape {new.shape} - at {where}")
        return new

    def _take(self, upto: int, *, seen: int | None = None) -> Results:
        """Output of the frames from `_done` to `upto`, from a run that ends at frame `seen`."""
        assert self._frames is not None
        window, seen = self.window, self._seen if seen is None else seen
        start = max(0, self._done - window.left)
        held = self._seen - self._frames.shape[window.input_axis]  # number of the first frame still held
        chunk = self._cut(self._frames, start - held, seen - held)
        results = self._infer({self._spec.name: np.ascontiguousarray(chunk), **self._constants})
        axis = window.output_axis
        for name in self._outputs:
            shape = results[name].shape
            if not -len(shape) <= axis < len(shape):
                raise StreamError(f"Expected samples along axis {axis}, got {shape} from {name!r} - at Window")
            self._nothing[name] = self._kept_of(results[name], slice(0))
        if not self._ratios:
            self._ratios = self._measured(chunk, results)
        first = self._done == 0
        cuts = {name: self._kept(results[name], name, seen - upto, upto - self._done, first) for name in self._outputs}
        self._done = upto
        self._frames = self._cut(self._frames, max(0, self._done - window.left - held), None).copy()
        return cuts

    def _kept(self, output: np.ndarray, name: str, after: int, new: int, first: bool) -> np.ndarray:
        """The samples of `new` frames that `after` more frames follow; all before them too in the first chunk."""
        ratio = self._ratios[name]
        end = output.shape[self.window.output_axis] - after * ratio
        return self._kept_of(output, slice(0 if first else max(0, end - new * ratio), max(0, end)))

    def _kept_of(self, output: np.ndarray, part: slice) -> np.ndarray:
        index: list[slice] = [slice(None)] * output.ndim
        index[self.window.output_axis] = part
        return np.ascontiguousarray(output[tuple(index)])

    def _measured(self, chunk: np.ndarray, results: Results) -> dict[str, int]:
        """Samples a frame of each output: how much longer it gets with one frame more."""
        if self.window.ratio is not None:
            return dict.fromkeys(self._outputs, self.window.ratio)
        axis = self.window.input_axis
        longer = np.concatenate([chunk, self._cut(chunk, -1, None)], axis=axis)
        more = self._infer({self._spec.name: longer, **self._constants})
        out = self.window.output_axis
        ratios = {name: more[name].shape[out] - results[name].shape[out] for name in self._outputs}
        if any(ratio < 1 for ratio in ratios.values()):
            raise StreamError(
                f"Expected outputs that grow with the input, got {ratios} samples a frame - at Window",
                hint="give Window(input_axis=..., output_axis=..., ratio=...)",
            )
        return ratios

    def _merged(self, parts: list[Results]) -> Results:
        if len(parts) == 1:
            return parts[0]
        return {name: self._joined([part[name] for part in parts], name) for name in self._outputs}

    def _joined(self, arrays: Sequence[np.ndarray], name: str) -> np.ndarray:
        arrays = [array for array in arrays if array.size]
        return np.concatenate(arrays, axis=self.window.output_axis) if arrays else self._nothing[name]

    def _cut(self, array: np.ndarray, start: int, stop: int | None) -> np.ndarray:
        return array[self._at(array, start, stop)]

    def _at(self, array: np.ndarray, start: int, stop: int | None = 0) -> tuple[slice, ...]:
        index: list[slice] = [slice(None)] * array.ndim
        index[self.window.input_axis] = slice(start, stop)
        return tuple(index)


def _kept(constants: Mapping[str, Any], specs: Sequence[TensorSpec]) -> dict[str, Any]:
    """Constants held against their specs, arrays copied: they stay, whatever becomes of the caller's."""
    values = feeding.fitting(constants, specs)
    loose = [spec for spec in specs if spec.element is None]
    values.update(feeding.bindable(values, loose, BufferPool(idle_limit=0))[0])
    return {name: value.copy() if isinstance(value, np.ndarray) else value for name, value in values.items()}


def _nothing(spec: TensorSpec, axis: int) -> np.ndarray:
    """An output without samples, as far as its specification tells; once a run gave some, of that shape."""
    shape = [size if isinstance(size, int) else 1 for size in spec.shape] or [0]
    if -len(shape) <= axis < len(shape):
        shape[axis] = 0
    return np.zeros(shape, spec.dtype)


def _compare(expected: np.ndarray, got: np.ndarray, axis: int, tolerance: float) -> WindowCheck:
    lengths = expected.shape[axis], got.shape[axis]
    common = min(lengths)
    left, right = (np.moveaxis(array, axis, -1)[..., :common].astype(np.float64) for array in (expected, got))
    error = float(np.max(np.abs(left - right), initial=0.0))
    scale = float(np.max(np.abs(left), initial=0.0)) or 1.0
    return WindowCheck(lengths[0] == lengths[1] and error <= tolerance * scale, error, *lengths)
