"""Confidence intervals for measured figures, without a model of how they are distributed.

One method for every tool: the bootstrap (Efron, 1979), seeded, so that the same figures always give the same interval.
A row is one independent unit: an utterance, a rater, an interleaved pair of timings. The percentiles alone are too
narrow where rows are few (at four rows one interval in five misses, where one in twenty should), so they are widened as
Student's t widens the normal distribution. Shares of right answers have an exact interval of their own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from omni_sdk.errors import InputError

Array = npt.NDArray[np.float64]
Statistic = Callable[[Array], Array]
"""From drawn rows [draws, rows, ...] to one figure a draw, [draws]."""

VALUES_AT_ONCE = 1 << 21
TINY = 1e-300


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and the interval that holds it with a stated confidence.

    Attributes
    ----------
    estimate : float
        The statistic of the rows as measured.
    low, high : float
        Ends of the interval, in the estimate's unit; infinite where the rows say nothing of that end.
    level : float
        Confidence, between 0 and 1.
    """

    estimate: float
    low: float
    high: float
    level: float

    @property
    def known(self) -> bool:
        """Whether both ends are: of one row alone nobody knows the spread."""
        return math.isfinite(self.low) and math.isfinite(self.high)

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
    bounds: tuple[float, float] = (-math.inf, math.inf),
) -> Interval:
    """Bootstrap confidence interval of a statistic over independent rows.

    The ends are the percentiles of the drawn figures, each pushed away from the estimate by the factor
    t * sqrt(n / (n - 1)) / z, with the quantiles of Student's t at n - 1 degrees of freedom and of the normal
    distribution: the scale of Hesterberg's expanded percentile interval (2015), whose own ends cannot leave the range
    of few rows. From 400 rows on that is less than one percent.

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
    bounds : (float, float)
        Between which the figure lies by its nature, such as 1 and 5. Where all rows agree, an interval of no width
        would claim too much: the ends then leave room for the share of rows at a bound that so many draws can miss.

    Returns
    -------
    Interval
        With one row the ends are the bounds, infinite without any: nothing is known of its spread.

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
    if len(data) == 1:
        return Interval(estimate, min(bounds[0], estimate), max(bounds[1], estimate), level)
    low, high = map(float, np.quantile(figures, [(1.0 - level) / 2.0, (1.0 + level) / 2.0]))
    if low == high and all(map(math.isfinite, bounds)):
        unseen = 1.0 - ((1.0 - level) / 2.0) ** (1.0 / len(data))
        furthest = min(bounds[0], estimate), max(bounds[1], estimate)
        least, most = (estimate + unseen * (bound - estimate) for bound in furthest)
        return Interval(estimate, least, most, level)
    wider = _widening(len(data), level)
    ends = estimate + wider * (low - estimate), estimate + wider * (high - estimate)
    # Rates may pass their nominal bound (a word error rate of 1.2): only what was widened is cut off there.
    return Interval(estimate, max(ends[0], min(bounds[0], low)), min(ends[1], max(bounds[1], high)), level)


def binomial_interval(right: int, answers: int, *, level: float = 0.95) -> Interval:
    """Exact confidence interval of a share (Clopper and Pearson, 1934).

    Parameters
    ----------
    right, answers : int
        How many of how many.
    level : float
        Confidence, strictly between 0 and 1; the true one is at least that.

    Returns
    -------
    Interval
        Quantiles of the beta distribution; never of zero width.

    Raises
    ------
    InputError
        There is no answer, or more of them are right than there are.
    """
    if not 0 <= right <= answers or answers < 1:
        raise InputError(f"Expected a share of answers, got {right} of {answers} - at binomial_interval")
    tail, wrong = (1.0 - level) / 2.0, answers - right
    low = 0.0 if right == 0 else _root(lambda share: _beta_share(share, right, wrong + 1.0) - tail, 0.0, 1.0)
    high = 1.0 if wrong == 0 else _root(lambda share: _beta_share(share, right + 1.0, wrong) - 1.0 + tail, 0.0, 1.0)
    return Interval(right / answers, low, high, level)


def student_quantile(level: float, freedom: int) -> float:
    """How many standard errors a two-sided interval of Student's t takes at so many degrees of freedom."""

    def excess(t: float) -> float:  # 1 - P(|T| > t) by the incomplete beta function (DLMF 8.17), less the level
        return 1.0 - _beta_share(freedom / (freedom + t * t), freedom / 2.0, 0.5) - level

    highest = 1.0
    while excess(highest) < 0.0:
        highest *= 2.0
    return _root(excess, 0.0, highest)


def _widening(rows: int, level: float) -> float:
    normal = NormalDist().inv_cdf((1.0 + level) / 2.0)
    return student_quantile(level, rows - 1) * math.sqrt(rows / (rows - 1)) / normal


def _root(rising: Callable[[float], float], low: float, high: float) -> float:
    """Where a rising function is zero, by bisection to the last digit but a few."""
    for _ in range(80):
        middle = (low + high) / 2.0
        low, high = (middle, high) if rising(middle) < 0.0 else (low, middle)
    return (low + high) / 2.0


def _beta_share(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function, by its continued fraction (DLMF 8.17.22, evaluated as Lentz does)."""
    if x <= 0.0 or x >= 1.0:
        return float(x >= 1.0)
    if x > (a + 1.0) / (a + b + 2.0):  # where the fraction converges slowly, the mirrored one converges fast
        return 1.0 - _beta_share(1.0 - x, b, a)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)) / a
    value = upper = 1.0
    lower = 0.0
    for step in range(10_000):
        half = step // 2
        if step == 0:
            term = 1.0
        elif step % 2:
            term = -(a + half) * (a + b + half) * x / ((a + 2 * half) * (a + 2 * half + 1))
        else:
            term = half * (b - half) * x / ((a + 2 * half - 1) * (a + 2 * half))
        lower = 1.0 / ((1.0 + term * lower) or TINY)
        upper = (1.0 + term / upper) or TINY
        value *= upper * lower
        if abs(1.0 - upper * lower) < 1e-14:
            break
    return front * (value - 1.0)


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
