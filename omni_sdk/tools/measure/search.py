"""Successive halving over settings: single levers first, then the ones that helped together, in paired rounds."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort
import psutil

from omni_sdk import cpu
from omni_sdk.settings import Settings
from omni_sdk.tools.measure.compare import compare
from omni_sdk.tools.measure.contenders import Contender
from omni_sdk.tools.measure.inputs import Feeds
from omni_sdk.tools.measure.results import Row
from omni_sdk.tools.measure.schedule import Race

log = logging.getLogger(__name__)

Changes = Mapping[str, Any]
Space = Mapping[str, Sequence[Any]]

WARM_ROUNDS = 2
"""Rounds before the first cut: one alone is too easily luck."""

LEFT_AT_THE_END = 2
HELPS = 0.99
"""A single lever is tried together with others when it seems to gain 1 % or more."""

MOST_TOGETHER = 4
PROVIDERS_BESIDE = {"CPUExecutionProvider", "AzureExecutionProvider"}
"""Providers that are no choice: the one that is always there, and one that sends data over a network."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a candidate must keep within.

    Attributes
    ----------
    memory_bytes, threads : int or None
    tolerance : float
        Largest difference of outputs from the reference's, relative to the reference's largest value.
    """

    memory_bytes: int | None = None
    threads: int | None = None
    tolerance: float = 1e-3


def default_space(limits: Limits) -> dict[str, tuple[Any, ...]]:
    """The levers and their values on this device."""
    cores = cpu.usable_cores()
    counts = {1, max(1, cores // 2), cores, min(psutil.cpu_count() or cores, len(cpu.affinity()))}
    threads = tuple(sorted(count for count in counts if count <= (limits.threads or count)))
    others = tuple((name, "cpu") for name in ort.get_available_providers() if name not in PROVIDERS_BESIDE)
    switches = ("allow_spinning", "prepacking", "enable_cpu_mem_arena", "enable_mem_pattern", "set_denormal_as_zero")
    return {
        "intra_op_num_threads": threads,
        "graph_optimization_level": ("all", "extended", "basic"),
        **dict.fromkeys(switches, (False, True)),
        "providers": (("cpu",), *others),
    }


class Search:
    """Candidates against a reference on one goal.

    Parameters
    ----------
    race : Race
        Whose first row is the reference.
    start : Settings
        What candidates change.
    metric : str
        Of `compare.METRICS`; lower is better.
    limits : Limits
    """

    def __init__(self, race: Race, start: Settings, metric: str, limits: Limits) -> None:
        self._race, self._start, self._metric, self._limits = race, start, metric, limits
        self._reference = race.rows[0]
        self.changes: dict[str, Changes] = {}
        self.refused: dict[str, str] = {}

    def best(self, space: Space) -> Row | None:
        """The most promising candidate; None where no change seems to gain and the start is within the limits."""
        levers = [self._add(change) for change in self._singles(space)]
        unchanged = self._add({})
        self._halve([unchanged, *levers])
        helpful = [row for row in self._ranked(levers) if self.score(row) < HELPS]
        together = [self._add(changes) for changes in self._combinations(helpful)]
        finalists = [*helpful[:LEFT_AT_THE_END], *together]
        if together:
            self._halve([row for row in finalists if row.failure == ""])
        ranked = self._ranked([*finalists, unchanged])
        return ranked[0] if ranked else next(iter(self._ranked(levers)), None)

    def score(self, row: Row) -> float:
        """The candidate's figure over the reference's; infinite where it is refused or was not measured."""
        if self._why_refused(row):
            return math.inf
        ratio = compare(self._reference, row, self._metric).ratio
        return math.inf if ratio is None else ratio.estimate

    def ahead(self) -> Row | None:
        """Who leads so far, of those that were measured and may win."""
        measured = [row for row in self._race.rows[1:] if math.isfinite(self.score(row))]
        return next(iter(self._ranked(measured)), None)

    def _halve(self, rows: Sequence[Row]) -> None:
        """Measure all, keep the better half, measure those again, until few are left or the leader is clear."""
        alive = list(rows)
        for _ in range(WARM_ROUNDS):
            self._race.round([self._reference, *self._open(alive)])
        while len(alive := self._open(alive)) > LEFT_AT_THE_END:
            alive = self._ranked(alive)[: max(LEFT_AT_THE_END, len(alive) // 2)]
            self._race.round([self._reference, *alive])
            if self._leader_is_clear(alive):
                return

    def _leader_is_clear(self, rows: Sequence[Row]) -> bool:
        ranked = self._ranked(rows)
        if len(ranked) < 2:
            return True
        return compare(ranked[1], ranked[0], self._metric).verdict == "lower"

    def _ranked(self, rows: Sequence[Row]) -> list[Row]:
        return sorted(self._open(rows), key=self.score)

    def _open(self, rows: Sequence[Row]) -> list[Row]:
        return [row for row in rows if not self._why_refused(row)]

    def _why_refused(self, row: Row) -> str:
        """Why a candidate may not win; empty when it may. Outputs and memory are known after its first round."""
        if row.name not in self.refused and (
            why := row.failure or breach(self._race, self._reference, row, self._limits)
        ):
            log.info("%s: refused, %s", row.name, why)
            self.refused[row.name] = why
        return self.refused.get(row.name, "")

    def _add(self, changes: Changes) -> Row:
        name = ", ".join(f"{field}={_word(value)}" for field, value in changes.items()) or "no change"
        self.changes[name] = changes
        model = self._reference.contender.model
        return self._race.add(Contender(name, "settings", model, self._start.replace(**changes)))

    def _singles(self, space: Space) -> Iterator[Changes]:
        for field, values in space.items():
            now = self._start.intra_threads if field == "intra_op_num_threads" else getattr(self._start, field)
            yield from ({field: value} for value in values if value != now)

    def _combinations(self, helpful: Sequence[Row]) -> list[Changes]:
        """The best value of each field that helps, the two best together, then the three best, and so on."""
        best: dict[str, Any] = {}
        for row in helpful:
            for field, value in self.changes[row.name].items():
                best.setdefault(field, value)
        fields = list(best)[:MOST_TOGETHER]
        return [{field: best[field] for field in fields[:count]} for count in range(2, len(fields) + 1)]


def breach(race: Race, reference: Row, row: Row, limits: Limits) -> str:
    """Which limit a row does not keep, by its memory and its outputs; empty when it keeps them all."""
    if why := beyond_memory(row, limits):
        return why
    wanted, found = race.outputs(reference), race.outputs(row)
    return "" if wanted is None or found is None else difference(wanted, found, limits.tolerance)


def beyond_memory(row: Row, limits: Limits) -> str:
    """By how much a row exceeds the memory that it may have; empty when it does not."""
    highest = max((run.peak_bytes for run in row.runs.values()), default=0)
    if limits.memory_bytes is None or highest <= limits.memory_bytes:
        return ""
    return f"peaks at {highest} bytes, more than the {limits.memory_bytes} allowed"


def difference(reference: Feeds, candidate: Feeds, tolerance: float) -> str:
    """How outputs differ beyond the tolerance; empty when they do not. Integers must be equal."""
    for name, wanted in reference.items():
        found = candidate.get(name)
        if found is None or found.shape != wanted.shape or found.dtype != wanted.dtype:
            return f"output {name} is missing or of another shape or type"
        if wanted.dtype.kind != "f":
            if not np.array_equal(wanted, found):
                return f"output {name} differs"
            continue
        finite = np.isfinite(wanted)
        if not np.array_equal(wanted[~finite], found[~finite], equal_nan=True) or not np.isfinite(found[finite]).all():
            return f"output {name} holds other infinities or NaNs"
        largest = float(np.max(np.abs(wanted[finite]), initial=0.0))
        apart = float(np.max(np.abs(wanted[finite].astype(np.float64) - found[finite]), initial=0.0))
        if apart > tolerance * largest:
            return f"output {name} differs by {apart:.3g}, more than {tolerance:g} of its peak {largest:.3g}"
    return ""


def _word(value: Any) -> str:
    return "+".join(value) if isinstance(value, tuple) else str(value)
