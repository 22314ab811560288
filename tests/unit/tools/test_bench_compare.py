"""Ratios, ties, break-even: the arithmetic that verdicts hang on."""

from __future__ import annotations

import math

import numpy as np
import pytest
from bench_rows import row

from omni_sdk.tools.measure.compare import break_even, compare

BASE = [0.010, 0.011, 0.012, 0.011, 0.010, 0.013, 0.011]


def test_a_drift_that_hits_both_alike_does_not_hide_a_difference() -> None:
    drift = [1.0, 1.5, 2.0, 1.2, 3.0, 1.1, 0.8]
    first = row("a", [0.010 * each for each in drift])
    second = row("b", [0.009 * each for each in drift])
    found = compare(first, second, "latency")
    assert found.verdict == "lower"
    assert found.ratio is not None
    assert found.ratio.estimate == pytest.approx(0.9)
    assert found.pairs == 7


def test_a_difference_inside_the_noise_is_a_tie() -> None:
    noise = [1.1, 0.9, 1.05, 0.93, 1.0, 1.08, 0.95]
    second = row("b", [base * each for base, each in zip(BASE, noise, strict=True)])
    assert compare(row("a", BASE), second, "latency").verdict == "tie"


def test_a_difference_below_two_percent_is_a_tie_however_sure() -> None:
    assert compare(row("a", BASE), row("b", [base * 1.01 for base in BASE]), "latency").verdict == "tie"
    assert compare(row("a", BASE), row("b", [base * 1.05 for base in BASE]), "latency").verdict == "higher"


@pytest.mark.parametrize("rounds", [4, 7])
def test_of_equal_contenders_one_in_twenty_at_most_seems_different(rounds: int) -> None:
    """A simulated null: noise of 10 % on both sides, where percentiles alone gave 15 to 19 % at four rounds."""
    rng = np.random.default_rng(rounds)
    noise = np.exp(0.1 * rng.standard_normal((400, 2, rounds)))
    pairs = [(row("a", 0.01 * first), row("b", 0.01 * second)) for first, second in noise]
    wrong = np.mean([compare(*pair, "latency").verdict in ("lower", "higher") for pair in pairs])
    assert wrong < 0.075


def test_one_round_has_a_ratio_and_no_interval() -> None:
    found = compare(row("a", [0.010]), row("b", [0.020]), "latency")
    assert found.verdict == "unclear"
    assert found.ratio is not None
    assert found.ratio.estimate == pytest.approx(2.0)
    assert not found.ratio.known


def test_too_few_rounds_give_no_verdict() -> None:
    assert compare(row("a", BASE[:3]), row("b", [0.001] * 3), "latency").verdict == "unclear"
    assert compare(row("a", []), row("b", BASE), "latency").ratio is None


def test_only_rounds_that_both_have_are_paired() -> None:
    first, second = row("a", BASE), row("b", BASE)
    del second.runs[2]
    assert compare(first, second, "latency").pairs == 6


def test_ratios_turned_around_agree() -> None:
    second = row("b", [base * factor for base, factor in zip(BASE, [1.2, 1.5, 1.1, 1.3, 1.4, 1.2, 1.3], strict=True)])
    there, back = compare(row("a", BASE), second, "latency").ratio, compare(second, row("a", BASE), "latency").ratio
    assert there is not None
    assert back is not None
    assert there.estimate * back.estimate == pytest.approx(1.0)


def test_break_even_divides_the_extra_start_by_the_gain() -> None:
    slow, quick = row("slow", [0.010] * 7, load=0.1), row("quick", [0.008] * 7, load=0.3)
    found = break_even(slow, quick)
    assert found is not None
    # The quick one loads 0.2 s longer, and its first inference already gains 2.4 ms.
    assert found.inferences.estimate == pytest.approx((0.2 - 0.0024) / 0.002)
    assert (found.costlier, found.never) == ("quick", False)
    assert "makes up for it after 99 inferences" in str(found)


def test_break_even_looks_from_the_costlier_start_whichever_comes_first() -> None:
    slow, quick = row("slow", [0.010] * 7, load=0.1), row("quick", [0.008] * 7, load=0.3)
    forth, back = break_even(slow, quick), break_even(quick, slow)
    assert forth is not None
    assert back is not None
    assert (back.costlier, back.inferences) == ("quick", forth.inferences)


def test_a_costlier_start_that_gains_nothing_never_pays() -> None:
    found = break_even(row("a", [0.010] * 7, load=0.1), row("b", [0.011] * 7, load=0.3))
    assert found is not None
    assert found.never
    assert math.isinf(found.inferences.low)
    assert str(found).endswith("never makes up for it")


def test_an_uncertain_gain_widens_the_break_even_to_never() -> None:
    gains = [0.005, 0.012, 0.007, 0.011, 0.006, 0.013, 0.012]
    found = break_even(row("a", [0.010] * 7, load=0.1), row("b", gains, load=0.3))
    assert found is not None
    assert not found.never
    assert math.isinf(found.inferences.high)
    assert "to never" in str(found)


def test_starts_that_differ_by_noise_have_no_break_even() -> None:
    first, second = row("a", BASE), row("b", BASE[::-1])
    assert "equally soon" in str(break_even(first, second))


def test_a_break_even_from_few_rounds_says_so() -> None:
    few = break_even(row("a", [0.010] * 2, load=0.1), row("b", [0.008] * 2, load=0.3))
    assert str(few).endswith("too few rounds to be sure")
