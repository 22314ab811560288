"""A warm-up ends when the latency has settled, and neither before nor much later."""

from __future__ import annotations

import random

import graphs
import numpy as np
import pytest
from onnx import helper, parser

import omni_sdk as omni
from omni_sdk.errors import InputError
from omni_sdk.warmup import ShapeWarmup, WarmupReport, bounds, settle, verdict


def play(seconds, least, most):
    passes = iter(seconds)
    return settle(lambda: next(passes), least, most)


def test_it_stops_at_the_second_of_two_quick_passes():
    seconds, reason = play([2.0, 1.20, 1.21, 1.2], *bounds((2, 8), memory_pattern=False))
    assert (seconds, reason) == ((2.0, 1.20, 1.21), "settled")
    assert play([1.3, 1.29, 9.0], *bounds((2, 8), memory_pattern=False)) == ((1.3, 1.29), "settled")


def test_a_slow_plateau_of_the_memory_pattern_is_not_taken_for_settled():
    measured = [2.3, 2.29, 1.2, 1.21, 1.2]
    assert play(measured, *bounds((2, 8), memory_pattern=True))[0] == (2.3, 2.29, 1.2, 1.21)
    assert play(measured, *bounds((2, 8), memory_pattern=False))[0] == (2.3, 2.29)


def test_passes_that_agree_but_are_slower_than_an_earlier_one_go_on():
    assert verdict([1.0, 1.5, 1.51]) is None
    assert verdict([1.0, 1.5, 1.51, 1.52]) == "no quicker for 3 passes"


def test_noise_beyond_the_tolerance_ends_it_when_nothing_is_gained():
    seconds, reason = play([5.0, 1.0, 1.3, 1.15, 1.25, 1.0], 2, 8)
    assert (len(seconds), reason) == (5, "no quicker for 3 passes")


def test_microseconds_agree_within_the_clock():
    assert verdict([8e-6, 25e-6]) == "settled"
    assert verdict([8e-3, 25e-3]) is None


def test_bounds():
    assert bounds(3, memory_pattern=True) == (3, 3)
    assert bounds(0, memory_pattern=False) == (0, 0)
    assert bounds((1, 8), memory_pattern=False) == (2, 8)
    assert bounds((5, 8), memory_pattern=True) == (5, 8)
    assert bounds((1, 2), memory_pattern=True) == (2, 2)
    assert play([1.0] * 5, 4, 4) == ((1.0,) * 4, "passes as asked")
    assert play([], 0, 0) == ((), "passes as asked")
    assert play([5.0, 4.0, 3.0], 2, 3) == ((5.0, 4.0, 3.0), "not settled within 3 passes")


@pytest.mark.parametrize("seed", range(5))
def test_simulated_devices_end_near_their_steady_latency(seed):
    """Whatever the noise up to 20 %, the last pass is within it of the steady latency, in at most eight passes."""
    rng = random.Random(seed)
    for _ in range(200):
        steady, slow, noise = rng.uniform(1e-3, 3), rng.randint(1, 2), rng.uniform(0, 0.2)
        passes = [steady * (2.0 if index < slow else 1.0) * (1 + rng.uniform(0, noise)) for index in range(8)]
        seconds, _ = play(passes, *bounds((2, 8), memory_pattern=slow == 2))
        assert len(seconds) > slow
        assert seconds[-1] <= steady * (1 + noise) + 1e-9


def test_the_report_reads_well():
    report = WarmupReport((ShapeWarmup({"x": (1, 2)}, (0.002, 0.001), "settled"),))
    assert str(report) == "x [1, 2]: 2.00 1.00 ms, settled"
    assert report.seconds == (0.002, 0.001)
    assert np.isclose(report.total_seconds, 0.003)
    assert str(WarmupReport(())) == "nothing to warm up"


@pytest.mark.parametrize("passes", ["a", -1, (3, 2), (1, 2, 3), True, 1.5, [1, 2]])
def test_passes_that_are_none(passes):
    with graphs.load(graphs.DOUBLE) as model, pytest.raises(InputError, match=r"number of passes.* - at passes$"):
        model.warmup({"x": (2,)}, passes=passes)


def test_a_range_without_a_zero_is_warmed_at_its_lowest_value():
    model = parser.parse_model(f"{graphs.HEAD} g (int64[N] c) => (int64[N] y) {{ y = Neg(c) }}")
    helper.set_model_props(model, {"range.c": "1 9"})
    with omni.load(model.SerializeToString(), cache_dir=None) as loaded:
        assert loaded.warmup({"c": (3,)}, passes=2).shapes[0].shapes == {"c": (3,)}
        assert loaded.explain().not_warmed == ()
