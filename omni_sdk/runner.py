"""A session at work: which runs are bound already, which shapes were learned, where results live."""

from __future__ import annotations

import math
import threading
import weakref
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Protocol

import numpy as np

from omni_sdk import forking
from omni_sdk._buffers import BufferPool, Lease
from omni_sdk._runs import BoundRun
from omni_sdk.binding import Interrupt, RunFailed, bound_run, run_unbound
from omni_sdk.errors import ClosedError, InputError, InternalError
from omni_sdk.feeds import unpacked
from omni_sdk.learned import LearnedShapes, ShapeSet
from omni_sdk.session import Session
from omni_sdk.specs import TensorSpec
from omni_sdk.stats import Counter

# Bound runs kept ready. Beyond these the least recently used goes.
READY_RUNS = 32


class Binder(Protocol):
    """Something that keeps bound runs of its own: a stream."""

    def unbind(self) -> object:
        """Lets go of them, and returns them."""


class Runner:
    """Runs a session on checked feeds.

    Output shapes are learned: the first run at new input shapes lets ORT allocate, later ones have their outputs
    bound beforehand. Where that fails because a shape depends on the data, the model keeps ORT's allocation for good.
    Steps of a stream after its first are learned apart: a decoder may give fewer samples for a stream's first frames
    than for as many later ones.

    Bound runs lie in `idle`, the last used at the right. Taking one out is what makes it yours; `deque` does that
    without a lock. The lock guards the counts of copied bytes and the set of binders.

    Parameters
    ----------
    session : onnxruntime.InferenceSession
    inputs, outputs : tuple of TensorSpec
    io_binding : bool
        Off: every run is a plain `session.run`.
    idle_limit : int
        Bytes that the buffer pool may keep.
    """

    def __init__(
        self,
        session: Session,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        *,
        io_binding: bool,
        idle_limit: int,
    ) -> None:
        self.session: Session | None = session
        self.inputs = inputs
        self.outputs = outputs
        self.pool = BufferPool(idle_limit=idle_limit)
        self.idle: deque[BoundRun] = deque()
        self.bindable = io_binding and all(spec.element is not None for spec in (*inputs, *outputs))
        self.copied_out = 0
        self._copied_in = 0
        self._lock = threading.Lock()
        self._learned = LearnedShapes()
        self._learned_later = LearnedShapes()
        self._count = Counter()
        self._binders: weakref.WeakSet[Binder] = weakref.WeakSet()
        forking.watch(self)

    @property
    def runs(self) -> int:
        """How often ONNX Runtime ran."""
        return self._count.value()

    @property
    def copied_in(self) -> int:
        """Bytes of inputs copied, staged ones among them."""
        return self._copied_in + self.pool.stats()["staged_bytes"]

    @property
    def learned(self) -> tuple[ShapeSet, ...]:
        """Input shapes that ran and are remembered, in the order of the inputs."""
        return tuple(dict.fromkeys((*self._learned.inputs, *self._learned_later.inputs)))

    @property
    def data_dependent(self) -> bool:
        """Whether an output's shape was seen to depend on the data."""
        return self._learned.data_dependent or self._learned_later.data_dependent

    def shapes(self, feeds: Mapping[str, Any]) -> ShapeSet:
        """Shapes of checked feeds, in the order of the inputs; () for what is no tensor."""
        return _shapes(feeds, self.inputs)

    def result_bytes(self, feeds: Mapping[str, Any], wanted: Mapping[str, np.ndarray] | None) -> int:
        """Bytes of the buffers that the results of a run on checked feeds will lie in, as far as they are known."""
        shapes = self._learned.get(self.shapes(feeds)) if self.bindable else None
        named = zip(self.outputs, shapes or (), strict=False)
        return sum(math.prod(shape) * spec.dtype.itemsize for spec, shape in named if spec.name not in (wanted or ()))

    def run(
        self, feeds: dict[str, Any], wanted: dict[str, np.ndarray] | None, interrupt: Interrupt | None
    ) -> dict[str, Any]:
        """Runs on feeds that `omni_sdk.feeds.checked` returned; outputs by name.

        Raises
        ------
        ModelError
            When ONNX Runtime fails, ended by an interrupt among others.
        """
        idle = self.idle  # a model closed meanwhile has another, and does not get this run back
        run = self._take(feeds, idle) or self._new_run(feeds, self._learned)
        if run is not None:
            try:
                return self._run_bound(run, feeds, wanted, interrupt, idle)
            except RunFailed:
                if interrupt is not None and interrupt.fired:
                    raise
                self.doubt(run)
        return self.delivered(self._run_unbound(feeds, interrupt, self._learned), wanted)

    def doubt(self, run: BoundRun) -> None:
        """A bound run failed, and is not used again; the next one at its shapes lets ORT allocate."""
        self._learned.doubt(run.inputs.shapes)

    def later_step(self, feeds: dict[str, Any]) -> dict[str, Any]:
        """A step of a stream after its first, with ORT's allocation."""
        return self._run_unbound(feeds, None, self._learned_later)

    def bound_later_step(self, feeds: dict[str, Any]) -> BoundRun | None:
        """A run bound for such steps, the caller's alone; None where output shapes are not known.

        Small inputs that lie elsewhere at every step are copied in the end: a stream's windows are short.
        """
        return self._new_run(feeds, self._learned_later)

    def repeated_later_step(self, run: BoundRun, feeds: dict[str, Any]) -> dict[str, Any]:
        """After the bound `run` failed on these feeds: once more, with ORT's allocation."""
        self._learned_later.doubt(run.inputs.shapes)
        return self.later_step(feeds)

    def delivered(self, results: dict[str, Any], wanted: Mapping[str, np.ndarray] | None) -> dict[str, Any]:
        """Results, those that are wanted elsewhere copied there, and counted."""
        for name, target in (wanted or {}).items():
            if results[name] is target:
                continue
            if results[name].shape != target.shape:
                raise InputError(
                    f"Expected an array of shape {results[name].shape}, got {target.shape} - at out[{name!r}]"
                )
            np.copyto(target, results[name])
            self.count_copied(0, target.nbytes)
            results[name] = target
        return results

    def frozen(self, results: dict[str, Any]) -> dict[str, Any]:
        """Results made read-only for good, in leased memory; copied there, and counted, when ORT allocated them."""
        for name, array in results.items():
            if not isinstance(array.base, Lease):
                mine = self.pool.array(array.dtype, array.shape)
                np.copyto(mine, array)
                self.count_copied(0, array.nbytes)
                results[name] = array = mine
            array.base.freeze()
            array.flags.writeable = False
        return results

    def opened(self) -> Session:
        """The session; `ClosedError` when it is gone."""
        if self.session is None:
            raise ClosedError("Expected an open model, got one that was closed meanwhile - at infer")
        return self.session

    def unbind_at_close(self, binder: Binder) -> None:
        """Has `binder.unbind` called by `close`: a bound run keeps its session alive."""
        with self._lock:
            self._binders.add(binder)

    def close(self) -> None:
        """Drops the session, bound runs and idle memory. Runs under way hold what they need until they end."""
        self._learned.clear()
        self._learned_later.clear()
        self.session = None
        self.idle = deque()
        with self._lock:
            binders = list(self._binders)
        for binder in binders:
            binder.unbind()
        self.pool.trim()

    def disown(self) -> None:
        """In a forked child: lets go of the session without ever destroying it. See `omni_sdk.forking`."""
        forking.keep_for_ever((self.session, self.idle))
        self._lock = threading.Lock()  # another thread may have held it at the fork
        self._learned.after_fork()
        self._learned_later.after_fork()
        self.session = None
        self.idle = deque()

    def replace(self, session: Session) -> None:
        """Goes on with another session over the same model. Runs under way end on the one they began with."""
        self.session = session
        self.idle.clear()

    def count_run(self) -> None:
        """Counts a run that was made past this runner."""
        self._count.add()

    def count_copied(self, bytes_in: int, bytes_out: int) -> None:
        """Adds to the bytes that had to be copied."""
        if bytes_in or bytes_out:
            with self._lock:
                self._copied_in += bytes_in
                self.copied_out += bytes_out

    def _new_run(self, feeds: dict[str, Any], learned: LearnedShapes) -> BoundRun | None:
        """A run bound for the shapes of these feeds, the caller's alone; None where output shapes are not known."""
        if not self.bindable:
            return None
        key = self.shapes(feeds)
        output_shapes = learned.get(key)
        if output_shapes is None:
            return None
        session, stages = self.opened(), learned is self._learned_later
        return bound_run(session, self.inputs, self.outputs, key, output_shapes, self.pool, self._count, stages=stages)

    def _run_bound(
        self,
        run: BoundRun,
        feeds: dict[str, Any],
        wanted: dict[str, np.ndarray] | None,
        interrupt: Interrupt | None,
        idle: deque[BoundRun],
    ) -> dict[str, Any]:
        given = {name: array for name, array in (wanted or {}).items() if self._fits(name, array, run, feeds)}
        results = run.run(feeds, interrupt.options if interrupt else None, given)
        if results is None:
            raise InternalError(f"Expected checked feeds to fit their bound run, got {sorted(feeds)} - at infer")
        idle.append(run)
        if len(idle) > READY_RUNS:
            with suppress(IndexError):  # other threads took them all meanwhile
                idle.popleft()
        for spec in self.outputs:
            if spec.element is not None and spec.element.packed:
                packed = results[spec.name]
                results[spec.name] = unpacked(packed, packed.shape, spec.element.bits, spec.dtype)
                self.count_copied(0, packed.nbytes)
        return self.delivered(results, wanted)

    def _run_unbound(
        self, feeds: dict[str, Any], interrupt: Interrupt | None, learned: LearnedShapes
    ) -> dict[str, Any]:
        options = interrupt.options if interrupt else None
        results, copied = run_unbound(self.opened(), feeds, self.inputs, self.outputs, options)
        self._count.add()
        self.count_copied(0, copied)
        if self.bindable:
            learned.learn(self.shapes(feeds), _shapes(results, self.outputs))
            if self._learned.data_dependent:
                self.idle.clear()
        return results

    def _take(self, feeds: dict[str, Any], idle: deque[BoundRun]) -> BoundRun | None:
        """An idle run of these shapes; it is the caller's alone. Until it is, only what never changes may be read."""
        if not self.bindable or self._learned.data_dependent:
            return None
        key = self.shapes(feeds)
        for run in reversed(idle.copy()):
            if run.inputs.shapes == key:
                try:
                    idle.remove(run)
                except ValueError:  # another thread was quicker
                    continue
                return run
        return None

    def _fits(self, name: str, array: np.ndarray, run: BoundRun, feeds: dict[str, Any]) -> bool:
        """Whether an output can be bound to the caller's array itself."""
        shape = run.outputs.shapes[run.outputs.names.index(name)]
        in_place = array.flags.c_contiguous and array.flags.aligned and array.dtype.isnative and array.shape == shape
        return in_place and not any(np.may_share_memory(array, feed) for feed in feeds.values())


def _shapes(values: Mapping[str, Any], specs: tuple[TensorSpec, ...]) -> ShapeSet:
    return tuple(getattr(values[spec.name], "shape", ()) for spec in specs)
