"""Planted errors come out under their own names, alone, combined, and under noise."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from omni_sdk.tools.evaluate.drift import compare, diagnose

Samples = npt.NDArray[np.float32]
LAG = 4_800


@pytest.fixture
def speech(voice: Callable[..., Samples]) -> Samples:
    return voice(1.0, 24_000)


def noise(size: int, level: float, seed: int = 1) -> npt.NDArray[np.float64]:
    return level * np.random.default_rng(seed).standard_normal(size)


def test_a_gain_of_one_percent(speech: Samples) -> None:
    found = diagnose(speech, speech * np.float32(1.01), max_lag=LAG)
    assert found.lag == 0
    assert found.gain == pytest.approx(1.01, abs=1e-6)
    assert found.gain_is_off(0.005)
    assert found.explained_snr_db > 100


@pytest.mark.parametrize("level", [0.001, 0.02])
def test_a_gain_is_seen_through_noise(speech: Samples, level: float) -> None:
    noisy = speech + noise(speech.size, level)
    assert not diagnose(speech, noisy, max_lag=LAG).gain_is_off(0.005)
    assert diagnose(speech, 1.03 * noisy, max_lag=LAG).gain_is_off(0.005)


@pytest.mark.parametrize("lag", [1, -1, 2, 555, -4_799])
@pytest.mark.parametrize("level", [0.0, 0.02])
def test_a_shift_is_counted_in_samples(speech: Samples, lag: int, level: float) -> None:
    shifted = np.concatenate([np.zeros(max(lag, 0)), speech[max(-lag, 0) :], np.zeros(max(-lag, 0))])[: speech.size]
    found = diagnose(speech, shifted + noise(speech.size, level), max_lag=LAG)
    assert found.lag == lag
    assert found.gain == pytest.approx(1.0, abs=0.005)
    assert not found.gain_is_off(0.005)


def test_a_cut_beginning_is_a_shift(speech: Samples) -> None:
    assert diagnose(speech, speech[555:], max_lag=LAG).lag == -555
    assert diagnose(speech, speech[:-555], max_lag=LAG).lag == 0


def test_shift_gain_and_offset_at_once(speech: Samples) -> None:
    shifted = np.concatenate([[0.0], speech[:-1]])
    found = diagnose(speech, 0.98 * shifted + 0.01, max_lag=LAG)
    assert found.lag == 1
    assert found.gain == pytest.approx(0.98, abs=1e-3)
    assert found.offset == pytest.approx(0.01, abs=1e-4)
    assert found.offset_is_off(0.001)


def test_an_inverted_candidate_has_a_negative_gain_and_no_shift(speech: Samples) -> None:
    found = diagnose(speech, -speech, max_lag=LAG)
    assert (found.lag, found.gain) == (0, pytest.approx(-1.0))


def test_an_inverted_tone_is_not_called_a_shift() -> None:
    tone = np.sin(2 * np.pi * 500 * np.arange(24_000) / 24_000)
    assert diagnose(tone, -tone, max_lag=LAG).lag == 0
    assert diagnose(tone, np.roll(tone, 1), max_lag=LAG).lag == 1


def test_noise_alone_is_neither_shift_nor_gain(speech: Samples) -> None:
    found = diagnose(speech, speech + noise(speech.size, 0.05), max_lag=LAG)
    assert found.lag == 0
    assert not found.gain_is_off(0.005)
    assert not found.offset_is_off(0.001 * float(np.std(speech)))


def test_an_unrelated_candidate_is_not_called_shifted(speech: Samples) -> None:
    found = diagnose(speech, noise(speech.size, 0.2), max_lag=LAG)
    assert found.lag == 0
    assert found.explained_snr_db < 0


def test_clipping_is_counted(speech: Samples) -> None:
    limit = np.float32(0.5 * np.abs(speech).max())
    found = diagnose(speech, np.clip(speech, -limit, limit), max_lag=LAG)
    assert found.clipped > 50
    assert diagnose(speech, speech, max_lag=LAG).clipped == 0


def test_silence_has_nothing_to_fit() -> None:
    found = diagnose(np.zeros(100), np.zeros(100), max_lag=10)
    assert (found.lag, found.gain, found.offset) == (0, 1.0, 0.0)
    assert diagnose(np.zeros(100), np.full(100, 0.1), max_lag=10).offset == pytest.approx(0.1)


def test_several_channels_share_one_shift(speech: Samples) -> None:
    both = np.stack([speech, speech[::-1]])
    assert diagnose(both, np.roll(both, 3, axis=1), max_lag=LAG).lag == 3


@pytest.mark.parametrize("shape", [(), (1,), (2, 3)])
def test_small_outputs_are_diagnosed_too(shape: tuple[int, ...]) -> None:
    values = np.ones(shape)
    assert diagnose(values, values).gain == 1.0


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 40])
@pytest.mark.parametrize("level", [0.0, 2.0])
def test_good_outputs_of_few_values_have_no_fault(size: int, level: float) -> None:
    """At 40 dB, 8 to 88 % of outputs of up to eight values failed while two fitted figures cost nothing."""
    rng, failed = np.random.default_rng(size), 0
    for _ in range(100):
        reference = level + rng.standard_normal(size)
        error = rng.standard_normal(size)
        error *= 0.01 * np.linalg.norm(reference) / np.linalg.norm(error)
        failed += bool(compare(reference, reference + error).faults)
    assert failed <= 3


def test_a_gain_of_many_values_is_still_found() -> None:
    reference = np.random.default_rng(0).standard_normal(40)
    assert any(fault.startswith("gain: 1.02") for fault in compare(reference, 1.02 * reference).faults)
    assert any(fault.startswith("inverted") for fault in compare(reference, -reference).faults)
