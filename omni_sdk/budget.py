"""Budgets: what a load and a run will take, known before it is taken.

A load is estimated from the model's size. A run is known from its first time at a shape, when the growth of the
process's private memory is measured; at a shape not yet seen it is scaled from the largest one that was, by the number
of input elements, and the first run of all is let through, where copies of its inputs have room. ORT's arena keeps what
it grew to, so a run only adds what it needs beyond what runs before it, and those beside it, have made the arena reach.
A run that failed, was ended, or had a load or other runs beside it teaches nothing of what it needs.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from omni_sdk import memory
from omni_sdk.errors import MemoryBudgetError
from omni_sdk.memory import ProcessMemory, human

ShapeSet = tuple[tuple[int, ...], ...]

# Upper bounds, as shares of the model's bytes, of what loads of a 216-million-parameter decoder (FP32 and INT8) took.
PREPACKED_BESIDE_MAPPED = 0.3
PREPACKED = 0.75
SESSION_BYTES = 16 << 20
COMPILING = 2.5

# Parts of a run's sum: buffers for copies of its inputs or for its results, and what the arena would grow by.
BUFFERS, GROWTH = "new buffers", "this run"


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """What a model takes, in bytes, as measured.

    Attributes
    ----------
    parts : mapping of str to int
        `weights_mapped` (pages of the weights file in memory; shared with other processes that map it), `session`
        (private memory that the load took: prepacked and copied weights, the graph), `arena` (what runs made ORT
        keep), `results` (arrays over leased buffers, in use and idle, cached ones among them), `cache` (the inputs of
        cached results).
    process : ProcessMemory
        The whole process, for comparison.
    limit : int or None
        `Settings.memory_limit` in bytes.
    """

    parts: Mapping[str, int]
    process: ProcessMemory
    limit: int | None

    @property
    def total(self) -> int:
        """Sum of the parts."""
        return sum(self.parts.values())

    def __str__(self) -> str:
        lines = [f"{name:<16}{human(size):>12}" for name, size in self.parts.items()]
        lines.append(f"{'together':<16}{human(self.total):>12}" + (f" of {human(self.limit)}" if self.limit else ""))
        lines.append(f"{'process':<16}{human(self.process.resident):>12}, at its peak {human(self.process.peak)}")
        return "\n".join(lines)


def load_parts(size: int, *, mapped: bool, prepacking: bool, cache_bytes: int) -> dict[str, int]:
    """Estimate what a load takes.

    Parameters
    ----------
    size : int
        Bytes of the graph and its weights.
    mapped : bool
        Whether weights are mapped from a file; otherwise ORT copies them.
    prepacking, cache_bytes
        As in `Settings`.

    Returns
    -------
    dict of str to int
        Bytes by part.
    """
    prepacked = (PREPACKED_BESIDE_MAPPED if mapped else PREPACKED) if prepacking else 0.0
    return {
        "weights mapped" if mapped else "weights copied": size,
        "prepacked weights": int(size * prepacked),
        "session": SESSION_BYTES,
        "result cache": cache_bytes,
    }


def compiling_parts(size: int) -> dict[str, int]:
    """Estimate what it takes to optimize a model and to write it prepacked."""
    return {"weights while compiling": int(size * COMPILING), "session": SESSION_BYTES}


def fits(parts: Mapping[str, int], limit: int | None) -> bool:
    """Whether parts stay within a limit."""
    return limit is None or sum(parts.values()) <= limit


def require(parts: Mapping[str, int], limit: int | None, where: str) -> None:
    """Raise `MemoryBudgetError` with the sum, part by part, where it is beyond the limit."""
    if limit is not None and not fits(parts, limit):
        total = sum(parts.values())
        shown = " + ".join(f"{name} {human(size)}" for name, size in parts.items() if size)
        raise MemoryBudgetError(
            f"Expected at most {human(limit)}, got {human(total)} = {shown} - at {where}",
            hint="raise memory_limit, take shorter inputs (max_chunk), or let go of results and caches",
            parts=parts,
        )


class Turns(Protocol):
    """Who lets runs wait for room: a host. All of it is called with `lock` held, where runs are counted."""

    lock: threading.Condition

    def wait(self, refusal: MemoryBudgetError, began: float) -> None:
        """Returns when something changed, or raises `refusal` where that is in vain or took too long.

        `began` is the `time.monotonic` at which the run first asked.
        """

    def tell(self) -> None:
        """A run is over: whoever waits looks again."""


class AtOnce:
    """Nobody waits: a run that does not fit is refused at once."""

    def __init__(self) -> None:
        self.lock = threading.Condition()

    def wait(self, refusal: MemoryBudgetError, began: float) -> None:
        """Raises the refusal."""
        raise refusal

    def tell(self) -> None:
        """Nobody listens."""


@dataclass(slots=True)
class Admitted:
    """A run that was let in; `results` are the bytes of its results that it left in the arena."""

    results: int = 0


@dataclass(frozen=True, slots=True)
class _Need:
    """What a run takes of an arena; `measured` where the arena grew for it by half or more of that, else a bound."""

    bytes: int
    elements: int
    measured: bool


@dataclass(frozen=True, slots=True)
class _Run:
    """A run under way: what it was expected to need, and the arena it found where it is to be measured."""

    need: int
    found: int | None


class RunBudget:
    """What runs of one model, or of several in one budget, have taken and may take.

    Parameters
    ----------
    limit : int or None
        Bytes for all of it; None admits every run, and measures all the same.
    held : callable
        What is held apart from arenas, by part.
    where : str
        The model, for errors.
    measure : callable
        Private bytes of the process.
    relieve : callable, optional
        Told the bytes that a run needs beyond what is held, how many of them the arena would grow by, and the run's
        model, before it is refused; may make room.
    apart : bool, default False
        Whether each model has an arena of its own; otherwise they share one.
    within : RunBudget, optional
        A larger budget that every run must fit as well, with the same `turns`.
    turns : Turns, optional
        Who waits for room, and how; default: nobody.

    Attributes
    ----------
    peak : int
        The most that was held at once, in bytes, as far as it was noted.
    shrink_next : bool
        Set where something was freed into the arena: the next run is to give it back.
    """

    def __init__(
        self,
        limit: int | None,
        held: Callable[[], Mapping[str, int]],
        where: str,
        measure: Callable[[], int] = memory.private,
        relieve: Callable[[int, int, str], None] | None = None,
        *,
        apart: bool = False,
        within: RunBudget | None = None,
        turns: Turns | None = None,
    ) -> None:
        self.limit = limit
        self.peak = 0
        self._relieve = relieve
        self._held = held
        self._where = where
        self._measure = measure
        self._apart = apart
        self._within = within
        self._turns = turns or AtOnce()
        self._arenas: dict[str, int] = {}
        self._needs: dict[tuple[str, ShapeSet], _Need] = {}
        self._running: dict[str, list[_Run]] = {}
        self._shrink_next = False
        self._reserved = 0
        self._loads = 0
        self._begun = 0

    @property
    def arena(self) -> int:
        """Bytes that ORT keeps for runs, as far as they were measured."""
        return sum(self._arenas.values())

    @property
    def running(self) -> int:
        """Runs under way."""
        return sum(map(len, self._running.values()))

    @property
    def shrink_next(self) -> bool:
        return self._shrink_next or (self._within is not None and self._within.shrink_next)

    @shrink_next.setter
    def shrink_next(self, wanted: bool) -> None:
        self._shrink_next = wanted
        if self._within is not None:
            self._within.shrink_next = wanted

    @property
    def used(self) -> int:
        """Bytes of all that is held, arenas among them."""
        return sum(self._held().values()) + self.arena

    def note(self) -> None:
        """Something was taken: `peak` is to know."""
        self.peak = max(self.peak, self.used)

    def arena_of(self, model: str) -> int:
        """Bytes of the arena in which this model runs."""
        return self._arenas.get(self._key(model), 0)

    def is_idle(self, model: str) -> bool:
        """Whether nothing runs in the arena in which this model runs."""
        return not self._running.get(self._key(model))

    def given_back(self, model: str) -> None:
        """The arena in which this model runs was given back; what was known by its size alone is known no more."""
        key = self._key(model)
        self._arenas.pop(key, None)
        for shape in [shape for shape, need in self._needs.items() if self._key(shape[0]) == key and not need.measured]:
            del self._needs[shape]

    def loading(self, change: int) -> None:
        """So many loads more are under way: what the process grows by meanwhile is not a run's."""
        self._loads += change
        self._begun += 1

    @property
    def is_limited(self) -> bool:
        """Whether a run can be refused."""
        return self.limit is not None or (self._within is not None and self._within.is_limited)

    @contextlib.contextmanager
    def copying(self, shapes: ShapeSet, buffers: int, *, model: str = "") -> Iterator[None]:
        """Around the copying of a run's inputs: room for these bytes, and for the run, is there and stays reserved.

        Raises
        ------
        MemoryBudgetError
            Where there is none; nothing was copied.
        """
        with self._turns.lock:
            levels = self._wait_for_room(shapes, model, buffers)
            for level in levels:
                level._reserved += buffers
        try:
            yield
        finally:
            with self._turns.lock:
                for level in levels:
                    level._reserved -= buffers
                self._turns.tell()

    @contextlib.contextmanager
    def admitted(self, shapes: ShapeSet, *, model: str = "", keep: bool = True, buffers: int = 0) -> Iterator[Admitted]:
        """Around one run: refused where it cannot fit, measured where its shape is new.

        Parameters
        ----------
        shapes : tuple of tuple of int
            Of the inputs.
        model : str, optional
            Whose run it is, where several models share a budget.
        keep : bool, default True
            False where ORT gives its arena back after the run.
        buffers : int
            Bytes of new buffers that its results will take; reserved until it is over.

        Raises
        ------
        MemoryBudgetError
            Before anything is taken.
        """
        runs: list[tuple[RunBudget, _Run, int]] = []
        before, succeeded, admitted = 0, False, Admitted()
        try:
            with self._turns.lock:
                levels = self._wait_for_room(shapes, model, buffers)
                for level in levels:
                    run = level._begin(shapes, model)
                    runs.append((level, run, level._begun))
                    level._reserved += buffers
                before = self._measure() if any(run.found is not None for _, run, _ in runs) else 0
                levels[-1].note()
            yield admitted
            succeeded = True
        finally:
            with self._turns.lock:
                growth = max(0, self._measure() - before) if any(run.found is not None for _, run, _ in runs) else 0
                for level, run, then in runs:
                    level._running[level._key(model)].remove(run)
                    level._reserved -= buffers
                    if run.found is not None and not level._loads:
                        exact = succeeded and level._begun == then
                        level._learn(shapes, model, run.found, growth, admitted.results, exact)
                    level.note()
                    if not keep and not level._running[level._key(model)]:
                        level.given_back(model)
                self._turns.tell()

    def expected(self, shapes: ShapeSet, model: str = "") -> int:
        """Bytes of arena that a run at these shapes needs, as far as is known; 0 before a model's first run."""
        if (model, shapes) in self._needs:
            return self._needs[model, shapes].bytes
        # What is known by the arena's size alone says nothing of other shapes.
        measured = [need for (owner, _), need in self._needs.items() if owner == model and need.measured]
        if not measured:
            return 0
        largest = max(measured, key=lambda need: need.elements)
        return int(largest.bytes * _elements(shapes) / max(1, largest.elements))

    def _wait_for_room(self, shapes: ShapeSet, model: str, buffers: int) -> list[RunBudget]:
        """The budgets that the run fits by now: this one, and the larger one about it."""
        levels = [self] if self._within is None else [self, self._within]
        began = time.monotonic()
        while True:
            try:
                for level in levels:
                    level._require(shapes, model, buffers)
            except MemoryBudgetError as refusal:
                if level is not levels[-1] and not level.running:
                    raise  # the model's own limit, and no run of its own that would end
                self._turns.wait(refusal, began)
            else:
                return levels

    def _begin(self, shapes: ShapeSet, model: str) -> _Run:
        known, quiet = (model, shapes) in self._needs, not self.running and not self._loads
        run = _Run(self.expected(shapes, model), None if known or not quiet else self.arena_of(model))
        if run.found is None:
            self._arenas[self._key(model)] = self._reach(run.need, model)
        self._running.setdefault(self._key(model), []).append(run)
        self._begun += 1
        return run

    def _key(self, model: str) -> str:
        """Which arena a model runs in."""
        return model if self._apart else ""

    def _reach(self, need: int, model: str) -> int:
        beside = sum(run.need for run in self._running.get(self._key(model), ()))
        return max(self.arena_of(model), beside + need)

    def _require(self, shapes: ShapeSet, model: str, buffers: int) -> None:
        if self.limit is None:
            return
        parts = self._parts(shapes, model, buffers)
        if self._relieve is not None and not fits(parts, self.limit):
            self._relieve(parts[BUFFERS] + parts[GROWTH], parts[GROWTH], model)
            parts = self._parts(shapes, model, buffers)
        require(parts, self.limit, f"infer of {model or self._where} at {', '.join(map(str, shapes))}")

    def _parts(self, shapes: ShapeSet, model: str, buffers: int) -> dict[str, int]:
        growth = self._reach(self.expected(shapes, model), model) - self.arena_of(model)
        return {**self._held(), "arena": self.arena, BUFFERS: self._reserved + buffers, GROWTH: growth}

    def _learn(self, shapes: ShapeSet, model: str, found: int, growth: int, results: int, exact: bool) -> None:
        """A run that made the arena grow needs what it then reached; one that did not, no more than was there.

        Results that lay in the arena will lie in buffers from the next run on.

        One that failed, or that others ran beside, tells how far the arena grew and not what it needs itself. What was
        there before may be most of what a run is then taken to need: that much is a bound, and no measure to scale by.
        """
        reached = found + growth
        if exact:
            need = max(0, reached - results) if growth else min(found, self.expected(shapes, model) or found)
            self._needs[model, shapes] = _Need(need, _elements(shapes), growth >= found)
        self._arenas[self._key(model)] = max(self.arena_of(model), reached)


def _elements(shapes: ShapeSet) -> int:
    total = 0
    for shape in shapes:
        count = 1
        for size in shape:
            count *= size
        total += count
    return total
