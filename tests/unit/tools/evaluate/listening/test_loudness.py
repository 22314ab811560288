"""Loudness against the standard's own anchors."""

from __future__ import annotations

import numpy as np
import pytest

from omni_sdk.tools.evaluate.listening.loudness import SILENCE_LUFS, loudness_lufs, matching_gains


def tone(frequency: float, seconds: float = 3.0, sample_rate: int = 48_000, peak: float = 1.0) -> np.ndarray:
    t = np.arange(int(seconds * sample_rate)) / sample_rate
    return (peak * np.sin(2 * np.pi * frequency * t)).astype(np.float32)


@pytest.mark.parametrize("sample_rate", [16_000, 24_000, 44_100, 48_000])
def test_a_full_scale_tone_of_997_hz_has_minus_3_01(sample_rate: int) -> None:
    assert loudness_lufs(tone(997.0, sample_rate=sample_rate), sample_rate) == pytest.approx(-3.01, abs=0.05)


def test_a_gain_in_db_is_a_gain_in_lu() -> None:
    quiet = tone(440.0, peak=0.1)
    assert loudness_lufs(quiet * np.float32(2), 48_000) - loudness_lufs(quiet, 48_000) == pytest.approx(
        6.0206, abs=1e-3
    )


def test_low_rumble_counts_less_and_treble_more() -> None:
    levels = [loudness_lufs(tone(f), 48_000) for f in (30.0, 997.0, 5000.0)]
    assert levels[0] < levels[1] - 5 < levels[1] < levels[2] - 2


def test_pauses_do_not_count() -> None:
    speech = tone(997.0, peak=0.1)
    paused = np.concatenate([speech, np.zeros(10 * 48_000, np.float32)])
    assert loudness_lufs(paused, 48_000) == pytest.approx(loudness_lufs(speech, 48_000), abs=0.5)


@pytest.mark.parametrize("samples", [1, 100, 48_000])
def test_silence_has_the_gates_level(samples: int) -> None:
    assert loudness_lufs(np.zeros(samples, np.float32), 48_000) == SILENCE_LUFS


def test_clips_come_out_equally_loud() -> None:
    clips = [tone(300.0, peak=0.02), tone(997.0, peak=0.3), tone(2000.0, sample_rate=16_000, peak=0.2)]
    rates = [48_000, 48_000, 16_000]
    target, gains = matching_gains(clips, rates)
    assert target == -23.0
    for clip, rate, gain in zip(clips, rates, gains, strict=True):
        assert loudness_lufs(clip * np.float32(10 ** (gain / 20)), rate) == pytest.approx(-23.0, abs=0.01)


def test_no_clip_is_driven_over_full_scale() -> None:
    spiky = tone(997.0, peak=0.01)
    spiky[1000] = 1.0
    target, gains = matching_gains([spiky, tone(997.0)], [48_000, 48_000])
    assert target < -23.0
    assert 20 * np.log10(np.max(np.abs(spiky))) + gains[0] == pytest.approx(-1.0, abs=1e-4)
    assert gains[1] == pytest.approx(target + 3.01, abs=0.02)


def test_silence_keeps_its_level() -> None:
    assert matching_gains([np.zeros(100, np.float32)], [16_000]) == (-23.0, [0.0])
