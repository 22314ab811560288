"""Distances against closed forms, their limits, and what they make of values that are not finite."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from omni_sdk.errors import InputError
from omni_sdk.tools import metrics

EVERY = (
    metrics.snr_db,
    metrics.peak_error,
    metrics.cosine,
    metrics.log_spectral_distance,
    metrics.multi_resolution_stft_distance,
)
Metric = Callable[[npt.ArrayLike, npt.ArrayLike], float]


@pytest.fixture
def wave() -> npt.NDArray[np.float32]:
    rng = np.random.default_rng(7)
    return rng.standard_normal(24_000).astype(np.float32) * np.float32(0.1)


def test_snr_of_a_gain_error_is_the_gain(wave: npt.NDArray[np.float32]) -> None:
    assert metrics.snr_db(wave.astype(np.float64), wave.astype(np.float64) * 1.01) == pytest.approx(40.0, abs=1e-9)


def test_snr_of_known_noise() -> None:
    assert metrics.snr_db([3.0, 4.0], [3.0, 4.5]) == pytest.approx(10 * np.log10(25 / 0.25))


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_snr_holds_at_extreme_scales(scale: float) -> None:
    ref = np.array([3.0, 4.0]) * scale
    assert metrics.snr_db(ref, ref * 1.1) == pytest.approx(20.0, abs=1e-6)


def test_snr_computes_in_float64() -> None:
    ref = np.full(1_000_000, 1.0, np.float32)
    cand = ref.copy()
    cand[0] += np.float32(2**-20)
    assert metrics.snr_db(ref, cand) == pytest.approx(10 * np.log10(1e6 / 2.0**-40), abs=1e-9)


def test_integers_do_not_wrap() -> None:
    assert metrics.peak_error(np.array([-128], np.int8), np.array([127], np.int8)) == 255.0


@pytest.mark.parametrize(
    ("metric", "best"), [(m, np.inf if m is metrics.snr_db else 1.0 if m is metrics.cosine else 0.0) for m in EVERY]
)
def test_equal_arrays_are_at_no_distance(metric: Metric, best: float, wave: npt.NDArray[np.float32]) -> None:
    assert metric(wave, wave.copy()) == pytest.approx(best, abs=1e-12)
    assert metric(np.zeros(2000), np.zeros(2000)) == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize(
    ("metric", "worst"), [(m, {metrics.snr_db: -np.inf, metrics.cosine: -1.0}.get(m, np.inf)) for m in EVERY]
)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_candidate_that_is_not_finite_is_infinitely_far(metric: Metric, worst: float, bad: float) -> None:
    cand = np.ones(3000)
    cand[1234] = bad
    assert metric(np.ones(3000), cand) == worst


@pytest.mark.parametrize("metric", EVERY)
@pytest.mark.parametrize(
    ("reference", "candidate", "said"),
    [
        (np.ones(3), np.ones(4), r"shape \(3,\), got \(4,\)"),
        (np.ones((1, 3)), np.ones(3), r"shape \(1, 3\), got \(3,\)"),
        (np.ones(0), np.ones(0), "at least one value"),
        (np.array([1.0, np.nan]), np.ones(2), "1 of 2 values not finite"),
        (np.array(["a"]), np.array(["a"]), "real numbers"),
        (np.ones(2, complex), np.ones(2, complex), "real numbers"),
    ],
)
def test_what_bad_arrays_get(metric: Metric, reference: npt.ArrayLike, candidate: npt.ArrayLike, said: str) -> None:
    with pytest.raises(InputError, match=said):
        metric(reference, candidate)


def test_a_silent_reference_has_no_signal() -> None:
    assert metrics.snr_db(np.zeros(4), np.ones(4)) == -np.inf
    assert metrics.cosine(np.zeros(4), np.ones(4)) == 0.0
    assert metrics.multi_resolution_stft_distance(np.zeros(4000), np.ones(4000)) == np.inf


@pytest.mark.parametrize(("cand", "expected"), [([2.0, 0.0], 1.0), ([-1.0, 0.0], -1.0), ([1.0, 1.0], 0.5**0.5)])
def test_cosine_is_the_angle_at_any_gain(cand: list[float], expected: float) -> None:
    assert metrics.cosine([1.0, 0.0], cand) == pytest.approx(expected)


def test_log_spectral_distance_of_a_gain_is_the_gain_in_db(wave: npt.NDArray[np.float32]) -> None:
    louder = wave.astype(np.float64) * 10 ** (3.0 / 20)
    assert metrics.log_spectral_distance(wave, louder, floor_db=-300.0) == pytest.approx(3.0, abs=1e-9)


def test_log_spectral_distance_ignores_what_lies_below_the_floor() -> None:
    tone = np.sin(2 * np.pi * 1000 * np.arange(24_000) / 24_000)
    whisper = tone + 1e-7 * np.random.default_rng(3).standard_normal(24_000)
    assert metrics.log_spectral_distance(tone, whisper) < 1e-3
    assert metrics.log_spectral_distance(tone, whisper, floor_db=-300.0) > 1.0


def test_stft_distance_of_a_gain_has_a_closed_form(wave: npt.NDArray[np.float32]) -> None:
    distance = metrics.multi_resolution_stft_distance(wave, wave.astype(np.float64) * 1.5, floor_db=-300.0)
    assert distance == pytest.approx(0.5 + np.log(1.5), abs=1e-9)


def test_spectral_distances_grow_with_noise(wave: npt.NDArray[np.float32]) -> None:
    noise = np.random.default_rng(11).standard_normal(wave.size)
    noisy = [wave + level * noise for level in (1e-4, 1e-3, 1e-2)]
    for metric in (metrics.log_spectral_distance, metrics.multi_resolution_stft_distance):
        distances = [metric(wave, cand) for cand in noisy]
        assert distances == sorted(distances)
        assert distances[0] > 0.0


def test_leading_axes_are_separate_signals(wave: npt.NDArray[np.float32]) -> None:
    one, two = wave[:12_000], wave[12_000:]
    ref, cand = np.stack([one, two]), np.stack([one * 1.1, two * 0.7])
    for metric in (metrics.log_spectral_distance, metrics.multi_resolution_stft_distance):
        assert metric(ref, cand) == pytest.approx((metric(one, one * 1.1) + metric(two, two * 0.7)) / 2)


def test_magnitudes_of_a_tone_peak_at_its_bin_in_every_block() -> None:
    tone = np.cos(2 * np.pi * 64 * np.arange(600_000) / 1024)
    blocks = list(metrics.magnitudes(tone, 1024, 600, 256))
    assert len(blocks) > 1
    inner = np.concatenate(blocks)[4:-4]
    assert (inner.argmax(axis=1) == 64).all()
    assert inner.max() == pytest.approx(600 / 4, rel=1e-6)


@pytest.mark.parametrize("samples", [1, 5, 100])
def test_signals_shorter_than_a_window_have_a_distance(samples: int) -> None:
    ref = np.ones(samples)
    assert metrics.multi_resolution_stft_distance(ref, ref * 1.5) == pytest.approx(0.5 + np.log(1.5), rel=0.3)
    assert metrics.log_spectral_distance(ref, ref) == 0.0
