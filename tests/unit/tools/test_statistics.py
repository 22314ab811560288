"""The bootstrap interval: seeded, whole rows, and covering what it says it covers."""

from __future__ import annotations

import numpy as np
import pytest

from omni_sdk.errors import InputError
from omni_sdk.tools import statistics
from omni_sdk.tools.statistics import (
    Interval,
    binomial_interval,
    bootstrap_interval,
    median,
    ratio_of_sums,
    student_quantile,
)


def test_the_same_rows_give_the_same_interval() -> None:
    rows = np.random.default_rng(1).standard_normal(40)
    assert bootstrap_interval(rows) == bootstrap_interval(rows)
    assert bootstrap_interval(rows, seed=1) != bootstrap_interval(rows)


def test_the_interval_matches_the_normal_approximation() -> None:
    rows = np.random.default_rng(2).standard_normal(400)
    interval = bootstrap_interval(rows, resamples=4000)
    half = 1.96 * rows.std() / np.sqrt(rows.size)
    assert interval.estimate == rows.mean()
    assert interval.low == pytest.approx(rows.mean() - half, abs=0.1 * half)
    assert interval.high == pytest.approx(rows.mean() + half, abs=0.1 * half)


def test_coverage_is_near_its_level() -> None:
    rng = np.random.default_rng(3)
    intervals = [bootstrap_interval(rng.exponential(size=60), resamples=400, level=0.9) for _ in range(200)]
    covered = sum(i.low <= 1.0 <= i.high for i in intervals)
    assert 0.8 * 200 < covered < 0.96 * 200


def test_ratio_of_sums_weighs_rows_by_their_length() -> None:
    rows = [[1, 1], [0, 99]]
    assert bootstrap_interval(rows, ratio_of_sums).estimate == pytest.approx(0.01)


def test_columns_stay_paired() -> None:
    base = np.random.default_rng(4).uniform(1, 100, size=50)
    interval = bootstrap_interval(np.stack([3 * base, base], axis=1), ratio_of_sums)
    assert interval.low == pytest.approx(3.0)
    assert interval.high == pytest.approx(3.0)


def test_draws_without_a_denominator_are_left_out() -> None:
    interval = bootstrap_interval([[1, 0], [2, 4]], ratio_of_sums)
    assert np.isfinite([interval.low, interval.high]).all()
    assert np.isnan(bootstrap_interval([[1, 0], [2, 0]], ratio_of_sums).low)


def test_the_median_ignores_an_outlier() -> None:
    rows = np.ones(31)
    rows[0] = 1e9
    assert bootstrap_interval(rows, median) == Interval(1.0, 1.0, 1.0, 0.95)


def test_blocks_do_not_change_what_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(5).standard_normal(30)
    whole = bootstrap_interval(rows, resamples=100)
    monkeypatch.setattr(statistics, "VALUES_AT_ONCE", 70)
    assert bootstrap_interval(rows, resamples=100) == whole


def test_one_row_says_nothing_of_the_spread() -> None:
    assert bootstrap_interval([4.0]) == Interval(4.0, -np.inf, np.inf, 0.95)
    assert bootstrap_interval([4.0], bounds=(1.0, 5.0)) == Interval(4.0, 1.0, 5.0, 0.95)
    assert not bootstrap_interval([4.0]).known
    assert bootstrap_interval([4.0, 5.0]).known


@pytest.mark.parametrize("rows", [4, 7])
@pytest.mark.parametrize("level", [0.95, 0.99])
def test_few_rows_keep_the_level(rows: int, level: float) -> None:
    """Of 1,000 samples around zero, the share whose interval misses it: percentiles alone missed in 20 % at four."""
    rng = np.random.default_rng(rows)
    samples = rng.standard_normal((1000, rows))
    intervals = [bootstrap_interval(sample, level=level, resamples=400) for sample in samples]
    missed = np.mean([not i.low <= 0.0 <= i.high for i in intervals])
    assert missed < (1.0 - level) + 0.02


def test_rows_that_agree_leave_room_for_what_they_missed() -> None:
    few, many = bootstrap_interval([4.0] * 3, bounds=(1.0, 5.0)), bootstrap_interval([4.0] * 40, bounds=(1.0, 5.0))
    assert 1.0 < few.low < many.low < 4.0 < many.high < few.high < 5.0
    # Three rows miss a share of 1 - 0.025 ** (1 / 3) one time in forty: were those all at the bound ...
    assert few.high == pytest.approx(4.0 + (1 - 0.025 ** (1 / 3)))
    assert bootstrap_interval([4.0] * 3) == Interval(4.0, 4.0, 4.0, 0.95)


def test_rows_that_agree_beyond_a_bound_keep_their_estimate() -> None:
    interval = bootstrap_interval([[2, 1], [2, 1]], ratio_of_sums, bounds=(0.0, 1.0))
    assert (interval.estimate, interval.high) == (2.0, 2.0)
    assert 0.0 <= interval.low < 2.0


def test_what_is_widened_stays_within_the_bounds() -> None:
    interval = bootstrap_interval([[0, 9], [0, 9], [5, 9]], ratio_of_sums, bounds=(0.0, 1.0))
    assert interval.low == 0.0
    assert interval.high <= 1.0
    assert bootstrap_interval([[12, 9], [14, 9]], ratio_of_sums, bounds=(0.0, 1.0)).high > 1.5


# From the tables of any textbook.
@pytest.mark.parametrize(
    ("freedom", "level", "expected"), [(1, 0.95, 12.706), (3, 0.95, 3.182), (3, 0.99, 5.841), (30, 0.95, 2.042)]
)
def test_quantiles_of_student(freedom: int, level: float, expected: float) -> None:
    assert student_quantile(level, freedom) == pytest.approx(expected, abs=5e-4)


@pytest.mark.parametrize(
    ("right", "answers", "low", "high"),
    [(0, 10, 0.0, 0.3085), (9, 10, 0.5550, 0.9975), (10, 10, 0.6915, 1.0), (50, 100, 0.3983, 0.6017)],
)
def test_the_exact_interval_of_a_share(right: int, answers: int, low: float, high: float) -> None:
    interval = binomial_interval(right, answers)
    assert (interval.low, interval.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))
    assert interval.estimate == right / answers


def test_the_exact_interval_keeps_its_level() -> None:
    counts = np.random.default_rng(6).binomial(12, 0.8, size=2000)
    intervals = {int(count): binomial_interval(int(count), 12) for count in set(counts)}
    assert np.mean([not intervals[int(c)].low <= 0.8 <= intervals[int(c)].high for c in counts]) < 0.05


@pytest.mark.parametrize(("right", "answers"), [(0, 0), (3, 2), (-1, 2)])
def test_a_share_of_nothing_is_refused(right: int, answers: int) -> None:
    with pytest.raises(InputError, match="a share of answers"):
        binomial_interval(right, answers)


def test_to_dict_names_the_figures() -> None:
    assert Interval(1.0, 0.5, 2.0, 0.9).to_dict() == {"estimate": 1.0, "low": 0.5, "high": 2.0, "level": 0.9}


@pytest.mark.parametrize(
    ("rows", "options", "said"),
    [
        ([], {}, "at least one row"),
        (1.0, {}, "at least one row"),
        ([1.0, np.nan], {}, "finite values, got 1"),
        ([1.0], {"level": 1.0}, "level between 0 and 1"),
        ([1.0], {"resamples": 0}, "at least one resample"),
    ],
)
def test_what_bad_rows_get(rows: list[float], options: dict[str, float], said: str) -> None:
    with pytest.raises(InputError, match=said):
        bootstrap_interval(rows, **options)  # type: ignore[arg-type]
