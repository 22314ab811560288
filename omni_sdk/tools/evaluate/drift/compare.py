"""One output against another: distances, faults by name, and a verdict against limits."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from omni_sdk.errors import InputError
from omni_sdk.tools import metrics
from omni_sdk.tools.evaluate.drift.faults import Diagnosis, diagnose

WAVEFORM, NUMBERS, DISCRETE = "waveform", "numbers", "discrete"

LONGEST_SHIFT = 4_800
"""Samples by which a shift is searched for: 0.2 s at 24 kHz."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How far a candidate may be from its reference. None sets no limit.

    Attributes
    ----------
    snr_db : float
        Least signal-to-noise ratio, of waveforms and other numbers.
    log_spectral_distance_db, stft_distance : float
        Most, of waveforms.
    peak_error : float, optional
        Most, in the output's unit.
    cosine : float
        Least, of numbers that are no waveform.
    gain_error : float
        Most by which a fitted gain may differ from 1.
    offset : float
        Most of an added constant, as a share of the reference's root mean square.
    value_range : (float, float), optional
        Within which a waveform has to stay.
    threads_snr_db : float
        Least between runs on different thread counts, which may add up in another order.

    Raises
    ------
    InputError
        One is NaN: nothing would be beyond it. Or the range ends before it begins: nothing would be within.
    """

    snr_db: float = 30.0
    log_spectral_distance_db: float = 1.0
    stft_distance: float = 0.2
    peak_error: float | None = None
    cosine: float = 0.999
    gain_error: float = 0.005
    offset: float = 0.001
    value_range: tuple[float, float] | None = (-1.0, 1.0)
    threads_snr_db: float = 60.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and np.isnan(value).any():
                raise InputError(f"Expected a number, got nan - at Limits.{field.name}")
        if self.value_range is not None and self.value_range[0] > self.value_range[1]:
            low, high = self.value_range
            raise InputError(f"Expected a range from low to high, got {low:g} to {high:g} - at Limits.value_range")


@dataclass(frozen=True, slots=True)
class OutputDrift:
    """How far one output of one case is from the reference's.

    Attributes
    ----------
    case, name : str
        Which inputs, and which output.
    kind : str
        `"waveform"`, `"numbers"` or `"discrete"` (integers, truth values and strings).
    shape : tuple of int
        The candidate's.
    bit_equal : bool
        Same dtype, shape and bytes.
    snr_db, peak_error, cosine : float
        See `omni_sdk.tools.metrics`; over the samples that both have, unshifted.
    log_spectral_distance_db, stft_distance : float or None
        Of waveforms.
    diagnosis : Diagnosis or None
        The fitted lag, gain and offset; None where there is nothing to fit.
    faults : tuple of str
        What is wrong, named for what it is; empty where the candidate passes.
    """

    case: str
    name: str
    kind: str
    shape: tuple[int, ...]
    bit_equal: bool
    snr_db: float = np.inf
    peak_error: float = 0.0
    cosine: float = 1.0
    log_spectral_distance_db: float | None = None
    stft_distance: float | None = None
    diagnosis: Diagnosis | None = None
    faults: tuple[str, ...] = ()


def compare(
    reference: npt.NDArray[Any],
    candidate: npt.NDArray[Any],
    *,
    case: str = "",
    name: str = "",
    waveform: bool = False,
    limits: Limits | None = None,
) -> OutputDrift:
    """Compare two arrays.

    Parameters
    ----------
    reference, candidate : numpy.ndarray
        Numbers, truth values or strings; waveforms are [..., samples] and may differ in length.
    case, name : str
        For the report.
    waveform : bool
        Measure spectral distances, and look for shifts and for values out of range.
    limits : Limits, optional
        The defaults are meant for a quantized vocoder.

    Returns
    -------
    OutputDrift
        With its faults, which make the verdict.
    """
    limits = limits or Limits()
    is_wave = waveform and min(reference.ndim, candidate.ndim) > 0  # one number alone is no waveform
    kind = DISCRETE if reference.dtype.kind != "f" else WAVEFORM if is_wave else NUMBERS
    equal = same_bits(reference, candidate)
    drift = OutputDrift(case, name, kind, candidate.shape, equal)
    if reference.shape[:-1] != candidate.shape[:-1] or (kind != WAVEFORM and reference.shape != candidate.shape):
        return _failed(drift, f"shape: {candidate.shape} where the reference has {reference.shape}")
    if (reference.dtype.kind == "U") != (candidate.dtype.kind == "U"):
        return _failed(drift, f"type: {candidate.dtype} where the reference has {reference.dtype}")
    if kind == DISCRETE:
        differing = int(np.count_nonzero(reference != candidate))
        return _failed(drift, f"{differing} of {reference.size} values differ") if differing else drift
    if reference.size == 0 or candidate.size == 0:
        return drift if reference.shape == candidate.shape else _failed(drift, f"length: {candidate.shape[-1]} samples")
    for array, whose in ((reference, "the reference"), (candidate, "the candidate")):
        if bad := int(np.count_nonzero(~np.isfinite(array))):
            return _failed(drift, f"not finite: {bad} of {array.size} values of {whose}")
    return _measure(drift, reference, candidate, limits)


def same_bits(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> bool:
    """Same dtype, shape and bytes: 0.0 is not -0.0, and a NaN is itself."""
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


def _failed(drift: OutputDrift, fault: str) -> OutputDrift:
    return replace(drift, snr_db=-np.inf, peak_error=np.inf, cosine=-1.0, faults=(fault,))


def _measure(
    drift: OutputDrift, reference: npt.NDArray[Any], candidate: npt.NDArray[Any], limits: Limits
) -> OutputDrift:
    is_wave = drift.kind == WAVEFORM
    count = min(reference.shape[-1], candidate.shape[-1]) if is_wave else None
    ref, cand = (reference[..., :count], candidate[..., :count]) if is_wave else (reference, candidate)
    diagnosis = diagnose(reference, candidate, max_lag=LONGEST_SHIFT if is_wave else 0)
    measured = replace(
        drift,
        snr_db=metrics.snr_db(ref, cand),
        peak_error=metrics.peak_error(ref, cand),
        cosine=metrics.cosine(ref, cand),
        log_spectral_distance_db=metrics.log_spectral_distance(ref, cand) if is_wave else None,
        stft_distance=metrics.multi_resolution_stft_distance(ref, cand) if is_wave else None,
        diagnosis=diagnosis,
    )
    faults = _named(diagnosis, reference, candidate, limits) + _beyond(measured, diagnosis, limits)
    if is_wave and limits.value_range is not None:
        faults += _out_of_range(candidate, *limits.value_range)
    return replace(measured, faults=tuple(faults))


def _named(diagnosis: Diagnosis, reference: npt.NDArray[Any], candidate: npt.NDArray[Any], limits: Limits) -> list[str]:
    found = []
    if reference.shape != candidate.shape:
        found.append(f"length: {candidate.shape[-1]} samples where the reference has {reference.shape[-1]}")
    if diagnosis.lag:
        late = "late" if diagnosis.lag > 0 else "early"
        plural = "" if abs(diagnosis.lag) == 1 else "s"
        found.append(f"shift: {abs(diagnosis.lag)} sample{plural} {late}")
    if diagnosis.is_inverted():
        found.append(f"inverted: gain {diagnosis.gain:.4f}")
    elif diagnosis.gain_is_off(limits.gain_error):
        found.append(f"gain: {diagnosis.gain:.4f} ({100 * (diagnosis.gain - 1):+.2f} %)")
    rms = float(np.sqrt(np.mean(np.square(reference, dtype=np.float64))))
    if diagnosis.offset_is_off(limits.offset * rms):
        found.append(f"offset: {diagnosis.offset:+.3g}")
    if diagnosis.clipped:
        found.append(f"clipped: {diagnosis.clipped} values at {float(np.abs(candidate).max()):.4g}")
    if diagnosis.explained_snr_db < limits.snr_db:
        found.append(f"noise: {diagnosis.explained_snr_db:.1f} dB is left of the signal, {limits.snr_db:g} expected")
    return found


def _out_of_range(candidate: npt.NDArray[Any], low: float, high: float) -> list[str]:
    beyond = np.maximum(low - candidate, candidate - high)
    outside, worst = int(np.count_nonzero(beyond > 0.0)), float(candidate.flat[np.argmax(beyond)])
    return [f"range: {outside} values outside {low:g} to {high:g}, the farthest {worst:.4g}"] if outside else []


def _beyond(drift: OutputDrift, diagnosis: Diagnosis, limits: Limits) -> list[str]:
    """Limits that the plain distances exceed, whatever the cause."""
    most = (
        ("log-spectral distance", drift.log_spectral_distance_db, limits.log_spectral_distance_db, " dB"),
        ("STFT distance", drift.stft_distance, limits.stft_distance, ""),
        ("peak error", drift.peak_error, limits.peak_error, ""),
    )
    found = [
        f"{name}: {value:.4g}{unit}, at most {limit:g} expected"
        for name, value, limit, unit in most
        if value is not None and limit is not None and value > limit
    ]
    # Where noise is to blame it was named already; here the faults above explain the ratio.
    if drift.snr_db < limits.snr_db <= diagnosis.explained_snr_db:
        found.append(f"SNR: {drift.snr_db:.1f} dB, at least {limits.snr_db:g} expected")
    if drift.kind == NUMBERS and drift.cosine < limits.cosine:
        found.append(f"cosine: {drift.cosine:.6f}, at least {limits.cosine:g} expected")
    return found
