"""Tuning: measures settings on this device and keeps the winner as a profile."""

from __future__ import annotations

import dataclasses
import logging
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import EllipsisType
from typing import Any, Literal

from omni_sdk import memory, profiles
from omni_sdk.errors import InputError, MemoryBudgetError, ModelError, SettingsError
from omni_sdk.settings import Settings
from omni_sdk.source import Source
from omni_sdk.tools.measure.compare import METRICS, Comparison, compare
from omni_sdk.tools.measure.contenders import Contender
from omni_sdk.tools.measure.inputs import Shapes
from omni_sdk.tools.measure.schedule import Effort, Progress, Race, inputs_file
from omni_sdk.tools.measure.search import Limits, Search, Space, default_space, difference

__all__ = ["GOALS", "Tuning", "tune"]

log = logging.getLogger(__name__)

Goal = Literal["latency", "cold-start", "memory", "cpu"]
GOALS: Mapping[str, str] = {"latency": "latency", "cold-start": "cold_start", "memory": "memory", "cpu": "cpu"}
"""What is tuned for, and the metric that decides."""

CONFIRMING_ROUNDS = 7
CLEAR = 0.99
"""Confidence from which on further rounds are spared; looking after each round is looking often."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """What tuning found.

    Attributes
    ----------
    goal : str
    settings : Settings
        The winner: `balanced`, or what is clearly better.
    changes : mapping of str to object
        In what the winner differs from `balanced`.
    gain : Comparison
        The winner over `balanced` on the goal, from rounds of its own that chose nothing.
    effects : mapping of str to Comparison
        The winner over `balanced` on every metric, from the same rounds.
    scores : mapping of str to float
        Every candidate's ratio to `balanced` in the search; infinite where it was refused.
    refused : mapping of str to str
        Candidates that may not win, and why.
    profile : Path or None
        Where the winner is kept.
    """

    goal: str
    settings: Settings
    changes: Mapping[str, Any]
    gain: Comparison
    effects: Mapping[str, Comparison]
    scores: Mapping[str, float]
    refused: Mapping[str, str]
    profile: Path | None

    def __str__(self) -> str:
        label = METRICS[GOALS[self.goal]].label
        if not self.changes:
            return f"balanced stays: nothing was clearly better in {label}"
        what = ", ".join(f"{field}={value!r}" for field, value in self.changes.items())
        ratio = self.gain.ratio
        if ratio is None:
            return f"{what}: balanced could not be measured"
        percent = sorted(100.0 * (1.0 - end) for end in (ratio.low, ratio.high))
        word = "less" if ratio.estimate < 1.0 else "more"
        return (
            f"{what}: {abs(1.0 - ratio.estimate):.1%} {word} {label} than balanced"
            f" (95 % interval of the gain: {percent[0]:.1f} % to {percent[1]:.1f} %)"
        )


def tune(
    model: str | os.PathLike[str],
    goal: Goal = "latency",
    *,
    inputs: str | Path | Mapping[str, Any] | None = None,
    shapes: Shapes | None = None,
    max_memory: int | str | None = None,
    max_threads: int | None = None,
    tolerance: float = 1e-3,
    start: Settings | None = None,
    space: Space | None = None,
    rounds: int = CONFIRMING_ROUNDS,
    effort: Effort | None = None,
    keep: bool = True,
    cache_dir: str | os.PathLike[str] | EllipsisType | None = ...,
    seed: int = 0,
    progress: Progress = lambda name, number, phase: None,
) -> Tuning:
    """Find settings that are better than `balanced` for a model on this device, and keep them.

    Levers are tried alone, the better half again, then those that helped together, by successive halving in paired
    rounds; the leader then meets `balanced` in fresh rounds, and wins only where it is better beyond the noise.

    Parameters
    ----------
    model : path
    goal : {"latency", "cold-start", "memory", "cpu"}
        Steady latency; seconds to the first result; peak resident memory; processor seconds of a paced inference.
    inputs, shapes, seed
        What to feed, as for `omni_sdk.tools.bench.bench`.
    max_memory : int or str, optional
        Peak resident memory that the winner may have: bytes, `"2 GiB"`, `"60%"`.
    max_threads : int, optional
        Of the winner.
    tolerance : float
        Largest difference from the outputs of `balanced` that settings may have, relative to their largest value.
    start : Settings, optional
        What candidates change, and what they are compared with; default `balanced`.
    space : mapping of str to sequence, optional
        Fields of `Settings` and their values; default every lever that this device has.
    rounds : int
        Most pairs of the last comparison; it ends sooner when the leader is clear.
    effort : Effort, optional
    keep : bool
        Whether the winner is kept for `load(..., settings="tuned")`.
    cache_dir : path, optional
        Where profiles are kept, as for `omni_sdk.load`.
    progress : callable, optional

    Returns
    -------
    Tuning

    Raises
    ------
    InputError, ModelError
        When the goal is unknown, or the model does not run with the inputs.
    MemoryBudgetError
        When nothing fits `max_memory`.
    """
    if goal not in GOALS:
        raise InputError(f"Expected one of {', '.join(GOALS)}, got {goal!r} - at goal")
    limits = _limits(max_memory, max_threads, tolerance)
    balanced = start or Settings()
    place, source = os.fspath(model), Source(os.fspath(model))
    _report_profile(source, cache_dir)
    base = balanced
    if limits.threads is not None and balanced.intra_threads > limits.threads:
        base = balanced.replace(intra_op_num_threads=limits.threads)
    reference = Contender("balanced", "settings", place, balanced)
    work = effort or Effort()
    with inputs_file(place, inputs=inputs, shapes=shapes, seed=seed) as (path, _):
        race = Race([reference], path, path.parent, work, progress=progress)
        search = Search(race, base, GOALS[goal], limits)
        leader = search.best(space if space is not None else default_space(limits))
        if race.rows[0].failure:
            raise ModelError(f"Expected a model that runs, got: {race.rows[0].failure} - at {place}")
        if leader is None:
            raise _nothing_fits(search.refused, max_memory)
        assert leader.contender.settings is not None
        final = Race(
            [reference, Contender("winner", "settings", place, leader.contender.settings)],
            path,
            path.parent,
            work,
            progress=progress,
        )
        wins = leader.contender.settings != balanced and _confirm(final, GOALS[goal], rounds, limits, base != balanced)
        settings = leader.contender.settings if wins else base
        effects = {metric: compare(final.rows[0], final.rows[1], metric) for metric in METRICS}
        found = Tuning(
            goal=goal,
            settings=settings,
            changes=_changes(balanced, settings),
            gain=effects[GOALS[goal]],
            effects=effects,
            scores={row.name: search.score(row) for row in race.rows[1:]},
            refused=search.refused,
            profile=None,
        )
    return _kept(found, source, cache_dir) if keep else found


def _confirm(race: Race, metric: str, rounds: int, limits: Limits, must_change: bool) -> bool:
    """Whether the second row is better than the first, or has to be taken because the first may not be."""
    for _ in range(rounds):
        race.round()
        if compare(race.rows[0], race.rows[1], metric, level=CLEAR).verdict in ("lower", "higher"):
            break
    first, second = (race.outputs(row) for row in race.rows)
    differs = first is not None and second is not None and difference(first, second, limits.tolerance)
    too_big = limits.memory_bytes is not None and _peak(race, 0) > limits.memory_bytes
    better = compare(race.rows[0], race.rows[1], metric).verdict == "lower"
    return not race.rows[1].failure and not differs and (better or too_big or must_change)


def _peak(race: Race, row: int) -> int:
    return max((run.peak_bytes for run in race.rows[row].runs.values()), default=0)


def _limits(max_memory: int | str | None, max_threads: int | None, tolerance: float) -> Limits:
    if max_threads is not None and max_threads < 1:
        raise InputError(f"Expected at least one thread, got {max_threads} - at max_threads")
    if not (math.isfinite(tolerance) and tolerance >= 0.0):
        raise InputError(f"Expected a tolerance of zero or more, got {tolerance} - at tolerance")
    size = None if max_memory is None else memory.parse(max_memory, where="max_memory")
    return Limits(size, max_threads, tolerance)


def _report_profile(source: Source, cache_dir: Any) -> None:
    """A profile that cannot be read is said to be so; tuning starts anew and replaces it."""
    try:
        profiles.find(source, cache_dir)
    except SettingsError as error:
        log.warning("%s; tuning starts anew", str(error).partition("\n")[0])


def _changes(balanced: Settings, settings: Settings) -> dict[str, Any]:
    plain, before = settings.to_dict(), balanced.to_dict()
    return {field: value for field, value in plain.items() if value != before.get(field)}


def _nothing_fits(refused: Mapping[str, str], max_memory: int | str | None) -> MemoryBudgetError | ModelError:
    reasons = "; ".join(f"{name}: {why}" for name, why in refused.items())
    if max_memory is not None and any("allowed" in why for why in refused.values()):
        return MemoryBudgetError(
            f"Expected settings that fit {max_memory}, got none ({reasons}) - at max_memory",
            hint="allow more memory, or prepare a smaller model",
        )
    return ModelError(f"Expected settings that run, got none ({reasons}) - at tune")


def _kept(found: Tuning, source: Source, cache_dir: Any) -> Tuning:
    ratio = found.gain.ratio
    measured = {
        "metric": found.gain.metric,
        "ratio_to_balanced": None if ratio is None else ratio.to_dict(),
        "pairs": found.gain.pairs,
        "verdict": found.gain.verdict,
        "summary": str(found),
    }
    profile = profiles.blank(source, found.goal, found.settings, measured)
    return dataclasses.replace(found, profile=profiles.save(profile, cache_dir))
