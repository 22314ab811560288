"""How far a candidate's output is from its reference: one definition of each distance for every tool.

Numpy only, float64 inside. Every function takes a reference and a candidate of one shape. A candidate that holds
a NaN or an infinity is infinitely far away, never NaN, so that no comparison with a threshold lets it pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from omni_sdk.errors import InputError

Array = npt.NDArray[np.float64]

RESOLUTIONS = ((1024, 600, 120), (2048, 1200, 240), (512, 240, 50))
"""(FFT, window, hop) in samples: the three of Parallel WaveGAN (Yamamoto et al., 2020, table 1)."""

FRAMES_AT_ONCE = 512


def snr_db(reference: npt.ArrayLike, candidate: npt.ArrayLike) -> float:
    """Signal-to-noise ratio, the noise being the candidate's difference from the reference.

    Parameters
    ----------
    reference, candidate : array_like
        Numbers of any one shape.

    Returns
    -------
    float
        10 log10(sum reference^2 / sum (candidate - reference)^2) in dB. Infinity where both are equal; minus
        infinity where only the reference is all zeros, or where the candidate is not finite.

    Raises
    ------
    InputError
        The shapes differ, an array is empty, or the reference is not finite.
    """
    ref, cand = _pair(reference, candidate, "snr_db")
    if not np.isfinite(cand).all():
        return -np.inf
    scale = _scale(ref, cand)
    ref, cand = ref / scale, cand / scale
    signal, noise = float(np.sum(ref * ref)), float(np.sum((cand - ref) ** 2))
    if noise == 0.0:
        return np.inf
    return -np.inf if signal == 0.0 else 10.0 * float(np.log10(signal) - np.log10(noise))


def peak_error(reference: npt.ArrayLike, candidate: npt.ArrayLike) -> float:
    """Largest absolute difference, in the arrays' own unit.

    Parameters
    ----------
    reference, candidate : array_like
        Numbers of any one shape.

    Returns
    -------
    float
        max |candidate - reference|; infinity where the candidate is not finite.

    Raises
    ------
    InputError
        The shapes differ, an array is empty, or the reference is not finite.
    """
    ref, cand = _pair(reference, candidate, "peak_error")
    if not np.isfinite(cand).all():
        return np.inf
    return float(np.max(np.abs(cand - ref)))


def cosine(reference: npt.ArrayLike, candidate: npt.ArrayLike) -> float:
    """Cosine of the angle between both arrays, taken as vectors.

    Parameters
    ----------
    reference, candidate : array_like
        Numbers of any one shape.

    Returns
    -------
    float
        From -1 to 1: 1 for the same direction at any gain. 1 where both are all zeros, 0 where only one is, and
        -1 where the candidate is not finite.

    Raises
    ------
    InputError
        The shapes differ, an array is empty, or the reference is not finite.
    """
    ref, cand = _pair(reference, candidate, "cosine")
    if not np.isfinite(cand).all():
        return -1.0
    ref_scale, cand_scale = float(np.max(np.abs(ref))), float(np.max(np.abs(cand)))
    if ref_scale == 0.0 or cand_scale == 0.0:
        return 1.0 if ref_scale == cand_scale else 0.0
    a, b = (ref / ref_scale).ravel(), (cand / cand_scale).ravel()
    return float(np.clip(np.dot(a, b) / np.sqrt(np.dot(a, a) * np.dot(b, b)), -1.0, 1.0))


def log_spectral_distance(
    reference: npt.ArrayLike,
    candidate: npt.ArrayLike,
    *,
    n_fft: int = 1024,
    hop: int = 256,
    floor_db: float = -80.0,
) -> float:
    """Log-spectral distance: the root mean square over frequency of the level difference, averaged over frames.

    Parameters
    ----------
    reference, candidate : array_like
        Waveforms [..., samples] of one shape; leading axes are separate signals.
    n_fft : int
        Window (Hann) and transform length in samples.
    hop : int
        Samples from one frame to the next.
    floor_db : float
        Levels below this, relative to the reference's loudest bin, count as this level: without a floor,
        inaudible bins of silence would outweigh the signal.

    Returns
    -------
    float
        Distance in dB (Gray and Markel, 1976): mean over frames of sqrt(mean over bins of (dB difference)^2).
        0 for equal waveforms, infinity where the candidate is not finite.

    Raises
    ------
    InputError
        The shapes differ, an array is empty, or the reference is not finite.
    """
    ref, cand = _pair(reference, candidate, "log_spectral_distance")
    if not np.isfinite(cand).all():
        return np.inf
    total, frames = 0.0, 0
    for a, b in zip(_signals(ref), _signals(cand), strict=True):
        peak = max(float(block.max()) for block in magnitudes(a, n_fft, n_fft, hop))
        floor = max(peak * 10.0 ** (floor_db / 20.0), np.finfo(np.float64).tiny)
        for ours, theirs in zip(magnitudes(a, n_fft, n_fft, hop), magnitudes(b, n_fft, n_fft, hop), strict=True):
            gap = 20.0 * (np.log10(np.maximum(theirs, floor)) - np.log10(np.maximum(ours, floor)))
            total += float(np.sum(np.sqrt(np.mean(gap * gap, axis=1))))
            frames += len(gap)
    return total / frames


def multi_resolution_stft_distance(
    reference: npt.ArrayLike,
    candidate: npt.ArrayLike,
    *,
    resolutions: Sequence[tuple[int, int, int]] = RESOLUTIONS,
    floor_db: float = -80.0,
) -> float:
    """Multi-resolution STFT distance: spectral convergence plus log-magnitude distance, averaged over resolutions.

    Parameters
    ----------
    reference, candidate : array_like
        Waveforms [..., samples] of one shape; leading axes are separate signals.
    resolutions : sequence of (int, int, int)
        FFT length, window length (Hann) and hop of each resolution, in samples.
    floor_db : float
        Magnitudes below this, relative to the reference's largest, count as this in the logarithm.

    Returns
    -------
    float
        Mean over signals and resolutions of ||S - S'||_F / ||S||_F + mean |ln S - ln S'| over magnitudes S of the
        reference and S' of the candidate (Yamamoto et al., 2020, equations 3 to 6, with a relative floor). 0 for
        equal waveforms, infinity where the candidate is not finite or only the reference is all zeros.

    Raises
    ------
    InputError
        The shapes differ, an array is empty, or the reference is not finite.
    """
    ref, cand = _pair(reference, candidate, "multi_resolution_stft_distance")
    if not np.isfinite(cand).all():
        return np.inf
    distances = [
        _stft_distance(a, b, resolution, floor_db)
        for a, b in zip(_signals(ref), _signals(cand), strict=True)
        for resolution in resolutions
    ]
    return float(np.mean(distances))


def magnitudes(signal: Array, n_fft: int, window: int, hop: int) -> Iterator[Array]:
    """Magnitude spectrogram of one signal, a block of frames at a time, so that long audio needs little memory.

    Parameters
    ----------
    signal : numpy.ndarray
        Float64 [samples].
    n_fft, window, hop : int
        Transform length, Hann window length (centred in the transform) and frame distance, in samples.

    Yields
    ------
    numpy.ndarray
        Float64 [frames, n_fft // 2 + 1]; the first frame is centred on the first sample.
    """
    taper = np.zeros(n_fft)
    start = (n_fft - window) // 2
    taper[start : start + window] = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(window) / window)
    padded = np.pad(signal, (n_fft // 2, n_fft - n_fft // 2))
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop]
    for first in range(0, len(frames), FRAMES_AT_ONCE):
        yield np.abs(np.fft.rfft(frames[first : first + FRAMES_AT_ONCE] * taper, axis=1))


def _stft_distance(ref: Array, cand: Array, resolution: tuple[int, int, int], floor_db: float) -> float:
    peak = max(float(block.max()) for block in magnitudes(ref, *resolution))
    floor = max(peak * 10.0 ** (floor_db / 20.0), np.finfo(np.float64).tiny)
    energy = difference = log_gap = 0.0
    bins = 0
    for ours, theirs in zip(magnitudes(ref, *resolution), magnitudes(cand, *resolution), strict=True):
        energy += float(np.sum(ours * ours))
        difference += float(np.sum((ours - theirs) ** 2))
        log_gap += float(np.sum(np.abs(np.log(np.maximum(ours, floor)) - np.log(np.maximum(theirs, floor)))))
        bins += ours.size
    if energy == 0.0:
        return 0.0 if difference == 0.0 else np.inf
    return float(np.sqrt(difference / energy)) + log_gap / bins


def _pair(reference: npt.ArrayLike, candidate: npt.ArrayLike, where: str) -> tuple[Array, Array]:
    ref, cand = np.asarray(reference), np.asarray(candidate)
    for name, array in (("reference", ref), ("candidate", cand)):
        if array.dtype.kind not in "buif":
            raise InputError(f"Expected real numbers, got dtype {array.dtype} - at {where}, {name}")
    if ref.shape != cand.shape:
        raise InputError(f"Expected a candidate of shape {ref.shape}, got {cand.shape} - at {where}")
    if ref.size == 0:
        raise InputError(f"Expected at least one value, got an empty array of shape {ref.shape} - at {where}")
    ref, cand = ref.astype(np.float64), cand.astype(np.float64)
    if not np.isfinite(ref).all():
        bad = int(np.count_nonzero(~np.isfinite(ref)))
        raise InputError(f"Expected a finite reference, got {bad} of {ref.size} values not finite - at {where}")
    return ref, cand


def _scale(ref: Array, cand: Array) -> float:
    """A power of two near the largest magnitude: squares neither overflow nor vanish, and no value is rounded."""
    largest = max(float(np.max(np.abs(ref))), float(np.max(np.abs(cand))))
    return 2.0 ** np.floor(np.log2(largest)) if largest > 0.0 else 1.0


def _signals(array: Array) -> Array:
    return array.reshape(-1, array.shape[-1]) if array.ndim else array.reshape(1, 1)
