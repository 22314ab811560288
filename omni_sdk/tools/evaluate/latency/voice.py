"""Voice activity: windows of audio in, turns out."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType

import numpy as np
import numpy.typing as npt

import omni_sdk as omni
from omni_sdk.errors import ModelError
from omni_sdk.tools.evaluate.latency.config import VoiceConfig

Samples = npt.NDArray[np.float32]

SAMPLE_RATE = 16_000
WINDOW, CONTEXT = 512, 64
"""Samples of Silero VAD's windows at 16 kHz, and how many of the window before it wants to see again."""
HYSTERESIS, LEAST = 0.15, 0.01
"""How far below the threshold the probability has to fall for speech to end, and below what at most: Silero's rule."""


@dataclass(frozen=True, slots=True)
class Began:
    """Somebody speaks, since `seconds` into the audio."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Ended:
    """Somebody has spoken from `began` to `ended`, in seconds into the audio; `samples` are what was said."""

    began: float
    ended: float
    samples: Samples


@dataclass(frozen=True, slots=True)
class Paused(Ended):
    """Somebody may have ended: the same is said again as `Ended`, or taken back as `Resumed`."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """The pause was none: the speaker goes on."""


Event = Began | Paused | Resumed | Ended


class VoiceActivity:
    """Silero VAD as a stream, and the rule that makes turns of its probabilities. Owns its model until `close`.

    Parameters
    ----------
    config : VoiceConfig
        Model, threshold and durations.

    Raises
    ------
    ModelError
        The model is not Silero VAD.
    """

    def __init__(self, config: VoiceConfig) -> None:
        self._model = omni.load(config.model, omni.Settings.from_dict(dict(config.settings)))
        try:
            names = {spec.name for spec in self._model.inputs}
            if names != {"input", "state", "sr"}:
                raise ModelError(
                    f"Expected Silero VAD with the inputs input, state and sr, got {', '.join(sorted(names))} "
                    f"- at {config.model}"
                )
            self._output = next(spec.name for spec in self._model.outputs if spec.name != "stateN")
            self._stream = self._model.stream(state={"state": "stateN"}, sr=np.array(SAMPLE_RATE, dtype=np.int64))
        except BaseException:
            self._model.close()
            raise
        self.turns = Turns(config)
        self._context = np.zeros(CONTEXT, np.float32)

    def step(self, window: Samples) -> Event | None:
        """Hear one window.

        Parameters
        ----------
        window : numpy.ndarray
            Float32 [512] at 16 kHz.

        Returns
        -------
        Began, Paused, Resumed, Ended or None
            What this window settles.
        """
        return self.turns.step(self.probability(window), window)

    def probability(self, window: Samples) -> float:
        """How likely the next window is speech, from 0 to 1; see `step`."""
        heard = np.concatenate([self._context, window])[np.newaxis]
        self._context = window[-CONTEXT:].copy()
        outputs = self._stream.step({"input": heard})
        return float(outputs[self._output].flat[0])

    def warmup(self) -> None:
        """Hear silence until the kernels are warm, and forget it."""
        for _ in range(20):
            self.probability(np.zeros(WINDOW, np.float32))
        self._stream.reset()
        self._context[:] = 0.0

    def close(self) -> None:
        """Give the model back."""
        self._stream.close()
        self._model.close()

    def __enter__(self) -> VoiceActivity:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Turns:
    """From speech probabilities to turns, with hysteresis and least durations."""

    def __init__(self, config: VoiceConfig) -> None:
        self._threshold = config.threshold
        self._lower = max(config.threshold - HYSTERESIS, LEAST)
        self._least_speech = max(1, _windows(config.min_speech_seconds))
        self._least_silence = max(1, _windows(config.min_silence_seconds))
        self._least_pause = max(1, _windows(config.eager_seconds)) if config.eager_seconds > 0.0 else 0
        self._heard: list[Samples] = []
        self._position = 0
        self._speech = self._silence = 0
        self._announced = self._paused = False

    def step(self, probability: float, window: Samples) -> Event | None:
        """Take one window's probability."""
        self._position += 1
        if self._speech == 0 and probability < self._threshold:
            return None
        self._heard.append(window)
        if probability >= self._threshold:
            return self._go_on()
        if probability < self._lower or self._silence:
            self._silence += 1
        if self._silence >= self._least_silence:
            return self._end()
        if self._announced and not self._paused and 0 < self._least_pause <= self._silence:
            self._paused = True
            return Paused(*self._spoken())
        return None

    def _go_on(self) -> Began | Resumed | None:
        self._speech, self._silence = self._speech + 1, 0
        if self._paused:
            self._paused = False
            return Resumed()
        if not self._announced and self._speech >= self._least_speech:
            self._announced = True
            return Began(self._seconds(self._position - len(self._heard)))
        return None

    def _end(self) -> Ended | None:
        event = Ended(*self._spoken()) if self._announced else None
        self._heard, self._speech, self._silence, self._announced, self._paused = [], 0, 0, False, False
        return event

    def _spoken(self) -> tuple[float, float, Samples]:
        began, count = self._position - len(self._heard), len(self._heard) - self._silence
        return self._seconds(began), self._seconds(began + count), np.concatenate(self._heard[:count])

    def _seconds(self, windows: int) -> float:
        return windows * WINDOW / SAMPLE_RATE


def _windows(seconds: float) -> int:
    return round(seconds * SAMPLE_RATE / WINDOW)
