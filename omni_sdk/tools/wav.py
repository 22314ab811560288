"""WAV as it is made: to a file, or through a pipe to a player."""

from __future__ import annotations

import io
import os
import shlex
import subprocess
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Protocol

import numpy as np

from omni_sdk.errors import InputError

FULL_SCALE = 32_767
SAMPLE_BYTES = 2
MAX_SAMPLES = (2**32 - 1 - 36) // SAMPLE_BYTES
"""What WAV's sizes of 32 bits can count."""


class Sink(Protocol):
    """What takes samples."""

    def write(self, samples: np.ndarray) -> None:
        """Take float samples within -1 and 1; louder ones are clipped."""
        ...


class _File:
    """Samples into a file; `wave` puts the header right where there were fewer than announced."""

    def __init__(self, writer: wave.Wave_write, file: IO[bytes]) -> None:
        self._writer = writer
        self._file = file

    def write(self, samples: np.ndarray) -> None:
        self._writer.writeframesraw(to_int16(samples))
        self._file.flush()


class _Pipe:
    """Samples into a pipe, behind a header that is sent first and stays."""

    def __init__(self, pipe: IO[bytes], header: bytes) -> None:
        self._pipe = pipe
        self._send(header)

    def write(self, samples: np.ndarray) -> None:
        self._send(to_int16(samples))

    def _send(self, data: bytes) -> None:
        self._pipe.write(data)
        self._pipe.flush()


@contextmanager
def wav_file(path: str | os.PathLike[str], sample_rate: int, samples: int) -> Iterator[Sink]:
    """Open a 16-bit WAV file of one channel.

    Parameters
    ----------
    path : str or os.PathLike
        The file; replaced where it exists.
    sample_rate : int
        Hz.
    samples : int
        How many will be written. Where fewer are, the header is put right at the end.

    Yields
    ------
    Sink

    Raises
    ------
    InputError
        Where the file cannot be written, or WAV cannot count the samples.
    """
    _check_length(samples, path)
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with Path(path).open("wb") as file, wave.open(file, "wb") as writer:
            _announce(writer, sample_rate, samples)
            yield _File(writer, file)
    except OSError as error:
        raise InputError(f"Expected a WAV file to write, got {error.strerror or error} - at {path}") from error


@contextmanager
def player(command: str, sample_rate: int, samples: int) -> Iterator[Sink]:
    """Start a program that plays WAV from its standard input, such as `aplay -q -`.

    Parameters
    ----------
    command : str
        The program and its arguments, split as a shell does; no shell runs.
    sample_rate : int
        Hz.
    samples : int
        How many will be written; the header, which goes first, says so.

    Yields
    ------
    Sink

    Raises
    ------
    InputError
        Where the program cannot be started, stops reading, or reports a failure; or WAV cannot count the samples.
    """
    _check_length(samples, "play")
    try:
        process = subprocess.Popen(shlex.split(command), stdin=subprocess.PIPE)
    except (OSError, ValueError, IndexError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"Expected a program to play with, got {command!r} ({reason}) - at play") from error
    assert process.stdin is not None
    broken: BrokenPipeError | None = None
    try:
        yield _Pipe(process.stdin, header(sample_rate, samples))
    except BrokenPipeError as error:
        broken = error
    finally:
        try:
            process.stdin.close()
        except BrokenPipeError as error:
            broken = error
        status = process.wait()
    if broken is not None or status != 0:
        got = "one that stopped reading" if broken is not None else "a failure"
        raise InputError(
            f"Expected a program that plays WAV from its standard input, got {got}, exit status {status} - at play",
            hint=f"try it by itself: {command} < speech.wav",
        ) from broken


def _check_length(samples: int, where: str | os.PathLike[str]) -> None:
    if samples > MAX_SAMPLES:
        raise InputError(
            f"Expected at most {MAX_SAMPLES} samples for WAV, got {samples} - at {where}",
            hint="decode the codes in several files",
        )


def _announce(writer: wave.Wave_write, sample_rate: int, samples: int) -> None:
    writer.setnchannels(1)
    writer.setsampwidth(SAMPLE_BYTES)
    writer.setframerate(sample_rate)
    writer.setnframes(samples)


def header(sample_rate: int, samples: int) -> bytes:
    """What stands before the samples of a 16-bit WAV of one channel.

    Parameters
    ----------
    sample_rate : int
        Hz.
    samples : int
        How many will follow; at most `MAX_SAMPLES`.
    """
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as writer:
        _announce(writer, sample_rate, samples)
        writer.writeframesraw(b"")
        return buffer.getvalue()


def to_int16(samples: np.ndarray) -> bytes:
    """Round float samples within -1 and 1 to 16 bits, little-endian; louder ones are clipped."""
    data: bytes = np.rint(np.clip(samples, -1.0, 1.0) * FULL_SCALE).astype("<i2").tobytes()
    return data
