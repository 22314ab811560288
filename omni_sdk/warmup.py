"""When a warm-up is over.

With ORT's memory pattern on, the second pass at a shape is as slow as the first (it allocates the block that the
pattern asks for) and the third is the first quick one; with it off the first pass already grows the arena to its size
and the second is quick. So two passes that agree say "settled" only after that many; where the device's own noise
keeps passes apart, a warm-up ends when more of them bring nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from omni_sdk.errors import InputError, SettingsError
from omni_sdk.settings_check import check_value

# Two passes this close together count as settled: run-to-run noise of a shared device, and of its clock.
SETTLED_WITHIN = 0.05
SETTLED_WITHIN_SECONDS = 20e-6
# Passes in a row that are no quicker than the best before them: what is left is noise.
WITHOUT_GAIN = 3
# The first pass whose latency counts: the one after ORT allocated what it keeps.
FIRST_QUICK_PASS = {True: 3, False: 2}


@dataclass(frozen=True, slots=True)
class ShapeWarmup:
    """The passes at one set of input shapes.

    Attributes
    ----------
    shapes : mapping of str to tuple of int
    seconds : tuple of float
        Of each pass.
    reason : str
        Why it stopped.
    """

    shapes: Mapping[str, tuple[int, ...]]
    seconds: tuple[float, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class WarmupReport:
    """What `Model.warmup` did: one entry for each set of shapes."""

    shapes: tuple[ShapeWarmup, ...]

    @property
    def seconds(self) -> tuple[float, ...]:
        """Of every pass, in order."""
        return tuple(second for entry in self.shapes for second in entry.seconds)

    @property
    def total_seconds(self) -> float:
        """Of all passes together."""
        return sum(self.seconds)

    def __str__(self) -> str:
        lines = [
            f"{', '.join(f'{name} {list(shape)}' for name, shape in entry.shapes.items())}: "
            f"{' '.join(f'{second * 1e3:.2f}' for second in entry.seconds)} ms, {entry.reason}"
            for entry in self.shapes
        ]
        return "\n".join(lines) or "nothing to warm up"


def checked(passes: Any) -> int | tuple[int, int]:
    """How many passes a call asked for. `InputError` when it is neither a number of them nor the least and the most."""
    try:
        check_value("warmup_passes", passes)
    except SettingsError as error:
        raise InputError(f"Expected a number of passes, or (least, most), got {passes!r} - at passes") from error
    return passes  # type: ignore[no-any-return]


def bounds(passes: int | tuple[int, int], *, memory_pattern: bool) -> tuple[int, int]:
    """The least and the most passes, from what was asked.

    Parameters
    ----------
    passes : int or (int, int)
        A number to run exactly, or bounds; the lower one is raised to where latency can first be judged.
    memory_pattern : bool
        Whether ORT plans intermediate buffers as one block.
    """
    if isinstance(passes, int):
        return passes, passes
    least, most = passes
    return min(max(least, FIRST_QUICK_PASS[memory_pattern]), most), most


def warm(
    feeds: Mapping[str, np.ndarray], run: Callable[[dict[str, np.ndarray]], object], least: int, most: int
) -> ShapeWarmup:
    """Run the passes at one set of shapes.

    Parameters
    ----------
    feeds : mapping of str to ndarray
    run : callable
        One pass on them.
    least, most : int
        Bounds, as `settle` takes them.
    """

    def timed() -> float:
        started = time.perf_counter()
        run(dict(feeds))
        return time.perf_counter() - started

    seconds, reason = settle(timed, least, most)
    return ShapeWarmup({name: array.shape for name, array in feeds.items()}, seconds, reason)


def settle(run: Callable[[], float], least: int, most: int) -> tuple[tuple[float, ...], str]:
    """Repeat a pass until its latency has settled.

    Parameters
    ----------
    run : callable
        One pass; returns its seconds.
    least, most : int
        Bounds; where they are equal that many passes run.

    Returns
    -------
    tuple of float
        Seconds of each pass.
    str
        Why it stopped.
    """
    seconds: list[float] = []
    while len(seconds) < most:
        seconds.append(run())
        reason = verdict(seconds) if least < most and len(seconds) >= least else None
        if reason is not None:
            return tuple(seconds), reason
    return tuple(seconds), "passes as asked" if least == most else f"not settled within {most} passes"


def verdict(seconds: Sequence[float]) -> str | None:
    """Why passes that took these seconds need no further one; None where they do.

    Settled means that the last two agree within the noise and are as quick as any before: two slow passes that agree
    are a plateau that may end.
    """
    if len(seconds) < 2:
        return None
    best = min(seconds)
    noise = max(SETTLED_WITHIN * best, SETTLED_WITHIN_SECONDS)
    if max(seconds[-2:]) - best <= noise:
        return "settled"
    before = seconds[:-WITHOUT_GAIN]
    if before and min(seconds[-WITHOUT_GAIN:]) >= min(before):
        return f"no quicker for {WITHOUT_GAIN} passes"
    return None
