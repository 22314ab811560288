"""Two ways of doing the same, measured side by side: what drifts on a shared machine drifts for both."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Pair:
    """Medians over interleaved rounds: seconds a call of each, and the median of the rounds' ratios ours / theirs."""

    ours: float
    theirs: float
    ratio: float
    rounds: int


def measure(
    ours: Callable[[], object], theirs: Callable[[], object], *, calls: int, rounds: int = 31, warm: int = 3
) -> Pair:
    """Runs `calls` of each in turn, the order swapped every round, and compares within it; `warm` calls before."""
    for run in (ours, theirs):
        for _ in range(warm):
            run()
    taken: dict[int, list[float]] = {0: [], 1: []}
    for number in range(rounds):
        for which in (0, 1) if number % 2 else (1, 0):
            run = (ours, theirs)[which]
            started = time.perf_counter()
            for _ in range(calls):
                run()
            taken[which].append((time.perf_counter() - started) / calls)
    ratios = [mine / other for mine, other in zip(taken[0], taken[1], strict=True)]
    return Pair(statistics.median(taken[0]), statistics.median(taken[1]), statistics.median(ratios), rounds)
