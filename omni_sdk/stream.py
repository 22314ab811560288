"""Streams: a model step by step, its state carried from one step's outputs to the next one's inputs without a copy."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from omni_sdk import feeds as feeding
from omni_sdk import ranges
from omni_sdk._runs import BoundRun
from omni_sdk.binding import RunFailed
from omni_sdk.errors import InputError, StreamError
from omni_sdk.learned import ShapeSet
from omni_sdk.runner import Runner
from omni_sdk.specs import TensorSpec
from omni_sdk.states import first_shapes

# Step shapes that a stream keeps bound; at others each step is bound anew.
BOUND_SHAPES = 2

Results = dict[str, Any]


class Stream(ABC):
    """A model step by step. Made by `Model.stream`; a context manager; used by one thread at a time.

    Streams of one model are independent of each other, on as many threads as there are streams.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._closed = False
        self._at_close: list[Callable[[], object]] = []

    def on_close(self, callback: Callable[[], object]) -> None:
        """Have something called when the stream is closed, at every close."""
        self._at_close.append(callback)

    def step(self, feeds: Mapping[str, Any] | None = None, /, **named: Any) -> Results:
        """One step: the new inputs in, the outputs they give out.

        Parameters
        ----------
        feeds : mapping of str to ndarray, optional
            The inputs that are new at each step, by name; keywords do as well.

        Returns
        -------
        dict of str to ndarray
            Outputs by name, those that carry state left out.

        Raises
        ------
        InputError
            When a feed does not fit. The stream is unharmed: the step can be taken again.
        ModelError
            When ONNX Runtime fails. Likewise.
        StreamError
            When a state changed its shape against the model's word, the stream is closed, or another thread is in it.
        """
        feeds = named if feeds is None else feeding.merged(feeds, named)
        if not self._lock.acquire(blocking=False):
            raise StreamError(
                "Expected one thread at a time, got a step while another one runs - at Stream.step",
                hint="open one stream for each thread: they share the model",
            )
        try:
            if self._closed:
                raise StreamError("Expected an open stream, got a closed one - at Stream.step")
            return self._step(feeds)
        finally:
            self._lock.release()

    def run(self, chunks: Iterable[Mapping[str, Any]]) -> Iterator[Results]:
        """Steps through `chunks`, each the feeds of a step, and what is left at the end, if anything."""
        for chunk in chunks:
            yield self.step(chunk)
        last = self.flush()
        if last is not None:
            yield last

    def flush(self) -> Results | None:
        """What was held back until more would come; None where nothing ever is."""
        return None

    @abstractmethod
    def reset(self) -> None:
        """Back to the beginning, as if just opened."""

    @abstractmethod
    def snapshot(self) -> Mapping[str, np.ndarray]:
        """A copy of the state, for `restore` here or on another stream of the same model."""

    @abstractmethod
    def restore(self, snapshot: Mapping[str, np.ndarray]) -> None:
        """Goes on from a snapshot."""

    @abstractmethod
    def _step(self, feeds: dict[str, Any]) -> Results: ...

    def close(self) -> None:
        """Gives the state's memory back. Closing twice is fine."""
        self._closed = True
        for callback in self._at_close:
            callback()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()


class StateStream(Stream):
    """A stream whose state goes from outputs to inputs.

    Each state has two buffers. A step reads one and writes the other, then they swap roles. Two bound runs, one for
    either role, see to it that nothing is bound anew, and nothing is ever copied. A step that fails has only written
    what the next one overwrites. The first step is a run like any other, for its outputs may be shorter than those of
    later steps; what it or ORT allocated becomes the first of the buffers.

    Parameters
    ----------
    runner : Runner
    pairs : mapping of str to str
        State input -> state output.
    constants : mapping of str to ndarray
        Inputs that are the same at every step.
    initial : mapping of str to ndarray
        First states; those left out are zeros.
    record : callable
        Told the seconds of each step.
    """

    def __init__(
        self,
        runner: Runner,
        pairs: Mapping[str, str],
        constants: Mapping[str, Any],
        initial: Mapping[str, np.ndarray],
        record: Callable[[float], None],
    ) -> None:
        super().__init__()
        self._runner = runner
        self._pairs = dict(pairs)
        self._record = record
        self._specs = {spec.name: spec for spec in runner.inputs}
        self._fresh = [spec for spec in runner.inputs if spec.name not in self._pairs and spec.name not in constants]
        self._state_specs = [spec for spec in runner.inputs if spec.name in self._pairs]
        self._fresh_count = len(self._fresh)
        self._ranges = [(spec.name, spec.allowed) for spec in self._fresh if spec.allowed is not None]
        self._constants = self._checked(constants, [spec for spec in runner.inputs if spec.name in constants])
        self._initial = self._checked(initial, [spec for spec in self._state_specs if spec.name in initial])
        self._bound: OrderedDict[ShapeSet, tuple[BoundRun, BoundRun]] = OrderedDict()
        self._now: _States | None = None
        self._spare: _States | None = None
        self._odd = 0

    def reset(self) -> None:
        """Back to the beginning: the states are the initial ones again."""
        self._now = self._spare = None

    def snapshot(self) -> dict[str, np.ndarray]:
        """A copy of every state by input name; empty before the first step."""
        return {name: self._now.feeds[name].copy() for name in self._pairs} if self._now else {}

    def restore(self, snapshot: Mapping[str, np.ndarray]) -> None:
        """Goes on from a snapshot. `StreamError` when it is not one of this model's streams."""
        if snapshot and snapshot.keys() != self._pairs.keys():
            raise StreamError(f"Expected the states {', '.join(self._pairs)}, got {', '.join(snapshot)} - at restore")
        states = self._checked(snapshot, self._state_specs) if snapshot else {}
        self.reset()
        if states:
            self._now = self._states({name: self._copied(array) for name, array in states.items()})

    def close(self) -> None:
        super().close()
        self._bound.clear()
        self.reset()

    def _step(self, feeds: dict[str, Any]) -> Results:
        self._runner.opened()
        for name, allowed in self._ranges:
            array = feeds.get(name)
            if isinstance(array, np.ndarray) and array.dtype.kind in "iu":
                ranges.check(array, name, allowed)
        started = time.perf_counter()
        now = self._now
        results = None
        if now is not None and len(feeds) == self._fresh_count:
            results = self._swap(feeds, now)
        if results is None:
            results = self._careful_step(feeds, now)
        self._record(time.perf_counter() - started)
        return results

    def _careful_step(self, feeds: dict[str, Any], now: _States | None) -> Results:
        """A first step, or one at shapes not bound yet, or of feeds that do not fit as they are."""
        if now is None:
            now = self._states(self._first_states(feeds), ours=not self._initial)
        checked = self._checked(feeds, self._fresh)
        everything = {**checked, **now.feeds}
        if self._now is None and not self._initial:
            return self._hand_on(self._runner.run(everything, None, None), now)
        results = self._swap(checked, now)
        if results is None and self._bind(everything):
            results = self._swap(checked, now)
        return self._hand_on(self._runner.later_step(everything), now) if results is None else results

    def _swap(self, feeds: dict[str, Any], now: _States) -> Results | None:
        """A step between the two sets of buffers; what was read becomes the room to write to. None if none is bound."""
        if not self._bound:
            return None
        spare = self._spare
        if spare is None:
            spare = self._states({n: self._runner.pool.array(a.dtype, a.shape) for n, a in now.arrays(self._pairs)})
            self._spare = spare
        for key in reversed(self._bound):
            run = self._bound[key][self._odd]
            try:
                results = run.run(feeds, held=now.feeds, apart=spare.targets)
            except RunFailed:
                del self._bound[key]
                return self._hand_on(self._runner.repeated_later_step(run, {**feeds, **now.feeds}), now)
            if results is not None:
                break
        else:
            return None
        if len(self._bound) > 1:
            self._bound.move_to_end(key)
        self._now, self._spare = spare, now if now.ours else None
        self._odd ^= 1
        return results

    def _hand_on(self, results: Results, now: _States) -> Results:
        """After a run whose outputs ORT allocated: those that carry state are the next step's inputs as they are."""
        states = {name: results.pop(source) for name, source in self._pairs.items()}
        for name, state in states.items():
            spec = self._specs[name]
            if not spec.fits(state.shape):
                raise StreamError(
                    f"Expected a state like {spec}, got {state.shape} from {self._pairs[name]!r} - at Stream.step",
                    hint="the stream still has the state before this step; these two are perhaps no pair",
                )
        after = self._states(states, ours=False)
        self._now, self._spare = after, now if now.ours and after.alike(now) else None
        return results

    def _states(self, arrays: dict[str, np.ndarray], *, ours: bool = True) -> _States:
        targets = {source: arrays[name] for name, source in self._pairs.items()}
        return _States({**self._constants, **arrays}, targets, ours)

    def _bind(self, feeds: dict[str, Any]) -> bool:
        """Binds runs for these shapes, one for each direction. False while the output shapes are not known.

        Only states that keep their shape can swap buffers: others are handed on as ORT allocated them.
        """
        there, back = self._runner.bound_later_step(feeds), self._runner.bound_later_step(feeds)
        if there is None or back is None:
            return False
        shapes = dict(zip(there.outputs.names, there.outputs.shapes, strict=True))
        if any(shapes[source] != feeds[name].shape for name, source in self._pairs.items()):
            return False
        self._bound[there.inputs.shapes] = there, back
        if len(self._bound) > BOUND_SHAPES:
            self._bound.popitem(last=False)
        return True

    def _first_states(self, feeds: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """What the user gave to begin with, else zeros."""
        shapes = first_shapes(self._pairs, self._runner.inputs, self._runner.outputs, feeds)
        states = dict(self._initial)
        for spec in self._state_specs:
            if spec.name not in states:
                states[spec.name] = self._runner.pool.array(spec.dtype, shapes[spec.name])
                states[spec.name].fill(0)
        return states

    def _checked(self, feeds: Mapping[str, Any], specs: list[TensorSpec]) -> dict[str, Any]:
        ready, copied = feeding.checked(feeds, specs, self._runner.pool)
        self._runner.count_copied(copied, 0)
        return ready

    def _copied(self, array: np.ndarray) -> np.ndarray:
        mine = self._runner.pool.array(array.dtype, array.shape)
        np.copyto(mine, array)
        return mine


class _States:
    """One set of state buffers: as feeds, constants among them, and as the places that outputs go to.

    Only those that are ours, leased, are ever written to: others are the user's, or ORT's own memory.
    """

    __slots__ = ("feeds", "ours", "targets")

    def __init__(self, feeds: dict[str, Any], targets: dict[str, np.ndarray], ours: bool) -> None:
        self.feeds = feeds
        self.targets = targets
        self.ours = ours

    def alike(self, other: _States) -> bool:
        """Whether every buffer has the shape of the other set's."""
        return all(array.shape == other.targets[name].shape for name, array in self.targets.items())

    def arrays(self, names: Iterable[str]) -> Iterator[tuple[str, np.ndarray]]:
        """The state arrays by input name."""
        return ((name, self.feeds[name]) for name in names)


def check_constants(constants: Mapping[str, Any], inputs: tuple[TensorSpec, ...], pairs: Mapping[str, str]) -> None:
    """`InputError` when a constant is no input of the model, or a state."""
    for name in constants:
        if all(spec.name != name for spec in inputs):
            names = ", ".join(spec.name for spec in inputs)
            raise InputError(f"Expected an input ({names}), got {name!r} - at stream")
        if name in pairs:
            raise InputError(f"Expected a constant input, got the state {name!r} - at stream", hint="use initial=")
