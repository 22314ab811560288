"""The report's charts, from a benchmark to inline SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from omni_sdk.tools.measure.ablation import effects
from omni_sdk.tools.measure.results import Benchmark, Row
from omni_sdk.tools.measure.svg import (
    RIGHT,
    WIDTH,
    Scale,
    box,
    chart,
    jitter,
    line,
    name_at,
    room_for,
    short,
    value_at,
    whisker,
)
from omni_sdk.tools.statistics import Interval

BAR = 24
COLORS = 8
PHASES = ("imports", "load", "warm-up", "first inference")
MOST_DOTS = 150
SPREAD_FOR_LOG = 20.0
"""Latencies further apart than this are drawn on a logarithmic axis."""


def latency_chart(found: Benchmark) -> str:
    """Steady latencies of every row: each inference a dot, the middle half a bar, the median a line."""
    rows = _measured(found)
    values = [second for row in rows for run in row.runs.values() for second in run.latencies]
    if not values:
        return ""
    unit, size = _time_unit(max(values))
    log = min(values) > 0.0 and max(values) / min(values) > SPREAD_FOR_LOG
    low, high = (min(values) / size * 0.9, max(values) / size * 1.1) if log else (0.0, max(values) / size * 1.05)
    left = room_for([row.name for row in rows])
    scale = Scale(low, high, left, WIDTH - RIGHT, log)
    parts = []
    for index, row in enumerate(rows):
        y = (index + 0.5) * BAR * 1.4
        found_here = sorted(second / size for run in row.runs.values() for second in run.latencies)
        shown = found_here[:: max(1, len(found_here) // MOST_DOTS)]
        low_q, middle, high_q = (_quantile(found_here, share) for share in (0.25, 0.5, 0.75))
        parts.append(name_at(row.name, left, y))
        parts += [f'<circle class="dot c{index % COLORS}" cx="{scale(x):.1f}" cy="{y + jitter(i):.1f}" r="2.4"/>'
                  for i, x in enumerate(shown)]  # fmt: skip
        parts.append(box(scale(low_q), y - 8, max(2.0, scale(high_q) - scale(low_q)), 16, f"c{index % COLORS} half"))
        parts.append(
            f'<line class="median" x1="{scale(middle):.1f}" x2="{scale(middle):.1f}" y1="{y - 11}" y2="{y + 11}"/>'
        )
        parts.append(value_at(f"{short(middle)} {unit}", y))
    title = f"steady latency, {unit}" + (", logarithmic" if log else "")
    return chart("Latency of every steady inference", parts, scale, len(rows) * BAR * 1.4, title)


def cold_start_chart(found: Benchmark) -> str:
    """From nothing to the first result, phase by phase, medians over the rounds."""
    rows = _measured(found)
    spans = [_phases(row) for row in rows]
    if not spans:
        return ""
    unit, size = _time_unit(max(sum(parts) for parts in spans))
    left = room_for([row.name for row in rows])
    scale = Scale(0.0, max(sum(parts) for parts in spans) / size * 1.02, left, WIDTH - RIGHT)
    drawn = []
    for index, (row, lengths) in enumerate(zip(rows, spans, strict=True)):
        y, at = (index + 0.5) * BAR * 1.4, 0.0
        drawn.append(name_at(row.name, left, y))
        for phase, seconds in enumerate(lengths):
            length = seconds / size
            label = f"{row.name}: {PHASES[phase]} {short(length)} {unit}"
            drawn.append(box(scale(at), y - 9, max(0.0, scale(at + length) - scale(at)), 18, f"p{phase}", label))
            at += length
        drawn.append(value_at(f"{short(at)} {unit}", y))
    legend = [(f"p{index}", name) for index, name in enumerate(PHASES)]
    return chart(
        "Cold start", drawn, scale, len(rows) * BAR * 1.4, f"time from nothing to the first result, {unit}", legend
    )


def memory_chart(found: Benchmark) -> str:
    """Resident memory of one process of each row over time."""
    rows = _measured(found)
    curves = [(row, next(iter(row.runs.values())).memory) for row in rows]
    curves = [(row, curve) for row, curve in curves if len(curve) > 1]
    if not curves:
        return ""
    longest = max(curve[-1][0] for _, curve in curves)
    unit, size = _time_unit(longest)
    highest = max(used for _, curve in curves for _, used in curve)
    letter, divisor = ("GiB", 2**30) if highest >= 2**30 else ("MiB", 2**20)
    left, height = 70.0, 260.0
    across = Scale(0.0, longest / size, left, WIDTH - 20)
    up = Scale(0.0, highest / divisor * 1.06, height, 10)
    parts = [
        f'<text class="axis-title" text-anchor="middle" transform="translate(16 {height / 2}) rotate(-90)">'
        f"resident memory, {letter}</text>"
    ]
    for tick in up.ticks():
        parts.append(f'<line class="grid" x1="{left}" x2="{WIDTH - 20}" y1="{up(tick):.1f}" y2="{up(tick):.1f}"/>')
        parts.append(f'<text class="tick" text-anchor="end" x="{left - 6}" y="{up(tick) + 4:.1f}">{short(tick)}</text>')
    for index, (row, curve) in enumerate(curves):
        points = " ".join(f"{across(at / size):.1f},{up(used / divisor):.1f}" for at, used in curve if used)
        parts.append(
            f'<polyline class="curve c{index % COLORS}" points="{points}"><title>{escape(row.name)}</title></polyline>'
        )
    legend = [(f"c{index % COLORS}", row.name) for index, (row, _) in enumerate(curves)]
    return chart(
        "Memory over time", parts, across, height, f"time since the process began, {unit}", legend, from_top=10
    )


def ablation_chart(found: Benchmark) -> str:
    """Each lever's effect on steady latency, taken away and added, with its interval."""
    table = [effect for effect in effects(found) if effect.removed["latency"].ratio and effect.added["latency"].ratio]
    if not table or found.ablation is None:
        return ""
    both = [[effect.removed["latency"].ratio, effect.added["latency"].ratio] for effect in table]
    ends = [end for pair in both for ratio in pair if ratio for end in _ends(ratio)]
    reach = max(0.05, *(abs(end - 1.0) for end in ends)) * 1.05
    left = room_for([effect.lever.name for effect in table])
    scale = Scale(max(0.0, 1.0 - reach) * 100 - 100, reach * 100, left, WIDTH - RIGHT)
    row_height, parts = BAR * 2.0, []
    for index, (effect, pair) in enumerate(zip(table, both, strict=True)):
        y = (index + 0.5) * row_height
        parts.append(name_at(effect.lever.name, left, y))
        parts.append(value_at(effect.recommendation, y, "verdict"))
        for offset, style, ratio in zip((-9, 9), ("c0", "c1"), pair, strict=True):
            assert ratio is not None
            low, high = (scale(100 * end - 100) for end in _ends(ratio))
            middle = scale(100 * ratio.estimate - 100)
            zero = scale(0.0)
            parts.append(box(min(zero, middle), y + offset - 7, max(1.5, abs(middle - zero)), 14, style))
            parts.append(whisker(low, high, y + offset))
    zero = scale(0.0)
    parts.append(line("zero", zero, 0, zero, len(table) * row_height))
    full, bare = found.ablation
    legend = [("c0", f"in {full}: with it over without it"), ("c1", f"alone in {bare}: with it over without it")]
    title = "change of steady latency by the lever, % (left of 0 is quicker)"
    return chart("What each lever does", parts, scale, len(table) * row_height, title, legend)


def _ends(ratio: Interval) -> tuple[float, float]:
    """What of an interval can be drawn: of a single round, its ratio alone."""
    return (ratio.low, ratio.high) if ratio.known else (ratio.estimate, ratio.estimate)


def _measured(found: Benchmark) -> list[Row]:
    named = found.ablation or [row.name for row in found.rows]
    return [row for row in found.rows if row.runs and row.name in named]


def _phases(row: Row) -> list[float]:
    figures = ("import_seconds", "load_seconds", "warmup_total", "first_seconds")
    return [row.median(figure) or 0.0 for figure in figures]


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]  # the nearest rank, as in `omni_sdk.stats`


def _time_unit(longest: float) -> tuple[str, float]:
    return next(((unit, size) for unit, size in (("s", 1.0), ("ms", 1e-3)) if longest >= size), ("µs", 1e-6))
