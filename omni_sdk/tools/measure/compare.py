"""Rows against rows: ratios per pair with an interval, ties called ties, and when a costlier start pays for itself."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from omni_sdk.tools.measure.results import Row
from omni_sdk.tools.statistics import Array, Interval, bootstrap_interval

Verdict = Literal["lower", "higher", "tie", "unclear"]

LEVEL = 0.95

INSIGNIFICANT = 0.02
"""A difference below 2 % decides nothing, however sure it is."""

LARGEST_EXPONENT = 700.0
"""Beyond it a ratio counts as infinite, as does the open end of a single pair."""

FEWEST_PAIRS = 4
"""With fewer rounds chance alone puts all of them on one side too often (three: one time in four) for a verdict."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure to compare, lower is better.

    Attributes
    ----------
    figure : str
        Attribute of `Run`.
    label : str
    unit : {"s", "bytes"}
    """

    figure: str
    label: str
    unit: Literal["s", "bytes"]


METRICS: Mapping[str, Metric] = {
    "latency": Metric("p50", "steady latency", "s"),
    "first": Metric("first_seconds", "first inference", "s"),
    "load": Metric("load_seconds", "load", "s"),
    "warmup": Metric("warmup_total", "warm-up", "s"),
    "cold_start": Metric("cold_start", "cold start", "s"),
    "memory": Metric("peak_bytes", "peak memory", "bytes"),
    "work": Metric("cpu_seconds", "CPU per inference", "s"),
    "cpu": Metric("paced_cpu_seconds", "CPU per paced inference", "s"),
}


@dataclass(frozen=True, slots=True)
class Comparison:
    """One figure of a row over that of the reference, round by round.

    Attributes
    ----------
    ratio : Interval or None
        Geometric mean of the ratios with its interval; None where no round has both.
    pairs : int
        Rounds that have both.
    verdict : {"lower", "higher", "tie", "unclear"}
        `"tie"` where the interval holds 1 or the difference is below 2 %; `"unclear"` with too few pairs.
    """

    metric: str
    ratio: Interval | None
    pairs: int
    verdict: Verdict

    def __str__(self) -> str:
        if self.ratio is None:
            return "–"
        return f"{self.ratio.estimate:.3f} [{self.ratio.low:.3f}, {self.ratio.high:.3f}] {self.verdict}"


def compare(reference: Row, row: Row, metric: str, *, level: float = LEVEL, seed: int = 0) -> Comparison:
    """A row's figure over the reference's, paired by round.

    Ratios are averaged as logarithms, so that A over B and B over A agree; the interval is the bootstrap over rounds,
    widened for their small number (`omni_sdk.tools.statistics`).
    """
    figure = METRICS[metric].figure
    rounds = sorted(reference.runs.keys() & row.runs.keys())
    pairs = [(float(getattr(row.runs[each], figure)), float(getattr(reference.runs[each], figure))) for each in rounds]
    ratios = [mine / other for mine, other in pairs if mine > 0 and other > 0]
    if not ratios:
        return Comparison(metric, None, 0, "unclear")
    logs = bootstrap_interval(np.log(ratios), level=level, seed=seed)
    interval = Interval(_exp(logs.estimate), _exp(logs.low), _exp(logs.high), level)
    return Comparison(metric, interval, len(ratios), _verdict(interval, len(ratios)))


def _exp(value: float) -> float:
    return math.inf if value > LARGEST_EXPONENT else math.exp(value)


def _verdict(ratio: Interval, pairs: int) -> Verdict:
    if pairs < FEWEST_PAIRS:
        return "unclear"
    if ratio.low <= 1.0 <= ratio.high or abs(ratio.estimate - 1.0) < INSIGNIFICANT:
        return "tie"
    return "lower" if ratio.estimate < 1.0 else "higher"


@dataclass(frozen=True, slots=True)
class BreakEven:
    """After how many inferences a costlier start pays for itself.

    Attributes
    ----------
    costlier, other : str
        Names of the row whose start costs more, and of the one it is compared with.
    inferences : Interval
        Infinite where it never pays.
    extra : Interval
        Seconds that the start costs more.
    gain_seconds : float
        What each inference gains (negative: loses), on average.
    pairs : int
        Rounds that both have.
    """

    costlier: str
    other: str
    inferences: Interval
    extra: Interval
    gain_seconds: float
    pairs: int

    @property
    def never(self) -> bool:
        """Whether the costlier start never pays."""
        return math.isinf(self.inferences.estimate)

    def __str__(self) -> str:
        return self._finding() + ("; too few rounds to be sure" if self.pairs < FEWEST_PAIRS else "")

    def _finding(self) -> str:
        if self.extra.low <= 0.0:
            return f"{self.costlier} and {self.other} start equally soon, within the noise"
        start = f"{self.costlier} starts {self.extra.estimate:.3g} s later than {self.other}"
        if self.never:
            return f"{start} and never makes up for it" + (
                "" if math.isinf(self.inferences.low) else f" (at best after {_count(self.inferences.low)} inferences)"
            )
        ends = f"{_count(self.inferences.low)} to {_count(self.inferences.high)}"
        return f"{start} and makes up for it after {_count(self.inferences.estimate)} inferences ({ends})"


def break_even(first: Row, second: Row, *, seed: int = 0) -> BreakEven | None:
    """When the costlier start of two rows has paid for itself; None where no round has both.

    With an extra start of D seconds and a gain of g seconds an inference it takes n = D / g inferences. The bootstrap
    runs on n / (n + 1) = D / (D + g), which stays finite when g goes to zero and is 1 where the start never pays.
    """
    rounds = sorted(first.runs.keys() & second.runs.keys())
    if not rounds:
        return None
    figures = [
        (second.runs[each].cold_start - first.runs[each].cold_start, first.runs[each].p50 - second.runs[each].p50)
        for each in rounds
    ]
    costlier, other = second.name, first.name
    if sum(extra for extra, _ in figures) < 0:
        figures = [(-extra, -gain) for extra, gain in figures]
        costlier, other = other, costlier
    # No bound above, where agreement would be doubted: rounds that all say "never" mean it.
    shares = bootstrap_interval(figures, _share, level=LEVEL, seed=seed, bounds=(0.0, math.inf))
    interval = Interval(_inferences(shares.estimate), _inferences(shares.low), _inferences(shares.high), LEVEL)
    extra = bootstrap_interval([extra for extra, _ in figures], level=LEVEL, seed=seed)
    return BreakEven(costlier, other, interval, extra, float(np.mean([gain for _, gain in figures])), len(rounds))


def _share(rows: Array) -> Array:
    extra, gain = np.maximum(rows[..., 0].mean(axis=1), 0.0), rows[..., 1].mean(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(extra == 0.0, 0.0, np.where(gain <= 0.0, 1.0, extra / (extra + gain)))


def _inferences(share: float) -> float:
    return math.inf if share >= 1.0 else share / (1.0 - share)


def _count(inferences: float) -> str:
    return "never" if math.isinf(inferences) else f"{math.ceil(inferences):,}"
