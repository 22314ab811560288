"""Sound to measure with: seeded, made on the spot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

soundfile = pytest.importorskip("soundfile")
pytest.importorskip("soxr")

Samples = npt.NDArray[np.float32]


@pytest.fixture
def voice() -> Callable[..., Samples]:
    """Speech-like sound of `seconds` at `sample_rate`; `seed` tells voices apart."""
    return made_voice


def made_voice(seconds: float = 1.0, sample_rate: int = 16_000, seed: int = 0) -> Samples:
    """A harmonic tone with a wandering pitch and a syllable-like envelope, and a little noise."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * sample_rate)) / sample_rate
    phase = 2 * np.pi * np.cumsum(140 + 30 * np.sin(2 * np.pi * 1.7 * t + seed)) / sample_rate
    tone = sum(np.sin(k * phase) / k for k in range(1, 12))
    envelope = 0.55 + 0.45 * np.sin(2 * np.pi * 3.1 * t)
    return (0.2 * tone * envelope + 0.002 * rng.standard_normal(t.size)).astype(np.float32)


@pytest.fixture
def write_audio(tmp_path: Path) -> Callable[..., Path]:
    """Write an audio file below the test's own folder; the suffix names the format."""

    def write(name: str, samples: Samples | None = None, sample_rate: int = 16_000) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(str(path), made_voice(sample_rate=sample_rate) if samples is None else samples, sample_rate)
        return path

    return write
