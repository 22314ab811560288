"""A picture of a drift that a person can judge: waveforms, spectrograms, and what is between them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from omni_sdk.errors import InputError
from omni_sdk.tools import metrics
from omni_sdk.tools.evaluate.drift.compare import WAVEFORM
from omni_sdk.tools.evaluate.drift.run import DriftReport, Pair
from omni_sdk.tools.evaluate.extras import require
from omni_sdk.tools.evaluate.output import check_picture

FLOOR_DB = -80.0
COLUMNS = 2_000
"""Pixels across that a waveform is drawn for: longer ones as the least and most of each stretch."""
POINTS = 20_000
REFERENCE_COLOR, CANDIDATE_COLOR, DIFFERENCE_COLOR = "#4a5560", "#0b6fc2", "#c23b22"


def draw_drift(report: DriftReport, path: str | Path) -> Path:
    """Draw the output that is worst: one that fails before one that passes, a waveform before other numbers.

    Parameters
    ----------
    report : DriftReport
        From `drift`.
    path : str or Path
        PNG, SVG or PDF, by its suffix.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        The suffix is another, the file cannot be written, or the models share no output.
    """
    path = check_picture(path)
    if not report.pairs:
        raise InputError(f"Expected an output that both have, got none to draw - at {path}")
    worst = min(report.pairs, key=_badness)
    figure = require("matplotlib.figure").Figure(figsize=(11, 9), layout="constrained")
    is_alike = worst.reference.shape[:-1] == worst.candidate.shape[:-1]
    if worst.drift.kind == WAVEFORM and is_alike and worst.reference.size and worst.candidate.size:
        _draw_waveforms(figure, worst, report.sample_rate)
    else:
        _draw_numbers(figure, worst)
    name = " ".join(filter(None, (worst.drift.case, worst.drift.name)))
    verdict = worst.drift.faults or ("passes",)
    figure.suptitle("\n".join([f"{name}: SNR {worst.drift.snr_db:.1f} dB", *verdict]), fontsize=10)
    figure.savefig(path, dpi=120)
    return path


def _badness(pair: Pair) -> tuple[bool, bool, float]:
    return (not pair.drift.faults, pair.drift.kind != WAVEFORM, pair.drift.snr_db)


def _draw_waveforms(figure: Any, pair: Pair, sample_rate: int) -> None:
    ref, cand = _worst_signal(pair)
    waves, difference, ours, theirs, gap = figure.subplots(5, 1, sharex=True, height_ratios=(1, 0.8, 1.2, 1.2, 1.2))
    _plot(waves, ref, sample_rate, REFERENCE_COLOR, "reference")
    _plot(waves, cand, sample_rate, CANDIDATE_COLOR, "candidate")
    waves.legend(loc="upper right", ncols=2, fontsize=8)
    waves.set_ylabel("amplitude")
    _plot(difference, cand - ref, sample_rate, DIFFERENCE_COLOR, "difference")
    difference.set_ylabel("difference")
    one, other = _levels(ref), _levels(cand)
    top = float(one.max())
    extent = (0.0, ref.size / sample_rate, 0.0, sample_rate / 2000.0)
    shared = {"origin": "lower", "aspect": "auto", "extent": extent, "interpolation": "nearest"}
    for axis, levels, label in ((ours, one, "reference"), (theirs, other, "candidate")):
        image = axis.imshow(levels.T, vmin=top + FLOOR_DB, vmax=top, cmap="magma", **shared)
        axis.set_ylabel(f"{label}\nkHz")
    figure.colorbar(image, ax=[ours, theirs], label="dB")
    floor = top + FLOOR_DB
    change = np.maximum(other, floor) - np.maximum(one, floor)
    image = gap.imshow(change.T, vmin=-12.0, vmax=12.0, cmap="RdBu_r", **shared)
    gap.set_ylabel("candidate - reference\nkHz")
    gap.set_xlabel("seconds")
    figure.colorbar(image, ax=gap, label="dB")


def _worst_signal(pair: Pair) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Of several channels or of a batch, the one that differs most; what is not finite is drawn as silence."""
    count = min(pair.reference.shape[-1], pair.candidate.shape[-1])
    ref, cand = (
        np.nan_to_num(a.reshape(-1, a.shape[-1])[:, :count].astype(np.float64), posinf=0.0, neginf=0.0)
        for a in (pair.reference, pair.candidate)
    )
    worst = int(np.argmax(np.sum((cand - ref) ** 2, axis=1)))
    return ref[worst], cand[worst]


def _draw_numbers(figure: Any, pair: Pair) -> None:
    axis = figure.subplots()
    ref, cand = pair.reference.ravel(), pair.candidate.ravel()
    if pair.reference.shape != pair.candidate.shape or not ref.size or ref.dtype.kind not in "biuf":
        axis.text(0.5, 0.5, f"{pair.reference.shape} against {pair.candidate.shape}", ha="center")
        return
    chosen = np.linspace(0, ref.size - 1, min(ref.size, POINTS)).astype(int)
    axis.plot(ref[chosen], cand[chosen], ".", markersize=3, color=CANDIDATE_COLOR, alpha=0.5)
    low, high = float(np.min(ref)), float(np.max(ref))
    axis.plot([low, high], [low, high], linewidth=1, color=REFERENCE_COLOR, label="equal")
    axis.set(xlabel="reference", ylabel="candidate")
    axis.legend()


def _plot(axis: Any, samples: npt.NDArray[np.float64], sample_rate: int, color: str, label: str) -> None:
    stride = -(-samples.size // COLUMNS)
    if stride < 4:
        axis.plot(np.arange(samples.size) / sample_rate, samples, linewidth=0.7, color=color, label=label, alpha=0.8)
        return
    starts = np.arange(0, samples.size, stride)
    low, high = np.minimum.reduceat(samples, starts), np.maximum.reduceat(samples, starts)
    axis.fill_between(starts / sample_rate, low, high, linewidth=0.3, color=color, label=label, alpha=0.7)


def _levels(samples: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    spectrum = np.concatenate(list(metrics.magnitudes(samples, 1024, 1024, 256)))
    return np.asarray(20.0 * np.log10(np.maximum(spectrum, 1e-12)))
