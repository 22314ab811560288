"""Shapes, axes and legends of inline SVG charts, coloured by the page's own variables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 920
NAME_WIDTH = 7.9
"""Of one letter of a name, at most, on average."""

RIGHT = 90
"""Room for values at the right."""

LONGEST_NAME = 38
AXIS = 44


@dataclass(frozen=True, slots=True)
class Scale:
    """From values to pixels, with its ticks."""

    low: float
    high: float
    left: float
    right: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, value = (math.log(x) for x in (self.low, self.high, value)) if self.log else (
            self.low, self.high, value)  # fmt: skip
        share = (value - low) / (high - low) if high > low else 0.5
        return self.left + min(1.0, max(0.0, share)) * (self.right - self.left)

    def ticks(self) -> list[float]:
        """Round values inside the range."""
        if self.log:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            digits = (1, 3) if len(powers) > 2 else (1, 2, 5)
            found = [digit * 10.0**power for power in powers for digit in digits]
            return [value for value in found if self.low <= value <= self.high]
        step = _step((self.high - self.low) / 6)
        first = math.ceil(self.low / step - 1e-9)
        return [step * index for index in range(first, math.floor(self.high / step + 1e-9) + 1)]


def chart(
    title: str,
    parts: Sequence[str],
    scale: Scale,
    height: float,
    axis: str,
    legend: Sequence[tuple[str, str]] = (),
    from_top: float = 0.0,
) -> str:
    """A chart with its horizontal axis below and a legend above."""
    grid = []
    for tick in scale.ticks():
        x = scale(tick)
        grid.append(line("grid", x, from_top, x, height))
        grid.append(f'<text class="tick" text-anchor="middle" x="{x:.1f}" y="{height + 16:.1f}">{short(tick)}</text>')
    middle = (scale.left + scale.right) / 2
    grid.append(
        f'<text class="axis-title" text-anchor="middle" x="{middle}" y="{height + 36:.1f}">{escape(axis)}</text>'
    )
    keys = "".join(f'<span><i class="{style}"></i>{escape(name)}</span>' for style, name in legend)
    return (
        f"<figure><figcaption>{escape(title)}</figcaption>"
        + (f'<div class="legend">{keys}</div>' if keys else "")
        + f'<svg viewBox="0 -4 {WIDTH} {height + AXIS + 4:.0f}" role="img" aria-label="{escape(title)}">'
        + "".join([*grid, *parts])
        + "</svg></figure>"
    )


def room_for(names: Sequence[str]) -> float:
    """Where charts begin, so that the longest name fits at their left."""
    return 24.0 + NAME_WIDTH * min(LONGEST_NAME, max((len(name) for name in names), default=0))


def name_at(text: str, right: float, y: float) -> str:
    """A row's name that ends at `right`, shortened at its front where it is long."""
    shown = text if len(text) <= LONGEST_NAME else f"…{text[1 - LONGEST_NAME :]}"
    where = f'text-anchor="end" x="{right - 10:.0f}" y="{y + 4:.1f}"'
    return f'<text class="name" {where}>{escape(shown)}<title>{escape(text)}</title></text>'


def value_at(text: str, y: float, style: str = "value") -> str:
    """A row's figure at the right."""
    return f'<text class="{style}" x="{WIDTH - RIGHT + 8}" y="{y + 4:.1f}">{escape(text)}</text>'


def box(x: float, y: float, width: float, height: float, style: str, title: str = "") -> str:
    """A filled rectangle; the title shows on hovering."""
    inside = f"<title>{escape(title)}</title>" if title else ""
    return f'<rect class="{style}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height}">{inside}</rect>'


def line(style: str, x1: float, y1: float, x2: float, y2: float) -> str:
    """A straight line."""
    return f'<line class="{style}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def whisker(low: float, high: float, y: float) -> str:
    """An interval: a line with its ends marked."""
    ends = "".join(line("whisker", x, y - 4, x, y + 4) for x in (low, high))
    return line("whisker", low, y, high, y) + ends


def jitter(index: int) -> float:
    """Dots of one row lie over a band instead of on one another; the golden ratio spreads them evenly."""
    return 16.0 * ((index * 0.6180339887) % 1.0 - 0.5)


def short(value: float) -> str:
    """Three digits."""
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def _step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough)) if rough > 0 else 1.0
    return next(digit * power for digit in (1, 2, 5, 10) if digit * power >= rough * (1 - 1e-9))
