"""Budgets: what a load and a run will take, known before it is taken.

A load is estimated from the model's size. A run is known from its first time at a shape, when the growth of the
process's private memory is measured; at a shape not yet seen it is scaled from the largest one that was, by the number
of input elements, and the first run of all is let through. ORT's arena keeps what it grew to, so a run only adds what
it needs beyond what runs before it, and those beside it, have made the arena reach.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from omni_sdk import memory
from omni_sdk.errors import MemoryBudgetError
from omni_sdk.memory import ProcessMemory, human

ShapeSet = tuple[tuple[int, ...], ...]

# Upper bounds, as shares of the model's bytes, of what loads of a 216-million-parameter decoder (FP32 and INT8) took.
PREPACKED_BESIDE_MAPPED = 0.3
PREPACKED = 0.75
SESSION_BYTES = 16 << 20
COMPILING = 2.5


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """What a model takes, in bytes, as measured.

    Attributes
    ----------
    parts : mapping of str to int
        `weights_mapped` (pages of the weights file in memory; shared with other processes that map it), `session`
        (private memory that the load took: prepacked and copied weights, the graph), `arena` (what runs made ORT
        keep), `results` (arrays over leased buffers, in use and idle), `cache` (cached results).
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
        )


class RunBudget:
    """What runs of one model have taken and may take.

    Parameters
    ----------
    limit : int or None
        Bytes for the model as a whole; None admits every run, and measures all the same.
    held : callable
        What the model holds apart from its arena, by part.
    where : str
        The model, for errors.
    measure : callable
        Private bytes of the process.
    relieve : callable, optional
        Told the bytes that a run needs and that are not left, before it is refused; may make room.

    Attributes
    ----------
    arena : int
        Bytes that ORT keeps for runs, as far as they were measured.
    shrink_next : bool
        Set where something was freed into the arena: the next run is to give it back.
    """

    def __init__(
        self,
        limit: int | None,
        held: Callable[[], Mapping[str, int]],
        where: str,
        measure: Callable[[], int] = memory.private,
        relieve: Callable[[int], None] | None = None,
    ) -> None:
        self.limit = limit
        self.arena = 0
        self.shrink_next = False
        self._relieve = relieve
        self._held = held
        self._where = where
        self._measure = measure
        self._needs: dict[tuple[str, ShapeSet], tuple[int, int]] = {}
        self._running: list[int] = []
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def admitted(self, shapes: ShapeSet, *, model: str = "", keep: bool = True) -> Iterator[None]:
        """Around one run: refused where it cannot fit, measured where its shape is new.

        Parameters
        ----------
        shapes : tuple of tuple of int
            Of the inputs.
        model : str, optional
            Whose run it is, where several models share a budget.
        keep : bool, default True
            False where ORT gives its arena back after the run.

        Raises
        ------
        MemoryBudgetError
            Before anything is taken.
        """
        with self._lock:
            known = self._needs.get((model, shapes))
            need = self.expected(shapes, model)
            reach = max(self.arena, sum(self._running) + need)
            self._require(reach - self.arena, f"infer of {model or self._where} at {', '.join(map(str, shapes))}")
            alone = not self._running
            self._running.append(need)
            before = self._measure() if known is None and alone else None
            self.arena = reach if known is not None else self.arena
        try:
            yield
        finally:
            with self._lock:
                self._running.remove(need)
                if before is not None:
                    self._learn(shapes, model, max(0, self._measure() - before))
                if not keep and not self._running:
                    self.arena = 0

    def expected(self, shapes: ShapeSet, model: str = "") -> int:
        """Bytes of arena that a run at these shapes needs, as far as is known; 0 before a model's first run."""
        if (model, shapes) in self._needs:
            return self._needs[model, shapes][0]
        known = [need for (owner, _), need in self._needs.items() if owner == model]
        if not known:
            return 0
        need, elements = max(known, key=lambda pair: pair[1])
        return int(need * _elements(shapes) / max(1, elements))

    def _require(self, more: int, where: str) -> None:
        if self.limit is None:
            return
        parts = {**self._held(), "arena": self.arena, "this run": more}
        if self._relieve is not None and not fits(parts, self.limit):
            self._relieve(more)
            parts = {**self._held(), "arena": self.arena, "this run": more}
        require(parts, self.limit, where)

    def _learn(self, shapes: ShapeSet, model: str, growth: int) -> None:
        """A run that made the arena grow needs what it then reached; one that did not, no more than was there."""
        reached = self.arena + growth
        need = reached if growth else min(self.arena, self.expected(shapes, model) or self.arena)
        self._needs[model, shapes] = (need, _elements(shapes))
        self.arena = reached


def _elements(shapes: ShapeSet) -> int:
    total = 0
    for shape in shapes:
        count = 1
        for size in shape:
            count *= size
        total += count
    return total
