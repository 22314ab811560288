"""Audio files in: any format that libsndfile reads, mixed to mono, resampled by soxr where need be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from omni_sdk.errors import InputError
from omni_sdk.tools.evaluate.extras import require

SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".aif"})
"""What is taken for an audio file by its name."""


@dataclass(frozen=True, slots=True)
class Clip:
    """One file's audio.

    Attributes
    ----------
    samples : numpy.ndarray
        Float32 [samples], mono, full scale at 1.
    sample_rate : int
        Hz, as asked for.
    source_rate : int
        Hz, as the file had it; the samples were resampled where this differs.
    """

    samples: npt.NDArray[np.float32]
    sample_rate: int
    source_rate: int

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return len(self.samples) / self.sample_rate

    @property
    def resampled(self) -> bool:
        """The file had another sample rate than was asked for."""
        return self.source_rate != self.sample_rate


def read_audio(path: str | Path, sample_rate: int | None = None) -> Clip:
    """Read one audio file as mono.

    Parameters
    ----------
    path : str or Path
        As for `read_channels`.
    sample_rate : int, optional
        Rate to resample to in Hz (soxr, high quality); the file's own by default.

    Returns
    -------
    Clip
        Channels are averaged.

    Raises
    ------
    InputError
        As `read_channels` does.
    """
    channels, source_rate = read_channels(path)
    rate = sample_rate or source_rate
    return Clip(resample(channels.mean(axis=0), source_rate, rate), rate, source_rate)


def read_channels(path: str | Path) -> tuple[npt.NDArray[np.float32], int]:
    """Read one audio file, every channel for itself.

    Parameters
    ----------
    path : str or Path
        WAV, FLAC, Ogg, MP3 and whatever else the installed libsndfile reads.

    Returns
    -------
    (numpy.ndarray, int)
        Float32 [channels, samples], full scale at 1, and the sample rate in Hz.

    Raises
    ------
    InputError
        There is no such file, it is not audio, it holds no sample, or samples that are not finite.
    """
    path = Path(path)
    try:
        is_file = path.is_file()
    except OSError as error:  # a name that no file can have
        raise InputError(f"Expected an audio file, got {error.strerror} - at {path}") from error
    if not is_file:
        raise InputError(f"Expected an audio file, got no file - at {path}")
    soundfile = require("soundfile")
    try:
        samples, source_rate = soundfile.read(str(path), dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError, ValueError, MemoryError) as error:
        raise InputError(
            f"Expected audio that libsndfile reads, got a file it rejects ({error}) - at {path}"
        ) from error
    if samples.size == 0:
        raise InputError(f"Expected at least one sample, got an empty recording - at {path}")
    if not np.isfinite(samples).all():
        raise InputError(
            f"Expected finite samples, got {np.count_nonzero(~np.isfinite(samples))} that are not - at {path}"
        )
    return np.ascontiguousarray(samples.T), source_rate


def stamp_of(path: str | Path) -> list[int] | None:
    """Size in bytes and time of the last change in nanoseconds; None where there is no such file."""
    try:
        found = Path(path).stat()
    except (OSError, ValueError):
        return None
    return [found.st_size, found.st_mtime_ns]


def resample(samples: npt.NDArray[np.float32], source_rate: int, sample_rate: int) -> npt.NDArray[np.float32]:
    """Resample audio by soxr at high quality.

    Parameters
    ----------
    samples : numpy.ndarray
        Float32 [samples], or [channels, samples].
    source_rate, sample_rate : int
        From and to, in Hz.

    Returns
    -------
    numpy.ndarray
        Float32; the argument itself where both rates are equal.
    """
    if source_rate == sample_rate:
        return samples
    resampled = require("soxr").resample(samples.T, source_rate, sample_rate, quality="HQ").T
    return np.ascontiguousarray(resampled)


def find_audio(path: str | Path) -> list[Path]:
    """A file by its name, or every audio file in a folder and below, sorted.

    Parameters
    ----------
    path : str or Path
        A file, which need not be audio or even exist; or a folder.

    Returns
    -------
    list of Path
        Files that `read_audio` may be tried on.

    Raises
    ------
    InputError
        A folder holds none.
    """
    path = Path(path)
    try:
        is_folder = path.is_dir()
    except OSError:  # a name that no file can have, as whoever reads it will say
        is_folder = False
    if not is_folder:
        return [path]
    found = sorted(each for each in path.rglob("*") if each.suffix.lower() in SUFFIXES)
    if not found:
        raise InputError(f"Expected audio files ({', '.join(sorted(SUFFIXES))}) in a folder, got none - at {path}")
    return found
