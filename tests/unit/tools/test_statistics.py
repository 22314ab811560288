"""The bootstrap interval: seeded, whole rows, and covering what it says it covers."""

from __future__ import annotations

import numpy as np
import pytest

from omni_sdk.errors import InputError
from omni_sdk.tools import statistics
from omni_sdk.tools.statistics import Interval, bootstrap_interval, median, ratio_of_sums


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


def test_one_row_is_a_point() -> None:
    assert bootstrap_interval([4.0]) == Interval(4.0, 4.0, 4.0, 0.95)


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
