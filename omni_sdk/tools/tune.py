"""Tuning: measures settings on this device and keeps the winner as a profile."""

from __future__ import annotations

import dataclasses
import logging
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import EllipsisType
from typing import Any, Literal

from omni_sdk import memory, profiles
from omni_sdk.errors import InputError, MemoryBudgetError, ModelError, SettingsError
from omni_sdk.settings import Settings
from omni_sdk.source import Source
from omni_sdk.tools.measure.compare import LEVEL, METRICS, Comparison
from omni_sdk.tools.measure.confirm import confirm, effects
from omni_sdk.tools.measure.contenders import Contender
from omni_sdk.tools.measure.inputs import Shapes, Values
from omni_sdk.tools.measure.results import Row
from omni_sdk.tools.measure.schedule import Effort, Inputs, Progress, Race, inputs_file
from omni_sdk.tools.measure.search import Limits, Search, Space, beyond_memory, default_space

__all__ = ["GOALS", "Tuning", "tune"]

log = logging.getLogger(__name__)

Goal = Literal["latency", "cold-start", "memory", "cpu"]
GOALS: Mapping[str, str] = {"latency": "latency", "cold-start": "cold_start", "memory": "memory", "cpu": "cpu"}
"""What is tuned for, and the metric that decides."""

CONFIRMING_ROUNDS = 7


@dataclass(frozen=True, slots=True)
class Tuning:
    """What tuning found.

    Attributes
    ----------
    goal : str
    settings : Settings
        The winner: `balanced` within the limit of threads, or what is clearly better.
    changes : mapping of str to object
        In what the winner differs from `balanced`.
    gain : Comparison
        The leader over the reference on the goal, from rounds of its own that chose nothing. Its interval allows for
        a look after each round.
    effects : mapping of str to Comparison
        The leader over the reference on every metric, from the same rounds.
    scores : mapping of str to float
        Every candidate's ratio to the reference in the search; infinite where it was refused.
    refused : mapping of str to str
        Candidates that may not win, and why.
    profile : Path or None
        Where the winner is kept.
    reference : str
        What candidates are compared with: `balanced`, or `balanced on 2 threads` where it may not have more.
    interrupted : bool
        Ctrl-C came first: nothing won.
    leader : str
        Who led the search.
    proven : bool
        The leader won, by a gain beyond the noise.
    """

    goal: str
    settings: Settings
    changes: Mapping[str, Any]
    gain: Comparison
    effects: Mapping[str, Comparison]
    scores: Mapping[str, float]
    refused: Mapping[str, str]
    profile: Path | None
    reference: str = "balanced"
    interrupted: bool = False
    leader: str = ""
    proven: bool = False

    def __str__(self) -> str:
        label = METRICS[GOALS[self.goal]].label
        if self.interrupted:
            ahead = f"ahead until then: {self.leader}, not confirmed" if self.leader else "nothing was ahead yet"
            return f"interrupted, nothing is kept; {ahead}"
        what = ", ".join(f"{field}={value!r}" for field, value in self.changes.items())
        ratio = self.gain.ratio
        if ratio is None or not self.proven:
            if what and self.reference == "balanced":
                return f"{what}: balanced takes more than it may; no gain in {label} is proven"
            return f"{self.reference} stays: nothing was clearly better in {label}"
        percent = sorted(100.0 * (1.0 - end) for end in (ratio.low, ratio.high))
        word = "less" if ratio.estimate < 1.0 else "more"
        return (
            f"{what}: {abs(1.0 - ratio.estimate):.1%} {word} {label} than {self.reference}"
            f" ({100.0 * ratio.level:g} % interval of the gain: {percent[0]:.1f} % to {percent[1]:.1f} %)"
        )


def tune(
    model: str | os.PathLike[str],
    goal: Goal = "latency",
    *,
    inputs: Inputs = None,
    shapes: Shapes | None = None,
    values: Values | None = None,
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
    rounds; the leader then meets `balanced` (on no more than `max_threads`) in fresh rounds, and wins only where it is
    better beyond the noise; only where `balanced` takes more than `max_memory` the leader needs no such proof.
    Ctrl-C ends the search early: the leader until then is told, and nothing is kept.

    Parameters
    ----------
    model : path
    goal : {"latency", "cold-start", "memory", "cpu"}
        Steady latency; seconds to the first result; peak resident memory; processor seconds of a paced inference.
    inputs, shapes, values, seed
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
        Most pairs of the last comparison; it ends sooner when the leader is clear. Below four nothing can win.
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
    SettingsError
        When there is no place to keep the winner.
    MemoryBudgetError
        When nothing fits `max_memory`.
    """
    if goal not in GOALS:
        raise InputError(f"Expected one of {', '.join(GOALS)}, got {goal!r} - at goal")
    if rounds < 1:
        raise InputError(f"Expected at least one round, got {rounds} - at rounds")
    limits = _limits(max_memory, max_threads, tolerance)
    balanced, place = start or Settings(), os.fspath(model)
    source = Source(place)
    if keep:
        profiles.make_folder(cache_dir)  # before anything is measured for it
    _report_profile(source, cache_dir)
    base, name = balanced, "balanced"
    if limits.threads is not None and balanced.intra_threads > limits.threads:
        # Not balanced itself, which may not win: who is slower than it by its threads alone has lost nothing.
        base = balanced.replace(intra_op_num_threads=limits.threads)
        name = f"balanced on {limits.threads} thread{'s' * (limits.threads > 1)}"
    reference = Contender(name, "settings", place, base)
    with inputs_file(place, inputs=inputs, shapes=shapes, seed=seed, values=values) as (path, _):

        def race(*others: Contender) -> Race:
            return Race([reference, *others], path, path.parent, effort or Effort(), progress=progress)

        found = _searched(race, base, goal, limits, space, rounds, max_memory)
    found = dataclasses.replace(found, changes=_changes(balanced, found.settings))
    return _kept(found, source, cache_dir) if keep and not found.interrupted else found


def _searched(
    race: Callable[..., Race],
    base: Settings,
    goal: Goal,
    limits: Limits,
    space: Space | None,
    rounds: int,
    max_memory: int | str | None,
) -> Tuning:
    """Search and confirm; what an interrupt leaves is the leader until then, for which nothing speaks yet."""
    first, metric = race(), GOALS[goal]
    search = Search(first, base, metric, limits)
    reference, leader, confirmed = first.rows[0], None, None
    interrupted = False
    try:
        first.round([reference])  # alone: where it does not run, nobody needs to be compared with it
        _check_runs(reference)
        leader = search.best(space if space is not None else default_space(limits))
        _check_runs(reference)
        if leader is None:
            raise _nothing_fits(search.refused, max_memory)
        if leader.contender.settings != base:
            final = race(dataclasses.replace(leader.contender, name="winner"))
            confirmed = confirm(final, metric, rounds, limits)
    except KeyboardInterrupt:
        interrupted, confirmed, leader = True, None, leader or search.ahead()
    settings = base
    if confirmed is not None and leader is not None:
        too_big = confirmed.reference_too_big or beyond_memory(reference, limits)
        if too_big and confirmed.why_not:
            raise _nothing_fits({reference.name: too_big, leader.name: confirmed.why_not}, max_memory)
        if not confirmed.why_not and (confirmed.better or too_big):
            assert leader.contender.settings is not None
            settings = leader.contender.settings
    unmeasured = Row(reference.contender)
    over = confirmed.effects if confirmed else effects(unmeasured, unmeasured, metric, LEVEL)
    return Tuning(
        goal=goal,
        settings=settings,
        changes={},
        gain=over[metric],
        effects=over,
        scores={row.name: search.score(row) for row in first.rows[1:]},
        refused=search.refused,
        profile=None,
        reference=reference.name,
        interrupted=interrupted,
        leader="" if leader is None else leader.name,
        proven=settings != base and confirmed is not None and confirmed.better,
    )


def _check_runs(reference: Row) -> None:
    if reference.failure:
        raise ModelError(f"Expected a model that runs, got: {reference.failure} - at {reference.contender.model}")


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
        "ratio_to_balanced": ratio.to_dict() if ratio is not None and ratio.known else None,
        "pairs": found.gain.pairs,
        "verdict": found.gain.verdict,
        "summary": str(found),
    }
    profile = profiles.blank(source, found.goal, found.settings, measured)
    return dataclasses.replace(found, profile=profiles.save(profile, cache_dir))
