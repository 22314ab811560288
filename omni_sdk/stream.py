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
from omni_sdk import forking, ranges
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
        forking.watch(self)

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
                self._check_open("step")
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

    def restore(self, snapshot: Mapping[str, np.ndarray]) -> None:
        """Goes on from a snapshot. `StreamError` when it is none of a stream like this one, or this one is closed."""
        self._check_open("restore")
        if not isinstance(snapshot, Mapping):
            raise StreamError(f"Expected what snapshot() gave, got {type(snapshot).__name__} - at restore")
        self._restore(snapshot)

    @abstractmethod
    def _step(self, feeds: dict[str, Any]) -> Results: ...

    @abstractmethod
    def _restore(self, snapshot: Mapping[str, np.ndarray]) -> None: ...

    def _check_open(self, where: str) -> None:
        if self._closed:
            raise StreamError(f"Expected an open stream, got a closed one - at Stream.{where}")

    def close(self) -> None:
        """Gives the state's memory back. Closing twice is fine."""
        self._closed = True
        for callback in self._at_close:
            callback()

    def disown(self) -> None:
        """In a forked child: another thread may have held the lock at the fork. See `omni_sdk.forking`."""
        self._lock = threading.Lock()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()


class CarriedStream(Stream):
    """A stream whose state goes from a step's outputs to the next one's inputs, wherever it lies in between.

    Parameters
    ----------
    runner : Runner
    pairs : mapping of str to str
        State input -> state output.
    constants : mapping of str to ndarray
        Inputs that are the same at every step.
    record : callable
        Told the seconds of each step.
    """

    def __init__(
        self,
        runner: Runner,
        pairs: Mapping[str, str],
        constants: Mapping[str, Any],
        record: Callable[[float], None],
    ) -> None:
        super().__init__()
        self._runner = runner
        self._pairs = dict(pairs)
        self._record = record
        self._fresh = [spec for spec in runner.inputs if spec.name not in self._pairs and spec.name not in constants]
        self._steady = [spec for spec in runner.inputs if spec.name in constants]
        self._state_specs = [spec for spec in runner.inputs if spec.name in self._pairs]

    def _restore(self, snapshot: Mapping[str, np.ndarray]) -> None:
        if snapshot and snapshot.keys() != self._pairs.keys():
            given = ", ".join(map(str, snapshot))
            raise StreamError(f"Expected the states {', '.join(self._pairs)}, got {given} - at restore")
        states = self._checked(snapshot, self._state_specs) if snapshot else {}
        self.reset()
        if states:
            self._go_on_from(states)

    @abstractmethod
    def _go_on_from(self, states: Mapping[str, np.ndarray]) -> None:
        """Takes these for the states, in memory of its own."""

    def _checked(self, feeds: Mapping[str, Any], specs: list[TensorSpec]) -> dict[str, Any]:
        ready, copied = feeding.checked(feeds, specs, self._runner.pool)
        self._runner.count_copied(copied, 0)
        return ready

    def _check_state(self, spec: TensorSpec, shape: tuple[int, ...]) -> None:
        """`StreamError` where a step gave a state of another shape than its input takes."""
        if not spec.fits(shape):
            raise StreamError(
                f"Expected a state like {spec}, got {shape} from {self._pairs[spec.name]!r} - at Stream.step",
                hint="the stream still has the state before this step; these two are perhaps no pair",
            )


class StateStream(CarriedStream):
    """A stream whose state lies in buffers of ours.

    Each state has two buffers. A step reads one and writes the other, then they swap roles. A bound run has a binding
    for either role, so no state is bound anew, and none is ever copied; a small input that is new at each step may be,
    and is counted then (docs/architecture.md, Streams). A step that fails has only written what the next one
    overwrites. The first step is a run like any other, for its outputs may be shorter than those of later
    steps; what it or ORT allocated becomes the first of the buffers.

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
        super().__init__(runner, pairs, constants, record)
        self._fresh_count = len(self._fresh)
        self._ranges = [(spec.name, spec.allowed) for spec in self._fresh if spec.allowed is not None]
        self._constants = self._kept(constants, self._steady)
        self._initial = self._kept(initial, [spec for spec in self._state_specs if spec.name in initial])
        self._bound: OrderedDict[ShapeSet, BoundRun] = OrderedDict()
        self._run: BoundRun | None = None
        self._now: _States | None = None
        self._spare: _States | None = None
        runner.unbind_at_close(self)

    def reset(self) -> None:
        """Back to the beginning: the states are the initial ones again."""
        self._now = self._spare = None

    def snapshot(self) -> dict[str, np.ndarray]:
        """A copy of every state by input name; empty before the first step."""
        return {name: self._now.feeds[name].copy() for name in self._pairs} if self._now else {}

    def close(self) -> None:
        super().close()
        self.unbind()
        self.reset()

    def unbind(self) -> object:
        """Lets go of the bound runs, and returns them. A step under way ends on its own."""
        held = self._bound, self._run
        self._bound, self._run = OrderedDict(), None
        return held

    def disown(self) -> None:
        super().disown()
        forking.keep_for_ever(self.unbind())

    def _go_on_from(self, states: Mapping[str, np.ndarray]) -> None:
        self._now = self._states({name: self._copied(array) for name, array in states.items()})

    def _step(self, feeds: dict[str, Any]) -> Results:
        for name, allowed in self._ranges:
            array = feeds.get(name)
            if isinstance(array, np.ndarray) and array.dtype.kind in "iu":
                ranges.check(array, name, allowed)
        started = time.perf_counter()
        now, run, results = self._now, self._run, None
        # Quick where the last step's run fits once more: a count that fits lets no state come in by the feeds.
        if now is not None and run is not None and len(feeds) == self._fresh_count:
            results = self._turn(run, feeds, now)
        if results is None:
            results = self._careful_step(feeds)
        self._record(time.perf_counter() - started)
        return results

    def _careful_step(self, feeds: dict[str, Any]) -> Results:
        """A first step, or one at other shapes than the last one's, or of feeds that do not fit as they are."""
        is_first = self._now is None and not self._initial
        now = self._now or self._states(self._first_states(feeds), ours=not self._initial)
        checked = self._checked(feeds, self._fresh)
        everything = {**checked, **now.feeds}
        if is_first:
            return self._hand_on(self._runner.run(everything, None, None), now)
        self._run = run = self._bound_for(everything)
        if self._runner.session is None:  # closed by another thread, perhaps before this run was there to be let go
            self.unbind()
        results = self._turn(run, checked, now) if run is not None else None
        return self._hand_on(self._runner.later_step(everything), now) if results is None else results

    def _turn(self, run: BoundRun, feeds: dict[str, Any], now: _States) -> Results | None:
        """A step between the two sets of buffers; what was read becomes room to write to. None if it does not fit."""
        spare = self._spare
        if spare is None:
            spare = self._states({n: self._runner.pool.array(a.dtype, a.shape) for n, a in now.arrays(self._pairs)})
            self._spare = spare
        try:
            results = run.run(feeds, held=now.feeds, apart=spare.targets)
        except RunFailed:
            self._run = None
            self._bound.pop(run.inputs.shapes, None)
            return self._hand_on(self._runner.repeated_later_step(run, {**feeds, **now.feeds}), now)
        if results is not None:
            self._now, self._spare = spare, now if now.ours else None
        return results

    def _hand_on(self, results: Results, now: _States) -> Results:
        """After a run whose outputs ORT allocated: those that carry state are the next step's inputs as they are."""
        states = {name: results.pop(source) for name, source in self._pairs.items()}
        for spec in self._state_specs:
            self._check_state(spec, states[spec.name].shape)
        after = self._states(states, ours=False)
        self._now, self._spare = after, now if now.ours and after.alike(now) else None
        return results

    def _states(self, arrays: dict[str, np.ndarray], *, ours: bool = True) -> _States:
        targets = {source: arrays[name] for name, source in self._pairs.items()}
        return _States({**self._constants, **arrays}, targets, ours)

    def _bound_for(self, feeds: dict[str, Any]) -> BoundRun | None:
        """The run for these shapes, bound now if it was not yet; None while their output shapes are not known.

        Only states that keep their shape can swap buffers: others are handed on as ORT allocated them.
        """
        key, bound = self._runner.shapes(feeds), self._bound
        run = bound.pop(key, None) or self._runner.bound_later_step(feeds)
        if run is None:
            return None
        shapes = dict(zip(run.outputs.names, run.outputs.shapes, strict=True))
        if any(shapes[source] != feeds[name].shape for name, source in self._pairs.items()):
            return None
        bound[key] = run
        if len(bound) > BOUND_SHAPES:
            bound.popitem(last=False)
        return run

    def _first_states(self, feeds: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """What the user gave to begin with, else zeros."""
        shapes = first_shapes(self._pairs, self._runner.inputs, self._runner.outputs, feeds)
        states = dict(self._initial)
        for spec in self._state_specs:
            if spec.name not in states:
                states[spec.name] = self._runner.pool.array(spec.dtype, shapes[spec.name])
                states[spec.name].fill(0)
        return states

    def _kept(self, feeds: Mapping[str, Any], specs: list[TensorSpec]) -> dict[str, Any]:
        """Feeds that stay, whatever becomes of the caller's arrays: copied where they still are these."""
        ready = self._checked(feeds, specs)
        for spec in specs:
            if spec.element is not None and np.may_share_memory(ready[spec.name], feeds[spec.name]):
                ready[spec.name] = self._copied(ready[spec.name])
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
