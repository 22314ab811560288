"""Names what is wrong with a candidate: shifted, too loud, offset, inverted, cut short, clipped or noisy.

A candidate is explained as `gain * reference[n - lag] + offset` plus noise. The three are fitted by least squares, so
that a planted error comes out as its own figure and does not drown in one signal-to-noise ratio.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from omni_sdk.tools import metrics
from omni_sdk.tools.statistics import student_quantile

Array = npt.NDArray[np.float64]

LIKENESS = 0.5
"""Correlation from which on a shifted candidate still counts as the same signal."""
SHIFT_GAIN_DB = 1.0
"""How much better the candidate has to fit when shifted, for the shift to be real."""
CONFIDENCE = 0.9973
"""That a gain or an offset differs from none: three standard errors where samples are many, more where they are few."""
CLIPPED_SIGMAS = 3.0
"""How far beyond the candidate's extreme the fit has to go, in the noise's own measure, for a value to be clipped."""
FITTED = 2
"""Gain and offset: so many samples are explained by any of them, and tell nothing of their error."""
LEAST_OVERLAP = 64
"""Samples that a shifted candidate has to share with the reference: a few resemble each other by chance."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """How the candidate follows from the reference.

    Attributes
    ----------
    lag : int
        Samples by which the candidate comes late; negative where it is early.
    gain : float
        Factor on the reference.
    offset : float
        Added constant, in the output's unit.
    gain_error, offset_error : float
        Half widths of both fits' confidence intervals; infinite where there are too few samples to have any.
    explained_snr_db : float
        Signal-to-noise ratio once lag, gain and offset are accounted for: what is left is noise.
    clipped : int
        Values that stand at the candidate's extreme where the reference goes on beyond it.
    """

    lag: int
    gain: float
    offset: float
    gain_error: float
    offset_error: float
    explained_snr_db: float
    clipped: int

    def gain_is_off(self, limit: float) -> bool:
        """The gain differs from 1 by more than `limit` and by more than chance."""
        return abs(self.gain - 1.0) > max(limit, self.gain_error)

    def is_inverted(self) -> bool:
        """The gain is negative, by more than chance, and explains the candidate."""
        return self.gain < -self.gain_error and self.explained_snr_db > 0.0

    def offset_is_off(self, limit: float) -> bool:
        """The offset exceeds `limit`, in the output's unit, and chance."""
        return abs(self.offset) > max(limit, self.offset_error)


def diagnose(reference: npt.ArrayLike, candidate: npt.ArrayLike, *, max_lag: int = 0) -> Diagnosis:
    """Fit lag, gain and offset.

    Parameters
    ----------
    reference, candidate : array_like
        Finite real numbers [..., samples]; the last axis may differ in length, what both have is compared.
    max_lag : int
        Samples by which to search for a shift; 0 for outputs that are no waveforms.

    Returns
    -------
    Diagnosis
        The lag is 0 unless another fits better by more than a decibel.
    """
    ref, cand = (np.asarray(a, dtype=np.float64).reshape(-1, np.shape(a)[-1] if np.ndim(a) else 1)
                 for a in (reference, candidate))  # fmt: skip
    furthest = min(max_lag, min(ref.shape[1], cand.shape[1]) - LEAST_OVERLAP)
    lag = find_lag(ref, cand, furthest) if furthest > 0 else 0
    ref, cand = overlap(ref, cand, lag)
    deviation, count = ref - ref.mean(), ref.size
    spread = float(np.sum(deviation * deviation))
    gain = float(np.sum(deviation * cand)) / spread if spread > 0.0 else 1.0
    offset = float(cand.mean() - gain * ref.mean())
    fitted = gain * ref + offset
    # What two fitted figures take up is missing in the residue.
    freedom = count - FITTED
    noise = float(np.sqrt(np.sum((cand - fitted) ** 2) / max(freedom, 1)))
    errors = student_quantile(CONFIDENCE, freedom) if freedom > 0 else math.inf
    lever = float(ref.mean()) ** 2 / spread if spread > 0.0 else 0.0  # of a reference far from zero on its offset
    low, high = float(cand.min()), float(cand.max())
    beyond = ((cand == high) & (fitted > high)) | ((cand == low) & (fitted < low))
    margin = CLIPPED_SIGMAS * noise + 1e-6 * max(abs(low), abs(high))
    beyond &= (fitted > high + margin) | (fitted < low - margin)
    return Diagnosis(
        lag=lag,
        gain=gain,
        offset=offset,
        gain_error=errors * noise / math.sqrt(spread) if spread > 0.0 and freedom > 0 else math.inf,
        offset_error=errors * noise * math.sqrt(1.0 / count + lever) if freedom > 0 else math.inf,
        explained_snr_db=metrics.snr_db(fitted, cand),
        clipped=int(np.count_nonzero(beyond)),
    )


def overlap(reference: Array, candidate: Array, lag: int) -> tuple[Array, Array]:
    """The samples that both have once a candidate that is `lag` samples late is drawn forward."""
    ref, cand = reference[..., max(-lag, 0) :], candidate[..., max(lag, 0) :]
    count = min(ref.shape[-1], cand.shape[-1])
    return ref[..., :count], cand[..., :count]


def find_lag(reference: Array, candidate: Array, max_lag: int) -> int:
    """Samples by which the candidate is late.

    Parameters
    ----------
    reference, candidate : numpy.ndarray
        Float64 [signals, samples].
    max_lag : int
        Largest shift to look for, either way.

    Returns
    -------
    int
        Where the normalised cross-correlation is largest in magnitude; 0 unless that place fits better than no shift
        by more than a decibel and is a likeness at all.
    """
    lags = np.arange(-max_lag, max_lag + 1)
    size = reference.shape[1] + candidate.shape[1]
    spectrum = np.conj(np.fft.rfft(reference, size)) * np.fft.rfft(candidate, size)
    products = np.fft.irfft(spectrum.sum(axis=0), size)[lags]
    likeness = products**2 / _overlap_energy(reference, candidate, lags)
    best = float(likeness.max())
    # Among equals, as in a pure tone, the smallest shift is meant.
    near = lags[likeness >= best - 1e-9]
    lag = int(near[np.argmin(np.abs(near))])
    unshifted = float(likeness[max_lag])
    # The share of the signal that a fitted gain leaves unexplained is 1 - likeness.
    better = 1.0 - best < (1.0 - unshifted) * 10.0 ** (-SHIFT_GAIN_DB / 10.0)
    return lag if better and best >= LIKENESS**2 else 0


def _overlap_energy(reference: Array, candidate: Array, lags: npt.NDArray[np.int_]) -> Array:
    """Product of both signals' energies over the samples that they share, for each lag."""
    ref, cand = (np.concatenate([[0.0], np.cumsum(np.sum(a * a, axis=0))]) for a in (reference, candidate))
    begin, end = np.maximum(-lags, 0), np.minimum(reference.shape[1], candidate.shape[1] - lags)
    energy = (ref[end] - ref[begin]) * (cand[end + lags] - cand[begin + lags])
    return np.asarray(np.maximum(energy, np.finfo(np.float64).tiny))
