"""A loaded pipeline, into which audio is played."""

from __future__ import annotations

import contextlib
import time
from types import TracebackType

import numpy as np
import numpy.typing as npt
import psutil

from omni_sdk.tools.evaluate.latency.config import PipelineConfig
from omni_sdk.tools.evaluate.latency.record import Recording
from omni_sdk.tools.evaluate.latency.run import Run
from omni_sdk.tools.evaluate.latency.stages import Stage, open_stage, sample_rate_of
from omni_sdk.tools.evaluate.latency.voice import SAMPLE_RATE, VoiceActivity

Samples = npt.NDArray[np.float32]

TAIL_SECONDS = 0.3
"""Silence behind the audio, besides the silence that ends a turn: its last words are to end too."""


class Pipeline:
    """Voice activity and stages, loaded, and warm as `open_stage` says. Owns their models until `close`.

    Parameters
    ----------
    config : PipelineConfig
        From `read_pipeline`.

    Raises
    ------
    InputError, ModelError
        A function or a model cannot be had.
    """

    def __init__(self, config: PipelineConfig) -> None:
        self.config = config
        with contextlib.ExitStack() as opened:
            self._voice = opened.enter_context(VoiceActivity(config.voice))
            self._stages: list[tuple[str, Stage]] = []
            for stage in config.stages:
                made = open_stage(stage)
                opened.callback(made.close)
                self._stages.append((stage.name, made))
            self._opened = opened.pop_all()
        self._voice.warmup()

    def run(self, samples: Samples, *, realtime: bool = True) -> Recording:
        """Play audio in and wait for the last answer.

        Parameters
        ----------
        samples : numpy.ndarray
            Float32 [samples], mono, 16 kHz.
        realtime : bool
            At the audio's own pace; otherwise as fast as it goes, with each turn answered before the next is heard.

        Returns
        -------
        Recording
            Every turn and every span.

        Raises
        ------
        OmniError
            A stage failed; the message says which.
        """
        process, begun = psutil.Process(), time.perf_counter()
        before = process.cpu_times()
        run = Run(self._stages, self.config.speaker, sample_rate_of(self.config.stages[-1]), begun)
        tail = np.zeros(round((self.config.voice.min_silence_seconds + TAIL_SECONDS) * SAMPLE_RATE), np.float32)
        voice = run.hear(self._voice, np.concatenate([samples, tail]), realtime)
        after = process.cpu_times()
        cpu = after.user + after.system - before.user - before.system
        seconds = time.perf_counter() - begun
        audio_seconds = samples.size / SAMPLE_RATE
        return Recording(tuple(run.turns), tuple(voice), seconds, cpu, audio_seconds, realtime, run.discarded)

    def close(self) -> None:
        """Give every model back."""
        self._opened.close()

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
