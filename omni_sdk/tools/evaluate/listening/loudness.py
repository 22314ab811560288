"""Programme loudness after ITU-R BS.1770-4, and the gains that make clips equally loud."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]
Array = npt.NDArray[np.float64]

TARGET_LUFS = -23.0
"""EBU R 128's programme level."""
PEAK_DBFS = -1.0
"""No sample is louder than this after matching."""
SILENCE_LUFS = -70.0
"""BS.1770's absolute gate, and what silence is said to have."""


def loudness_lufs(samples: Samples, sample_rate: int) -> float:
    """Integrated loudness of a mono clip.

    Parameters
    ----------
    samples : numpy.ndarray
        Float32 [samples], full scale at 1.
    sample_rate : int
        Hz.

    Returns
    -------
    float
        LUFS by ITU-R BS.1770-4: K-weighting, blocks of 400 ms that overlap by 75 %, gates at -70 LUFS and 10 LU below
        the mean. A clip shorter than a block is one block. Silence has -70.
    """
    weighted = _k_weighted(samples.astype(np.float64), sample_rate)
    block, hop = min(weighted.size, round(0.4 * sample_rate)), round(0.1 * sample_rate)
    squares = np.concatenate([[0.0], np.cumsum(weighted * weighted)])
    starts = np.arange(0, weighted.size - block + 1, hop)
    power = np.maximum((squares[starts + block] - squares[starts]) / block, 0.0)
    loud = power[_lufs(power) > SILENCE_LUFS]
    if loud.size == 0:
        return SILENCE_LUFS
    return float(_lufs(np.mean(loud[_lufs(loud) > _lufs(np.mean(loud)) - 10.0])))


def matching_gains(clips: Sequence[Samples], sample_rates: Sequence[int]) -> tuple[float, list[float]]:
    """Gains that bring clips to one loudness without clipping any.

    Parameters
    ----------
    clips : sequence of numpy.ndarray
        Float32 [samples] each.
    sample_rates : sequence of int
        Hz of each.

    Returns
    -------
    (float, list of float)
        The common loudness in LUFS, -23 or as much lower as the peakiest clip needs; and each clip's gain in dB.
        Silent clips keep their level.
    """
    levels = [loudness_lufs(clip, rate) for clip, rate in zip(clips, sample_rates, strict=True)]
    target = TARGET_LUFS
    for clip, level in zip(clips, levels, strict=True):
        if level > SILENCE_LUFS:
            target = min(target, level + PEAK_DBFS - 20.0 * float(np.log10(np.max(np.abs(clip)))))
    return target, [target - level if level > SILENCE_LUFS else 0.0 for level in levels]


def _lufs(power: Array | np.floating) -> Array:
    return np.asarray(-0.691 + 10.0 * np.log10(np.maximum(power, np.finfo(np.float64).tiny)))


def _k_weighted(samples: Array, sample_rate: int) -> Array:
    """Filter by the spectrum; a second of silence behind keeps the tail from coming round."""
    size = samples.size + sample_rate
    z = np.exp(-2j * np.pi * np.fft.rfftfreq(size))
    spectrum = np.fft.rfft(samples, size)
    for zeros, poles in (_shelf(sample_rate), _high_pass(sample_rate)):
        spectrum = spectrum * np.polyval(zeros[::-1], z) / np.polyval(poles[::-1], z)
    return np.fft.irfft(spectrum, size)[: samples.size]


def _shelf(sample_rate: int) -> tuple[Array, Array]:
    """BS.1770's first stage for any rate: the analogue shelf behind its 48 kHz table, by the bilinear transform."""
    k = np.tan(np.pi * 1681.974450955533 / sample_rate)
    quality, high = 0.7071752369554196, 10.0 ** (3.999843853973347 / 20.0)
    middle = high**0.4996667741545416
    a0 = 1.0 + k / quality + k * k
    zeros = [high + middle * k / quality + k * k, 2.0 * (k * k - high), high - middle * k / quality + k * k]
    poles = [a0, 2.0 * (k * k - 1.0), 1.0 - k / quality + k * k]
    return np.array(zeros) / a0, np.array(poles) / a0


def _high_pass(sample_rate: int) -> tuple[Array, Array]:
    """BS.1770's second stage for any rate; its numerator is 1, -2, 1 at every rate, as in the 48 kHz table."""
    k = np.tan(np.pi * 38.13547087602444 / sample_rate)
    quality = 0.5003270373238773
    a0 = 1.0 + k / quality + k * k
    return np.array([1.0, -2.0, 1.0]), np.array([a0, 2.0 * (k * k - 1.0), 1.0 - k / quality + k * k]) / a0
