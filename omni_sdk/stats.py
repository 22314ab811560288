"""Counters and latency percentiles."""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Iterable
from dataclasses import asdict, dataclass

# Latencies kept for percentiles; older ones fall out, so a long-lived model shows how it runs now.
WINDOW = 4096


class Counter:
    """Counts from any number of threads without a lock on the way: an iterator's step is one atomic operation.

    Looking takes a step too, so looks are counted and taken off again.
    """

    def __init__(self) -> None:
        self._steps = itertools.count()
        self._looks = 0
        self._lock = threading.Lock()
        self.add = self._steps.__next__

    def value(self) -> int:
        """How often `add` was called."""
        with self._lock:
            self._looks += 1
            return next(self._steps) - (self._looks - 1)


@dataclass(frozen=True, slots=True)
class Latency:
    """Percentiles of the most recent runs, in seconds; NaN before the first."""

    p50: float
    p90: float
    p99: float
    max: float

    @classmethod
    def of(cls, seconds: Iterable[float]) -> Latency:
        """Nearest-rank percentiles: each is a latency that a run really had."""
        ordered = sorted(seconds)
        if not ordered:
            return cls(math.nan, math.nan, math.nan, math.nan)
        ranks = (max(0, math.ceil(len(ordered) * share) - 1) for share in (0.5, 0.9, 0.99, 1.0))
        return cls(*(ordered[rank] for rank in ranks))


@dataclass(frozen=True, slots=True)
class Stats:
    """What a model has done so far.

    Attributes
    ----------
    runs : int
        Runs of ONNX Runtime; a cache hit is none.
    cache_hits, cache_misses : int
    latency : Latency
        Of the last 4,096 runs, in seconds, cache hits not among them.
    bytes_copied_in, bytes_copied_out : int
        Bytes that had to be copied because an array could not be bound in place.
    bytes_in_use, bytes_idle, bytes_peak : int
        The buffer pool's: under live arrays, waiting to be used again, and the highest sum of both.
    """

    runs: int
    cache_hits: int
    cache_misses: int
    latency: Latency
    bytes_copied_in: int
    bytes_copied_out: int
    bytes_in_use: int
    bytes_idle: int
    bytes_peak: int

    @property
    def hit_rate(self) -> float:
        """Share of cached look-ups that hit, 0 to 1; NaN when there were none."""
        lookups = self.cache_hits + self.cache_misses
        return self.cache_hits / lookups if lookups else math.nan

    @property
    def bytes_copied(self) -> int:
        """In and out together."""
        return self.bytes_copied_in + self.bytes_copied_out

    def to_dict(self) -> dict[str, object]:
        """As plain values, for JSON."""
        return {**asdict(self), "hit_rate": self.hit_rate, "bytes_copied": self.bytes_copied}
