"""Confidence intervals for measured figures, without a model of how they are distributed.

One method for every tool: the percentile bootstrap (Efron, 1979), seeded, so that the same figures always give the
same interval. A row is one independent unit: an utterance, a rater, an interleaved pair of timings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from omni_sdk.errors import InputError

Array = npt.NDArray[np.float64]
Statistic = Callable[[Array], Array]
"""From drawn rows [draws, rows, ...] to one figure a draw, [draws]."""

VALUES_AT_ONCE = 1 << 21


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and the interval that holds it with a stated confidence.

    Attributes
    ----------
    estimate : float
        The statistic of the rows as measured.
    low, high : float
        Ends of the interval, in the estimate's unit.
    level : float
        Confidence, between 0 and 1.
    """

    estimate: float
    low: float
    high: float
    level: float

    def to_dict(self) -> dict[str, float]:
        """The four figures by name, ready for JSON."""
        return {"estimate": self.estimate, "low": self.low, "high": self.high, "level": self.level}


def mean(rows: Array) -> Array:
    """Mean of [draws, rows], one figure a draw."""
    return np.asarray(np.mean(rows, axis=1))


def median(rows: Array) -> Array:
    """Median of [draws, rows], one figure a draw."""
    return np.asarray(np.median(rows, axis=1))


def ratio_of_sums(rows: Array) -> Array:
    """Sum of the first column over sum of the second of [draws, rows, 2]: errors over words, seconds over seconds.

    A draw whose second column sums to zero gives NaN, and the interval leaves it out.
    """
    sums = np.sum(rows, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(sums[:, 1] == 0.0, np.nan, sums[:, 0] / sums[:, 1])


def bootstrap_interval(
    rows: npt.ArrayLike,
    statistic: Statistic = mean,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Percentile-bootstrap confidence interval of a statistic over independent rows.

    Parameters
    ----------
    rows : array_like
        Numbers [rows] or [rows, columns]; whole rows are drawn with replacement, so paired columns stay paired.
    statistic : callable
        From [draws, rows, ...] to [draws]; `mean`, `median` and `ratio_of_sums` are here.
    level : float
        Confidence, strictly between 0 and 1.
    resamples : int
        Draws; 2,000 place the ends of a 95 % interval well within its own width.
    seed : int
        Seed of the draws.

    Returns
    -------
    Interval
        With one row the interval is that point: nothing is known of its spread.

    Raises
    ------
    InputError
        There is no row, a value is not finite, `level` lies outside (0, 1), or `resamples` is below 1.
    """
    data = np.asarray(rows, dtype=np.float64)
    _check(data, level, resamples)
    estimate = float(statistic(data[np.newaxis])[0])
    rng = np.random.default_rng(seed)
    at_once = max(1, VALUES_AT_ONCE // data.size)
    figures = np.concatenate(
        [
            statistic(data[rng.integers(len(data), size=(min(at_once, resamples - first), len(data)))])
            for first in range(0, resamples, at_once)
        ]
    )
    figures = figures[~np.isnan(figures)]
    if figures.size == 0:
        return Interval(estimate, np.nan, np.nan, level)
    low, high = np.quantile(figures, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return Interval(estimate, float(low), float(high), level)


def _check(data: Array, level: float, resamples: int) -> None:
    where = "at bootstrap_interval"
    if data.ndim == 0 or data.size == 0:
        raise InputError(f"Expected at least one row, got shape {data.shape} - {where}")
    if not np.isfinite(data).all():
        raise InputError(f"Expected finite values, got {np.count_nonzero(~np.isfinite(data))} that are not - {where}")
    if not 0.0 < level < 1.0:
        raise InputError(f"Expected a level between 0 and 1, got {level} - {where}")
    if resamples < 1:
        raise InputError(f"Expected at least one resample, got {resamples} - {where}")
