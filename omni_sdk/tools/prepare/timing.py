"""Speed of two models side by side: in turns, since absolute times drift, and one at a time, since memory is short.

The fastest of several runs counts: whatever else the machine does can only add to it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime as ort
from numpy.typing import NDArray

from omni_sdk.tools.prepare.sessions import open_session

TURNS = 2
MOST_RUNS = 20
ENOUGH_SECONDS = 2.0
"""Of one model's turn: runs go on until they took this long, three at least."""

FEWEST_RUNS = 3


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds of the fastest run of each of two models."""

    before: float
    after: float

    @property
    def ratio(self) -> float:
        return self.after / self.before


def seconds_of(session: ort.InferenceSession, feeds: Mapping[str, NDArray[Any]]) -> list[float]:
    """Seconds of a session's runs, after one to warm up."""
    session.run(None, dict(feeds))
    seconds: list[float] = []
    while len(seconds) < FEWEST_RUNS or (sum(seconds) < ENOUGH_SECONDS and len(seconds) < MOST_RUNS):
        start = time.perf_counter()
        session.run(None, dict(feeds))
        seconds.append(time.perf_counter() - start)
    return seconds


def fastest_seconds(graph: Path, feeds: Mapping[str, NDArray[Any]], threads: int | None = None) -> float:
    """Seconds of the fastest run of a model."""
    return min(seconds_of(open_session(graph, threads=threads), feeds))


def race(before: Path, after: Path, feeds: Mapping[str, NDArray[Any]], threads: int | None = None) -> Pace:
    """Time two models on the same feeds in the order before, after, after, before; never both in memory.

    Parameters
    ----------
    before, after : pathlib.Path
        Graphs to compare.
    feeds : mapping of str to array
        Inputs of both.
    threads : int, optional
        Of the operators' pool.

    Returns
    -------
    Pace
    """
    taken: dict[Path, list[float]] = {before: [], after: []}
    for turn in range(TURNS):
        for graph in (before, after) if turn % 2 == 0 else (after, before):
            session = open_session(graph, threads=threads)
            taken[graph] += seconds_of(session, feeds)
            del session
    return Pace(min(taken[before]), min(taken[after]))
