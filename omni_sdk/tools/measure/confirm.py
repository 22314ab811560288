"""The last race of a tuning: whether the leader of a search is better, and may win at all."""

from __future__ import annotations

from dataclasses import dataclass

from omni_sdk.tools.measure.compare import FEWEST_PAIRS, LEVEL, METRICS, Comparison, compare
from omni_sdk.tools.measure.results import Row
from omni_sdk.tools.measure.schedule import Race
from omni_sdk.tools.measure.search import Limits, beyond_memory, breach


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What came of it.

    Attributes
    ----------
    better : bool
        The leader is better than the reference, beyond the noise.
    why_not : str
        Why the leader may not win, however good; empty when it may.
    reference_too_big : str
        Why the reference may not stay; empty when it may.
    effects : mapping of str to Comparison
        The leader over the reference on every metric; the goal's at the level of its looks.
    """

    better: bool
    why_not: str
    reference_too_big: str
    effects: dict[str, Comparison]


def level_of_a_look(rounds: int) -> float:
    """Confidence of each look, so that all of them together err one time in twenty at most (Bonferroni).

    A comparison that may end after any round looks as often as there are rounds with a verdict, and each look is
    another chance to be deceived.
    """
    return 1.0 - (1.0 - LEVEL) / max(1, rounds - FEWEST_PAIRS + 1)


def confirm(race: Race, metric: str, rounds: int, limits: Limits) -> Confirmation:
    """Race the second row of two against the first, in at most so many rounds; fewer when one of them is clear."""
    reference, leader = race.rows
    level, verdict = level_of_a_look(rounds), ""
    for _ in range(rounds):
        race.round()
        verdict = compare(reference, leader, metric, level=level).verdict
        if verdict in ("lower", "higher"):
            break
    return Confirmation(
        better=verdict == "lower",
        why_not=leader.failure or breach(race, reference, leader, limits),
        reference_too_big=beyond_memory(reference, limits),
        effects=effects(reference, leader, metric, level),
    )


def effects(reference: Row, leader: Row, metric: str, level: float) -> dict[str, Comparison]:
    """One row over another on every metric; one of them at a level of its own."""
    return {each: compare(reference, leader, each, level=level if each == metric else LEVEL) for each in METRICS}
