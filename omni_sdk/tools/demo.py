"""From nothing to sound: a seeded reference model exported, streamed, and held against its one-shot decode."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from omni_sdk.bundle import Audio
from omni_sdk.errors import OmniError
from omni_sdk.model import load
from omni_sdk.specs import TensorSpec
from omni_sdk.tools.synth import Synthesis, Timing, audio_of
from omni_sdk.tools.wav import wav_file

FRAMES = 100
ONE_SHOT = "one-shot"
TOLERANCE = 1e-4
"""Of FP32 waveforms: what rounding may add up to between the two forms."""

WAVE_COLOR, STEP_COLOR, DIFFERENCE_COLOR = "#0b6fc2", "#c8d0d8", "#c23b22"


@dataclass(frozen=True, slots=True)
class Demo:
    """What a demonstration made and found.

    Attributes
    ----------
    bundle, codes, wav : pathlib.Path
        The exported model, the codes as `.npy`, and the audio.
    picture : pathlib.Path or None
        The waveform as PNG; None where matplotlib is not installed.
    timing : Timing
        Of the stream.
    difference : float
        Largest absolute difference between the stream and the one-shot decode, which come from two graphs.
    """

    bundle: Path
    codes: Path
    wav: Path
    picture: Path | None
    timing: Timing
    difference: float

    @property
    def is_exact(self) -> bool:
        """Whether the stream is the one-shot decode, but for rounding."""
        return self.difference <= TOLERANCE


def demo(
    out: Path, *, seed: int = 0, first_chunk: int, chunk: int, progress: Callable[[str], None] | None = None
) -> Demo:
    """Make the small reference model, export both forms, stream one and compare it with the other.

    Parameters
    ----------
    out : pathlib.Path
        A folder for the bundle `code2wav`, `codes.npy`, `speech.wav` and `speech.png`.
    seed : int, default 0
        Of weights and codes.
    first_chunk, chunk : int
        As for `Synthesis`.
    progress : callable, optional
        Told what begins.

    Raises
    ------
    OmniError
        Where the extra `export` is not installed, or `out` cannot be written.
    """
    tell = progress or (lambda _: None)
    tell("making a reference model")
    bundle = out / "code2wav"
    with tempfile.TemporaryDirectory() as folder:
        _export(Path(folder), bundle, Path(folder) / ONE_SHOT, seed)
        audio = audio_of(bundle)
        tell("streaming")
        with load(bundle) as model:
            codes = _random_codes(model.inputs[0], seed)
            model.warmup({audio.input: (*codes.shape[:2], first_chunk)})
            np.save(out / "codes.npy", codes)
            synthesis = Synthesis(model, audio, codes, first_chunk=first_chunk, chunk=chunk)
            pieces = []
            with wav_file(out / "speech.wav", audio.sample_rate, synthesis.samples) as wav:
                for piece in synthesis:
                    wav.write(piece)
                    pieces.append(piece)
        tell("decoding at once")
        with load(Path(folder) / ONE_SHOT, cache_dir=None) as model:
            whole = model.infer({audio.input: codes})[audio.output].reshape(-1)
    streamed = np.concatenate(pieces)
    exact = streamed.shape == whole.shape
    difference = float(np.abs(streamed - whole).max()) if exact else float("inf")
    picture = _draw(out / "speech.png", audio, pieces, whole) if exact else None
    return Demo(bundle, out / "codes.npy", out / "speech.wav", picture, synthesis.timing, difference)


def _random_codes(spec: TensorSpec, seed: int) -> np.ndarray:
    batch, quantizers, _ = spec.shape
    assert spec.allowed is not None and isinstance(batch, int) and isinstance(quantizers, int)
    low, high = spec.allowed
    return np.random.default_rng(seed).integers(low, high + 1, (batch, quantizers, FRAMES))


def _export(folder: Path, bundle: Path, one_shot: Path, seed: int) -> None:
    try:
        from omni_sdk.tools.export import code2wav, reference_checkpoint
    except ImportError as error:
        raise OmniError(
            f"Expected the packages that build models, got none ({error}) - at demo",
            hint="pip install 'omni-sdk[export]'",
        ) from error
    checkpoint = reference_checkpoint(folder / "checkpoint", seed=seed)
    code2wav(checkpoint, bundle)
    code2wav(checkpoint, one_shot, streaming=False)


def _draw(path: Path, audio: Audio, pieces: Sequence[np.ndarray], whole: np.ndarray) -> Path | None:
    """The waveform with its steps, and below it how far it is from the one-shot decode."""
    try:
        figures: Any = importlib.import_module("matplotlib.figure")
    except ImportError:
        return None
    figure = figures.Figure(figsize=(11, 4.5), layout="constrained")
    waves, differences = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    streamed = np.concatenate(pieces)
    seconds = np.arange(streamed.size) / audio.sample_rate
    for end in np.cumsum([piece.size for piece in pieces]):
        for axis in (waves, differences):
            axis.axvline(end / audio.sample_rate, color=STEP_COLOR, linewidth=0.8, zorder=0)
    waves.plot(seconds, streamed, color=WAVE_COLOR, linewidth=0.4)
    waves.set_ylabel("amplitude")
    waves.set_title(f"streamed in {len(pieces)} steps (grey lines)", fontsize=10, loc="left")
    differences.plot(seconds, streamed - whole, color=DIFFERENCE_COLOR, linewidth=0.4)
    differences.set_ylabel("to one-shot")
    differences.set_xlabel("seconds")
    differences.set_xlim(0, seconds[-1])
    figure.savefig(path, dpi=120)
    return path
