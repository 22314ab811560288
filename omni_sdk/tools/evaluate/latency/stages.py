"""The kinds of stages: each takes the items of a turn in order, and yields what it makes of them."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

import omni_sdk as omni
from omni_sdk.bundle import Bundle, is_bundle
from omni_sdk.errors import InputError
from omni_sdk.tools.evaluate.callables import load_callable
from omni_sdk.tools.evaluate.latency.config import REFERENCE, StageConfig
from omni_sdk.tools.evaluate.latency.reference import reference_model

Codes = npt.NDArray[np.int64]


class Stage(Protocol):
    """One stage at work. One thread uses it; turns do not overlap in it."""

    def begin(self) -> None:
        """A new turn: forget the last one."""

    def take(self, item: Any) -> Iterator[Any]:
        """One item of the turn, and what follows from it."""

    def end(self) -> Iterator[Any]:
        """No more items come in this turn: what is left."""

    def close(self) -> None:
        """Give back what the stage holds."""


class TalkerStage:
    """In place of a talker: seeded random codes [1, quantizers, frames], at once or a frame at a time."""

    def __init__(self, config: StageConfig) -> None:
        self._config = config
        self._random = np.random.default_rng(config.seed)

    def begin(self) -> None:
        """Nothing to forget: codes go on."""

    def take(self, item: Any) -> Iterator[Codes]:
        """Answer whatever was said."""
        config = self._config
        codes = self._random.integers(config.codebook, size=(1, config.quantizers, config.frames), dtype=np.int64)
        if config.frames_per_second <= 0.0:
            yield codes
            return
        begun = time.perf_counter()
        for frame in range(config.frames):
            wait = begun + (frame + 1) / config.frames_per_second - time.perf_counter()
            time.sleep(max(wait, 0.0))
            yield codes[:, :, frame : frame + 1]

    def end(self) -> Iterator[Codes]:
        """Nothing is kept back."""
        yield from ()

    def close(self) -> None:
        """Nothing is held."""


class CallStage:
    """A function of the user's: an item in, one out, or several from a generator."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self._function = function

    def begin(self) -> None:
        """The function keeps its own state, if any."""

    def take(self, item: Any) -> Iterator[Any]:
        """Call it."""
        result = self._function(item)
        if inspect.isgenerator(result):
            yield from result
        elif result is not None:
            yield result

    def end(self) -> Iterator[Any]:
        """Nothing is kept back."""
        yield from ()

    def close(self) -> None:
        """Nothing is held."""


class ModelStage:
    """One run of a model an item. A mapping feeds by name and gives a mapping; an array feeds a model's only input."""

    def __init__(self, model: omni.Model) -> None:
        self._model = model

    def begin(self) -> None:
        """A model keeps nothing from run to run."""

    def take(self, item: Any) -> Iterator[Any]:
        """Run the model."""
        if isinstance(item, Mapping):
            yield self._model.infer(item)
            return
        outputs = self._model.infer({self._model.inputs[0].name: item})
        yield next(iter(outputs.values())) if len(outputs) == 1 else outputs

    def end(self) -> Iterator[Any]:
        """Nothing is kept back."""
        yield from ()

    def close(self) -> None:
        """Give the model back."""
        self._model.close()


class StreamStage:
    """A streaming model: codes [1, quantizers, any frames] in, waveforms of `step_frames` frames out."""

    def __init__(self, model: omni.Model, step_frames: int, names: tuple[str, str]) -> None:
        self._model, self._step_frames = model, step_frames
        self._input, self._output = names
        self._stream = model.stream()
        self._waiting: list[Codes] = []

    def begin(self) -> None:
        """Begin a new stream."""
        self._stream.reset()
        self._waiting = []

    def take(self, item: Any) -> Iterator[npt.NDArray[np.float32]]:
        """Decode as many whole steps as there are."""
        codes = np.concatenate([*self._waiting, item], axis=2)
        whole = codes.shape[2] - codes.shape[2] % self._step_frames
        self._waiting = [codes[:, :, whole:]] if whole < codes.shape[2] else []
        for first in range(0, whole, self._step_frames):
            yield self._decode(codes[:, :, first : first + self._step_frames])

    def end(self) -> Iterator[npt.NDArray[np.float32]]:
        """Decode what is short of a step."""
        if self._waiting:
            (rest,) = self._waiting
            self._waiting = []
            yield self._decode(rest)

    def warmup(self, quantizers: int) -> None:
        """Decode zeros until steps are as fast as they get; both state buffers have then been used, twice."""
        codes = np.zeros((1, quantizers, self._step_frames), np.int64)
        for _ in range(4):
            self._decode(codes)
        self._stream.reset()

    def close(self) -> None:
        """Give the model back."""
        self._stream.close()
        self._model.close()

    def _decode(self, codes: Codes) -> npt.NDArray[np.float32]:
        outputs = self._stream.step({self._input: np.ascontiguousarray(codes)})
        waveform: npt.NDArray[np.float32] = outputs[self._output].reshape(-1)
        return waveform


def open_stage(config: StageConfig) -> Stage:
    """Make a stage ready to run, its model loaded, and warm where it is a stream or its input shapes are fixed.

    Parameters
    ----------
    config : StageConfig
        From the pipeline's file.

    Returns
    -------
    Stage
        To be closed by the caller.

    Raises
    ------
    InputError, ModelError
        The function or the model cannot be had.
    """
    if config.kind == "codes":
        return TalkerStage(config)
    if config.kind == "call":
        return CallStage(load_callable(config.function))
    source = reference_model() if config.model == REFERENCE else config.model
    model = omni.load(source, omni.Settings.from_dict(dict(config.settings)))
    try:
        if config.kind == "model":
            if not any(spec.symbols for spec in model.inputs):
                model.warmup()
            return ModelStage(model)
        names, quantizers = _stream_names(source, model)
        stage = StreamStage(model, config.step_frames, names)
        stage.warmup(quantizers or config.quantizers)
    except BaseException:
        model.close()
        raise
    return stage


def sample_rate_of(config: StageConfig) -> int:
    """Hz of a stage's waveform: the bundle's word before the file's."""
    source = reference_model() if config.model == REFERENCE else config.model
    audio = Bundle.open(source).manifest.audio if source and is_bundle(source) else None
    return audio.sample_rate if audio else config.sample_rate


def _stream_names(source: Any, model: omni.Model) -> tuple[tuple[str, str], int | None]:
    """Input of codes and output of samples, and the number of quantizers where the model fixes it."""
    audio = Bundle.open(source).manifest.audio if is_bundle(source) else None
    names = (audio.input, audio.output) if audio else ("audio_codes", "waveform")
    inputs, outputs = {spec.name: spec for spec in model.inputs}, {spec.name for spec in model.outputs}
    if names[0] not in inputs or names[1] not in outputs:
        raise InputError(
            f"Expected a model with the input {names[0]} and the output {names[1]}, "
            f"got {', '.join(inputs)} and {', '.join(outputs)} - at {source}"
        )
    quantizers = inputs[names[0]].shape[1]
    return names, quantizers if isinstance(quantizers, int) else None
