"""Verdicts: what passes, and that a failing output says why in words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from omni_sdk.errors import InputError
from omni_sdk.tools.evaluate.drift import Limits, compare

Array = npt.NDArray[Any]


@pytest.fixture
def wave(voice: Callable[..., Array]) -> Array:
    return np.asarray(voice(0.5, 24_000))[None, None]


def heads(faults: tuple[str, ...]) -> list[str]:
    return [fault.partition(":")[0] for fault in faults]


def test_equal_bytes_pass(wave: Array) -> None:
    found = compare(wave, wave.copy(), waveform=True)
    assert found.bit_equal
    assert found.faults == ()
    assert found.snr_db == np.inf


def test_a_little_noise_passes_and_is_measured(wave: Array) -> None:
    noisy = wave + np.float32(1e-4) * np.random.default_rng(1).standard_normal(wave.shape).astype(np.float32)
    found = compare(wave, noisy, waveform=True)
    assert not found.bit_equal
    assert found.faults == ()
    assert 30 < found.snr_db < 80
    assert found.log_spectral_distance_db is not None
    assert found.log_spectral_distance_db > 0


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda w: w * np.float32(1.01), ["gain"]),
        (lambda w: np.roll(w, 1), ["shift", "SNR"]),
        (lambda w: -w, ["inverted", "SNR"]),
        (lambda w: w + np.float32(0.002), ["offset"]),
        (lambda w: w[..., :-10], ["length"]),
        (lambda w: np.where(w == w.max(), np.float32(np.nan), w), ["not finite"]),
        (lambda w: w[0], ["shape"]),
    ],
)
def test_a_planted_error_is_named(wave: Array, spoil: Callable[[Array], Array], expected: list[str]) -> None:
    found = compare(wave, spoil(wave), waveform=True, limits=Limits(log_spectral_distance_db=9, stft_distance=9))
    assert heads(found.faults) == expected


def test_the_words_carry_the_figures(wave: Array) -> None:
    assert compare(wave, wave * np.float32(1.01), waveform=True).faults == ("gain: 1.0100 (+1.00 %)",)
    assert "shift: 1 sample late" in compare(wave, np.roll(wave, 1), waveform=True).faults
    assert "shift: 2 samples early" in compare(wave, np.roll(wave, -2), waveform=True).faults


def test_noise_is_named_once(wave: Array) -> None:
    noisy = wave + np.float32(0.05) * np.random.default_rng(1).standard_normal(wave.shape).astype(np.float32)
    found = heads(compare(wave, noisy, waveform=True).faults)
    assert found[0] == "noise"
    assert "SNR" not in found


def test_a_waveform_has_to_stay_in_range(wave: Array) -> None:
    loud = wave * np.float32(1.5 / np.abs(wave).max())
    assert heads(compare(loud, loud, waveform=True).faults) == ["range"]
    assert compare(loud, loud, waveform=True, limits=Limits(value_range=None)).faults == ()


def test_the_farthest_value_is_farthest_from_the_range() -> None:
    wave = np.float32([0.0, 0.9, -0.1, 0.5] * 100)
    (fault,) = compare(wave, wave, waveform=True, limits=Limits(value_range=(0.0, 1.0))).faults
    assert fault == "range: 100 values outside 0 to 1, the farthest -0.1"
    with pytest.raises(InputError, match="from low to high, got 1 to 0"):
        Limits(value_range=(1.0, 0.0))


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (Limits(peak_error=1e-9, gain_error=1), ["peak error"]),
        (Limits(log_spectral_distance_db=0.01, gain_error=1), ["log-spectral distance"]),
        (Limits(stft_distance=0.001, gain_error=1), ["STFT distance"]),
        (Limits(snr_db=50, gain_error=1), ["SNR"]),
    ],
)
def test_each_limit_is_held(wave: Array, limits: Limits, expected: list[str]) -> None:
    assert heads(compare(wave, wave * np.float32(1.01), waveform=True, limits=limits).faults) == expected


@pytest.mark.parametrize("name", [field.name for field in fields(Limits)])
def test_a_limit_that_is_no_number_is_refused(name: str) -> None:
    value: Any = (-1.0, np.nan) if name == "value_range" else np.nan
    with pytest.raises(InputError, match=rf"^Expected a number, got nan - at Limits\.{name}$"):
        Limits(**{name: value})


def test_other_numbers_are_held_to_snr_and_cosine() -> None:
    ref = np.random.default_rng(3).standard_normal((4, 10)).astype(np.float32)
    found = compare(ref, np.roll(ref, 1))
    assert found.kind == "numbers"
    assert found.log_spectral_distance_db is None
    assert "noise" in heads(found.faults)
    assert "cosine" in heads(found.faults)
    assert "shift" not in heads(found.faults)
    assert heads(compare(ref, ref.T).faults) == ["shape"]


@pytest.mark.parametrize("shape", [(), (3,)])
def test_a_number_alone_is_no_waveform(shape: tuple[int, ...]) -> None:
    found = compare(np.float32(0.5).reshape(()), np.full(shape, 0.5, "f4"), waveform=True)
    assert found.kind == "numbers"
    assert found.faults == (() if shape == () else ("shape: (3,) where the reference has ()",))


def test_discrete_values_have_to_be_equal() -> None:
    ref = np.arange(6).reshape(2, 3)
    assert compare(ref, ref.copy()).faults == ()
    assert compare(ref, np.where(ref == 4, 0, ref)).faults == ("1 of 6 values differ",)
    assert compare(np.array(["a", "b"]), np.array(["a", "c"])).faults == ("1 of 2 values differ",)


def test_a_reference_that_is_not_finite_is_said() -> None:
    assert compare(np.array([np.inf]), np.array([1.0])).faults == ("not finite: 1 of 1 values of the reference",)


def test_empty_outputs_are_equal_only_to_empty_outputs(wave: Array) -> None:
    assert compare(wave[..., :0], wave[..., :0], waveform=True).faults == ()
    assert heads(compare(wave, wave[..., :0], waveform=True).faults) == ["length"]
