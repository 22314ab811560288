"""Codes in, audio out, piece by piece through `Model.stream`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

import numpy as np

from omni_sdk import ranges
from omni_sdk.bundle import Audio, Bundle, is_bundle
from omni_sdk.errors import InputError
from omni_sdk.model import Model
from omni_sdk.tools.archives import read_arrays, source_name

FIRST_CHUNK = 1
CHUNK = 25
"""Frames: 2 s of Qwen3-Omni's speech."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How a synthesis went.

    Attributes
    ----------
    frames, steps, samples, sample_rate : int
        What went in, in how many steps, what came out, and its rate in Hz.
    seconds : float
        Of compute: all steps, without what the consumer took between them.
    first_audio_seconds : float
        From the first codes in to the first samples out.
    stalled_seconds : float
        How long playback that starts with the first samples would have had to wait for later ones, at worst.
    """

    frames: int
    steps: int
    samples: int
    sample_rate: int
    seconds: float
    first_audio_seconds: float
    stalled_seconds: float

    @property
    def audio_seconds(self) -> float:
        """Length of what came out."""
        return self.samples / self.sample_rate

    @property
    def rtf(self) -> float:
        """Seconds of compute per second of audio."""
        return self.seconds / self.audio_seconds


class Synthesis:
    """Codes decoded step by step; iterate over it once.

    Parameters
    ----------
    model : Model
        With carried state; closed by the caller.
    audio : Audio
        What the model's bundle says of its audio.
    codes : ndarray of int64, [1, quantizers, frames]
        At least one frame.
    first_chunk, chunk : int
        Frames of the first step, and the most of a later one; each step may double the one before it, so that the
        first samples come at once and the many that follow cost little.

    Raises
    ------
    InputError
        When a size is below 1, there is no frame, or a code is out of the model's range: it names the position. While
        iterating: when the codes are of another number of quantizers.
    StreamError
        When the model has no state.

    Attributes
    ----------
    samples, sample_rate : int
        How many there will be, and how many make a second.
    """

    def __init__(
        self, model: Model, audio: Audio, codes: np.ndarray, *, first_chunk: int = FIRST_CHUNK, chunk: int = CHUNK
    ) -> None:
        if first_chunk < 1 or chunk < 1:
            raise InputError(f"Expected chunks of at least 1 frame, got {first_chunk} and {chunk} - at chunk")
        if codes.shape[-1] < 1:
            raise InputError(f"Expected at least one frame, got codes of shape {codes.shape} - at codes")
        spec = next(spec for spec in model.inputs if spec.name == audio.input)
        if spec.allowed is not None:
            ranges.check(codes, spec.name, spec.allowed)
        self.sample_rate = audio.sample_rate
        self.samples = audio.hop * codes.shape[-1] - audio.first_chunk_deficit
        self._model = model
        self._audio = audio
        self._codes = codes
        self._sizes = chunk_sizes(codes.shape[-1], first_chunk, chunk)
        self._seconds: list[float] = []
        self._lengths: list[int] = []

    def __iter__(self) -> Iterator[np.ndarray]:
        """Each step's samples, float32 [samples]."""
        begin = 0
        started = time.perf_counter()
        with self._model.stream() as stream:
            for size in self._sizes:
                chunk = np.ascontiguousarray(self._codes[..., begin : begin + size])
                piece = stream.step({self._audio.input: chunk})[self._audio.output].reshape(-1)
                self._seconds.append(time.perf_counter() - started)
                self._lengths.append(piece.size)
                begin += size
                yield piece
                started = time.perf_counter()

    @property
    def timing(self) -> Timing:
        """How it went; once the iteration is over."""
        rate = self._audio.sample_rate
        ready = np.cumsum(self._seconds) - self._seconds[0]
        needed = np.cumsum([0, *self._lengths[:-1]]) / rate
        return Timing(
            frames=sum(self._sizes),
            steps=len(self._sizes),
            samples=sum(self._lengths),
            sample_rate=rate,
            seconds=sum(self._seconds),
            first_audio_seconds=self._seconds[0],
            stalled_seconds=max(0.0, float((ready - needed).max())),
        )


def chunk_sizes(frames: int, first: int, most: int) -> list[int]:
    """Frames of each step: from `first`, doubling up to `most`; the last is what is left."""
    sizes, size = [], min(first, most)
    while frames > 0:
        sizes.append(min(size, frames))
        frames -= size
        size = min(2 * size, most)
    return sizes


def audio_of(path: str | os.PathLike[str]) -> Audio:
    """What a bundle says of its audio.

    Raises
    ------
    InputError
        When the path is no bundle that makes audio from carried state.
    BundleError
        When the bundle is not whole.
    """
    if not is_bundle(path):
        raise InputError(
            f"Expected a bundle, got something else - at {path}", hint="make one: omni-sdk export code2wav"
        )
    manifest = Bundle.open(path).manifest
    if manifest.audio is None:
        raise InputError(f"Expected a bundle that makes audio, got one that says nothing of it - at {path}")
    if not manifest.state:
        raise InputError(
            f"Expected a bundle with carried state, got a one-shot one - at {path}",
            hint="export it with --streaming",
        )
    return manifest.audio


def read_codes(source: str | os.PathLike[str] | IO[bytes], quantizers: int | None = None) -> np.ndarray:
    """Read codes.

    Parameters
    ----------
    source : path or binary file
        `.npy` or `.npz`. In an `.npz` the codes are its one array, or the one named `codes` or `audio_codes`.
    quantizers : int, optional
        How many the model takes.

    Returns
    -------
    ndarray of int64, [1, quantizers, frames]

    Raises
    ------
    InputError
        When it cannot be read, or is not codes of one utterance: integers of shape [quantizers, frames] or
        [1, quantizers, frames], with at least one frame.
    """
    where = source_name(source)
    array = _loaded(source)
    if array.dtype.kind not in "iu":
        raise InputError(f"Expected codes as integers, got {array.dtype} - at {where}")
    codes = array[None] if array.ndim == 2 else array
    if codes.ndim != 3 or codes.shape[0] != 1:
        raise InputError(f"Expected codes of shape [quantizers, frames], got {list(array.shape)} - at {where}")
    if quantizers is not None and codes.shape[1] != quantizers:
        turned = codes.shape[2] == quantizers
        raise InputError(
            f"Expected {quantizers} quantizers, got codes of shape {list(array.shape)} - at {where}",
            hint="frames come last: transpose the codes" if turned else None,
        )
    if codes.shape[2] == 0:
        raise InputError(f"Expected at least one frame, got codes of shape {list(array.shape)} - at {where}")
    return np.ascontiguousarray(codes, dtype=np.int64)


def _loaded(source: str | os.PathLike[str] | IO[bytes]) -> np.ndarray:
    found = read_arrays(source)
    if isinstance(found, np.ndarray):
        return found
    names = [name for name in found if name in ("codes", "audio_codes")] or list(found)
    if len(names) != 1:
        got = ", ".join(names) or "none"
        raise InputError(f"Expected one array, or one named codes, got {got} - at {source_name(source)}")
    return found[names[0]]
