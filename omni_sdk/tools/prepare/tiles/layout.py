"""Whether the model channels last, in its tiles, is faster on this device than the same model channels first.

`omni::Conv1d` is faster than ONNX Runtime's `Conv` on the decoders that it was made for. Narrow layers, few columns or
another processor may say otherwise, and then the model is better left as it was.
"""

from __future__ import annotations

import dataclasses
import logging
import statistics
from collections.abc import Sequence
from pathlib import Path

from omni_sdk.tools.prepare.tiles.choice import Tiled
from omni_sdk.tools.prepare.tiles.clock import Step
from omni_sdk.tools.prepare.timing import race

log = logging.getLogger(__name__)

NO_SLOWER = 1.02
"""Channels last stays up to this multiple of the time: less is no more than noise."""


def faster_layout(first: Path, tiled: Tiled, steps: Sequence[Step], threads: int | None) -> Tiled:
    """Race the two layouts at every declared size; the mean of the ratios decides.

    Parameters
    ----------
    first : pathlib.Path
        The model channels first.
    tiled : Tiled
        The model channels last, as its tiles were chosen.
    steps : sequence of Step
        Feeds of the declared sizes; without any, nothing is timed and nothing changes.
    threads : int or None
        Of the timed sessions.

    Returns
    -------
    Tiled
        The same with what was measured, or the model channels first.
    """
    if tiled.tiling is None or not steps:
        return tiled
    ratios = tuple(race(first, tiled.graph, step.feeds, threads).ratio for step in steps)
    stays_first = statistics.fmean(ratios) > NO_SLOWER
    log.info("channels last takes %s of the time of channels first", ratios)
    tiling = dataclasses.replace(tiled.tiling, channels_first_ratios=ratios, is_kept=not stays_first)
    return Tiled(first if stays_first else tiled.graph, tiling)
