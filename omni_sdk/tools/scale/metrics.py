"""What a replica or an actor tells Prometheus, through Ray's own metrics."""

from __future__ import annotations

import math
from types import ModuleType

from omni_sdk.stats import Stats

TOTALS = {
    "runs": "Runs of the model; a hit in the result cache is none.",
    "cache_hits": "Look-ups in the result cache that hit.",
    "cache_misses": "Look-ups in the result cache that missed.",
    "bytes_copied_in": "Bytes of inputs that could not be bound in place.",
    "bytes_copied_out": "Bytes of outputs that could not be bound in place.",
}
"""Fields of `Stats` that only grow: counters, as `omni_NAME`."""
LEVELS = {
    "bytes_in_use": "Bytes of result buffers under live arrays.",
    "bytes_idle": "Bytes of result buffers that wait to be used again.",
    "bytes_peak": "Highest sum of both.",
}
"""Fields of `Stats` that rise and fall: gauges."""
LATENCIES = ("p50", "p90", "p99", "max")
SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0]
"""Bounds of the histogram's buckets."""


class Metrics:
    """`Model.stats()` as counters and gauges, and what became of requests.

    Parameters
    ----------
    kinds : module
        `ray.serve.metrics`, whose metrics bear the deployment's and the replica's name, or `ray.util.metrics`.
    model : str
        The model's name: the tag `model` of each metric.
    """

    def __init__(self, kinds: ModuleType, model: str) -> None:
        self._tags = {"model": model}
        self._totals = {name: kinds.Counter(f"omni_{name}", text, ("model",)) for name, text in TOTALS.items()}
        self._levels = {name: kinds.Gauge(f"omni_{name}", text, ("model",)) for name, text in LEVELS.items()}
        self._latency = kinds.Gauge(
            "omni_run_seconds", "Percentiles of the latest runs' seconds.", ("model", "percentile")
        )
        self._waiting = kinds.Gauge("omni_requests_waiting", "Requests in the replica's queue.", ("model",))
        self._requests = kinds.Counter("omni_requests", "Answers by route and status.", ("model", "endpoint", "status"))
        self._first_byte = kinds.Histogram(
            "omni_first_byte_seconds", "Until an answer's first byte.", SECONDS, ("model", "endpoint")
        )
        self._told: dict[str, int] = dict.fromkeys(TOTALS, 0)

    def publish(self, stats: Stats, waiting: int = 0) -> None:
        """Bring every metric of the model up to date; a percentile of no runs is left out."""
        for name, counter in self._totals.items():
            now = getattr(stats, name)
            if now > self._told[name]:
                counter.inc(now - self._told[name], self._tags)
                self._told[name] = now
        for name, gauge in self._levels.items():
            gauge.set(getattr(stats, name), self._tags)
        for percentile in LATENCIES:
            seconds = getattr(stats.latency, percentile)
            if not math.isnan(seconds):
                self._latency.set(seconds, {**self._tags, "percentile": percentile})
        self._waiting.set(waiting, self._tags)

    def answered(self, endpoint: str, status: int, seconds: float) -> None:
        """Count an answer, and its seconds until the first byte."""
        self._requests.inc(1, {**self._tags, "endpoint": endpoint, "status": str(status)})
        self._first_byte.observe(seconds, {**self._tags, "endpoint": endpoint})
