"""Counts from many threads lose nothing; percentiles are latencies that a run really had."""

from __future__ import annotations

import dataclasses
import json
import math
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni_sdk.stats import Counter, Latency, Stats


def test_a_counter_counts_what_is_added_and_not_the_looks():
    counter = Counter()
    for expected in (0, 0, 1, 3):
        while counter.value() < expected:
            counter.add()
        assert counter.value() == expected


def test_threads_lose_no_count_while_others_look():
    counter, seen = Counter(), []

    def add():
        for _ in range(5000):
            counter.add()

    threads = [threading.Thread(target=add) for _ in range(8)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        seen.append(counter.value())
    for thread in threads:
        thread.join()
    assert counter.value() == 40_000
    assert seen == sorted(seen)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ([3.0], (3, 3, 3, 3)),
        ([2, 1], (1, 2, 2, 2)),
        (range(1, 101), (50, 90, 99, 100)),
        (range(10, 0, -1), (5, 9, 10, 10)),
    ],
)
def test_nearest_rank_percentiles(seconds, expected):
    assert dataclasses.astuple(Latency.of(seconds)) == expected


def test_no_runs_no_percentiles():
    assert all(map(math.isnan, dataclasses.astuple(Latency.of([]))))


@given(st.lists(st.floats(0, 1e6), min_size=1))
def test_each_percentile_is_a_latency_that_its_share_of_runs_kept_within(seconds):
    latency = Latency.of(seconds)
    for share, bound in zip((0.5, 0.9, 0.99, 1), dataclasses.astuple(latency), strict=True):
        assert bound in seconds
        assert sum(one <= bound for one in seconds) >= share * len(seconds)
        assert sum(one < bound for one in seconds) < share * len(seconds)


def test_rates_and_sums():
    latency = Latency.of([0.5])
    stats = Stats(8, 3, 1, latency, 10, 20, 0, 0, 0)
    assert (stats.hit_rate, stats.bytes_copied) == (0.75, 30)
    plain = json.loads(json.dumps(stats.to_dict()))
    assert (plain["hit_rate"], plain["bytes_copied"], plain["latency"]["p50"]) == (0.75, 30, 0.5)
    assert math.isnan(Stats(0, 0, 0, latency, 0, 0, 0, 0, 0).hit_rate)
