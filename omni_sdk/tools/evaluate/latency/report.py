"""From a recording of a run to its figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from omni_sdk.stats import Latency
from omni_sdk.tools.evaluate.audio import read_audio
from omni_sdk.tools.evaluate.latency.config import PipelineConfig
from omni_sdk.tools.evaluate.latency.pipeline import Pipeline
from omni_sdk.tools.evaluate.latency.record import Playback, Recording, Span, Turn, play
from omni_sdk.tools.evaluate.latency.run import VOICE
from omni_sdk.tools.evaluate.latency.stages import sample_rate_of
from omni_sdk.tools.evaluate.latency.voice import SAMPLE_RATE


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Of `count` measurements, in seconds: nearest ranks as in `omni_sdk.stats`, each a value that was measured."""

    p50: float
    p90: float
    p99: float
    max: float
    count: int

    @classmethod
    def of(cls, seconds: Iterable[float]) -> Percentiles | None:
        """None where nothing was measured."""
        values = list(seconds)
        return cls(**asdict(Latency.of(values)), count=len(values)) if values else None


@dataclass(frozen=True, slots=True)
class StageReport:
    """What one stage took.

    Attributes
    ----------
    name : str
        The stage.
    step, queued : Percentiles or None
        Seconds that an item took, and that it waited before.
    busy_seconds : float
        All steps together.
    rtf : float or None
        Of the last stage: seconds of compute per second of audio it gave. Of voice activity: per second of audio heard.
    """

    name: str
    step: Percentiles | None
    queued: Percentiles | None
    busy_seconds: float
    rtf: float | None


@dataclass(frozen=True, slots=True)
class LatencyReport:
    """End-to-end latency of a pipeline.

    Attributes
    ----------
    total : Percentiles or None
        From the speaker's end to the first audio out.
    detection, response : Percentiles or None
        Its two parts: until voice activity was sure of the end, and from there on; the second is 0 where an answer
        that was begun on suspicion was ready by then.
    stages : tuple of StageReport
        Voice activity first.
    turns : int
        How often the speaker ended.
    unanswered : int
        Turns without audio: the speaker began again too soon, or the stages gave none.
    interrupted : int
        Answers that the speaker cut short.
    discarded : int
        Answers begun on suspicion and dropped.
    underruns : int
        How often the output would have stood still.
    underrun_seconds : float
        For how long, together.
    cpu_cores : float
        Cores that the process kept busy on average.
    recording : Recording
        What the figures are from.
    sample_rate : int
        Hz of the output.
    source_rate : int
        Hz of the recorded audio before any resampling.
    """

    total: Percentiles | None
    detection: Percentiles | None
    response: Percentiles | None
    stages: tuple[StageReport, ...]
    turns: int
    unanswered: int
    interrupted: int
    discarded: int
    underruns: int
    underrun_seconds: float
    cpu_cores: float
    recording: Recording
    sample_rate: int
    source_rate: int

    def to_dict(self) -> dict[str, Any]:
        """Every figure and every turn, ready for JSON."""
        figures = {name: getattr(self, name) for name in self.__slots__ if name not in ("recording", "stages")}
        plain = {name: asdict(value) if isinstance(value, Percentiles) else value for name, value in figures.items()}
        turns = [self._turn(turn) for turn in self.recording.turns]
        return {
            **plain,
            "realtime": self.recording.realtime,
            "audio_seconds": self.recording.audio_seconds,
            "seconds": self.recording.seconds,
            "cpu_seconds": self.recording.cpu_seconds,
            "stages": [asdict(stage) for stage in self.stages],
            "each_turn": turns,
        }

    def meets(self, goal_seconds: float | None) -> bool:
        """The verdict: every turn had its answer, and with a goal, p99 within it and no underrun.

        A turn that the speaker cut off before the goal had passed speaks for nothing.
        """
        if self.total is None or any(self._is_missed(turn, goal_seconds) for turn in self.recording.turns):
            return False
        return goal_seconds is None or (self.total.p99 <= goal_seconds and not self.underruns)

    def _is_missed(self, turn: Turn, goal_seconds: float | None) -> bool:
        if self.playback(turn) is not None:
            return False
        if turn.cancelled is None:
            return True
        return goal_seconds is not None and turn.cancelled - turn.ended > goal_seconds

    def playback(self, turn: Turn) -> Playback | None:
        """How a turn's answer would have sounded."""
        return _playback(turn, self.sample_rate)

    def _turn(self, turn: Turn) -> dict[str, Any]:
        heard = self.playback(turn)
        return {
            "began": turn.began,
            "ended": turn.ended,
            "detected": turn.detected,
            "cancelled": turn.cancelled,
            "first_audio": heard.began if heard else None,
            "playback": asdict(heard) if heard else None,
            "spans": [asdict(span) for span in turn.spans],
        }


def measure_latency(config: PipelineConfig, audio: str | Path, *, realtime: bool = True) -> LatencyReport:
    """Play a recording into a pipeline and measure what comes out when.

    Parameters
    ----------
    config : PipelineConfig
        From `read_pipeline`.
    audio : str or Path
        Recorded speech; resampled to 16 kHz where need be.
    realtime : bool
        At the audio's own pace; otherwise as fast as it goes, each turn answered before the next is heard.

    Returns
    -------
    LatencyReport
        Models are loaded before the first sample is played, and warm as `open_stage` says.

    Raises
    ------
    InputError, ModelError
        The audio or a stage cannot be had, or a stage failed.
    """
    clip = read_audio(audio, SAMPLE_RATE)
    sample_rate = sample_rate_of(config.stages[-1])
    with Pipeline(config) as pipeline:
        recording = pipeline.run(clip.samples, realtime=realtime)
    return summarize(recording, [stage.name for stage in config.stages], sample_rate, clip.source_rate)


def summarize(recording: Recording, stages: Sequence[str], sample_rate: int, source_rate: int) -> LatencyReport:
    """Figures of a recording.

    Parameters
    ----------
    recording : Recording
        From `Pipeline.run`.
    stages : sequence of str
        Names in order, without voice activity.
    sample_rate, source_rate : int
        Hz of the output, and of the recorded audio.

    Returns
    -------
    LatencyReport
        Turns that were cut off before their first audio count as unanswered, not as fast or slow.
    """
    answered = [(turn, playback) for turn in recording.turns if (playback := _playback(turn, sample_rate))]
    sure = [(turn.detected or 0.0, turn, playback) for turn, playback in answered]
    gaps = [gap.seconds for _, playback in answered for gap in playback.underruns]
    produced = sum(chunk.samples for turn in recording.turns for chunk in turn.chunks) / sample_rate
    spans = [span for turn in recording.turns for span in turn.spans]
    reports = [_stage(VOICE, recording.voice, recording.audio_seconds)]
    for name in stages:
        own = [span for span in spans if span.stage == name]
        reports.append(_stage(name, own, produced if name == stages[-1] else None))
    return LatencyReport(
        total=Percentiles.of(playback.began - turn.ended for turn, playback in answered),
        detection=Percentiles.of(detected - turn.ended for detected, turn, _ in sure),
        response=Percentiles.of(playback.began - detected for detected, _, playback in sure),
        stages=tuple(reports),
        turns=len(recording.turns),
        unanswered=len(recording.turns) - len(answered),
        interrupted=sum(turn.cancelled is not None for turn, _ in answered),
        discarded=recording.discarded,
        underruns=len(gaps),
        underrun_seconds=sum(gaps),
        cpu_cores=recording.cpu_seconds / recording.seconds,
        recording=recording,
        sample_rate=sample_rate,
        source_rate=source_rate,
    )


def _playback(turn: Turn, sample_rate: int) -> Playback | None:
    """None too where the end of speech never became sure: nobody has answered then."""
    if turn.detected is None:
        return None
    return play(turn.chunks, sample_rate, since=turn.detected, until=turn.cancelled)


def _stage(name: str, spans: Sequence[Span], audio_seconds: float | None) -> StageReport:
    busy = sum(span.ended - span.began for span in spans)
    return StageReport(
        name=name,
        step=Percentiles.of(span.ended - span.began for span in spans),
        queued=Percentiles.of(span.queued for span in spans),
        busy_seconds=busy,
        rtf=busy / audio_seconds if audio_seconds else None,
    )
