"""What Prometheus is told: the model's stats as totals and levels, and each answer."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

from omni_sdk.stats import Latency, Stats
from omni_sdk.tools.scale.metrics import LEVELS, TOTALS, Metrics

NONE = Latency(math.nan, math.nan, math.nan, math.nan)


class Recorded:
    """A metric as Ray's: declared with its tags, and fed with values for all of them."""

    made: dict[str, Recorded] = {}  # noqa: RUF012 - one registry, emptied by the fixture

    def __init__(self, name: str, description: str, *rest: object) -> None:
        assert description.endswith(".")
        self.tags, self.values = rest[-1], []
        Recorded.made[name] = self

    def _take(self, value: float, tags: dict[str, str]) -> None:
        assert set(tags) == set(self.tags)
        self.values.append((value, tags))

    inc = set = observe = _take


@pytest.fixture
def metrics() -> Metrics:
    Recorded.made.clear()
    return Metrics(SimpleNamespace(Counter=Recorded, Gauge=Recorded, Histogram=Recorded), "voice")


def stats(runs: int, latency: Latency = NONE) -> Stats:
    return Stats(runs, 2, 3, latency, 4, 5, 6, 7, 8)


def told(name: str) -> list[float]:
    return [value for value, _ in Recorded.made[f"omni_{name}"].values]


def test_totals_grow_by_what_is_new(metrics):
    for runs in (3, 3, 10):
        metrics.publish(stats(runs), waiting=1)
    assert told("runs") == [3, 7]
    assert told("bytes_copied_in") == [4]
    assert told("bytes_in_use") == [6, 6, 6]
    assert told("requests_waiting") == [1, 1, 1]


def test_percentiles_wait_for_the_first_run(metrics):
    metrics.publish(stats(0))
    assert told("run_seconds") == []
    metrics.publish(stats(1, Latency(0.1, 0.2, 0.3, 0.4)))
    assert [(value, tags["percentile"]) for value, tags in Recorded.made["omni_run_seconds"].values] == [
        (0.1, "p50"), (0.2, "p90"), (0.3, "p99"), (0.4, "max"),
    ]  # fmt: skip


def test_answers_are_counted_by_status(metrics):
    metrics.answered("infer", 429, 0.25)
    assert Recorded.made["omni_requests"].values == [(1, {"model": "voice", "endpoint": "infer", "status": "429"})]
    assert told("first_byte_seconds") == [0.25]


def test_every_field_of_the_stats_is_told():
    fields = set(Stats.__dataclass_fields__) - {"latency"}
    assert fields == {*TOTALS, *LEVELS}
