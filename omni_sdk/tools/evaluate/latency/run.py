"""One run of a pipeline: one thread a stage, queues between them, and every item's times on record."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from omni_sdk.errors import InputError, ModelError, OmniError
from omni_sdk.tools.evaluate.latency.config import INTERRUPTS, WAITS
from omni_sdk.tools.evaluate.latency.record import Chunk, Span, Turn, play
from omni_sdk.tools.evaluate.latency.stages import Stage
from omni_sdk.tools.evaluate.latency.voice import (
    SAMPLE_RATE,
    WINDOW,
    Began,
    Ended,
    Event,
    Paused,
    Resumed,
    VoiceActivity,
)

Samples = npt.NDArray[np.float32]

VOICE = "voice"


@dataclass(frozen=True, slots=True)
class _Packet:
    """An item on its way, or, where `last`, the word that a turn has no more of them."""

    turn: Turn
    item: Any
    sent: float
    last: bool = False


class Run:
    """One run's threads and queues. Each stage's thread is the only one that touches that stage.

    Parameters
    ----------
    stages : list of (str, Stage)
        In order, by name.
    speaker : str
        What the speaker does while an answer is made and played; see `PipelineConfig`.
    sample_rate : int
        Hz of the answers.
    begun : float
        `time.perf_counter()` at the run's zero.
    """

    def __init__(self, stages: list[tuple[str, Stage]], speaker: str, sample_rate: int, begun: float) -> None:
        self.turns: list[Turn] = []
        self.discarded = 0
        self._speaker, self._sample_rate, self._begun = speaker, sample_rate, begun
        self._failure: OmniError | None = None
        self._queues: list[queue.SimpleQueue[_Packet | None]] = [queue.SimpleQueue() for _ in stages]
        self._threads = [
            threading.Thread(target=self._work, args=(position, name, stage), name=f"omni-stage-{name}", daemon=True)
            for position, (name, stage) in enumerate(stages)
        ]

    def hear(self, voice: VoiceActivity, samples: Samples, realtime: bool) -> list[Span]:
        """Feed every window when it is due, and wait for all answers.

        Parameters
        ----------
        voice : VoiceActivity
            What hears the windows.
        samples : numpy.ndarray
            Float32 [samples] at 16 kHz.
        realtime : bool
            A window is due when its last sample has been spoken; otherwise as soon as the turn before is answered.

        Returns
        -------
        list of Span
            Each window's times. Turns are in `turns`.

        Raises
        ------
        OmniError
            A stage failed.
        """
        for thread in self._threads:
            thread.start()
        spans = []
        try:
            for position, window in enumerate(self._spoken(samples, realtime), start=1):
                heard = position * WINDOW / SAMPLE_RATE
                if realtime:
                    time.sleep(max(heard - self._now(), 0.0))
                due = heard if realtime else self._now()
                began = self._now()
                event = voice.step(window)
                spans.append(Span(VOICE, began - due, began, self._now()))
                if realtime and self._speaker == INTERRUPTS and isinstance(event, Began):
                    self._interrupt()
                self._follow(event, heard, due - heard)
                if not realtime and self.turns:
                    self.turns[-1].done.wait()
                if self._failure:
                    raise self._failure
            for turn in self.turns:
                turn.done.wait()
        finally:
            self._cancel()
            self._queues[0].put(None)
            for thread in self._threads:
                thread.join()
        if self._failure:
            raise self._failure
        # As fast as possible, speech is over before it could have been spoken: the run's zero moves to its beginning.
        earliest = min([0.0, *(turn.began for turn in self.turns)])
        for turn in self.turns:
            turn.move(-earliest)
        return [span.moved(-earliest) for span in spans]

    def _spoken(self, samples: Samples, realtime: bool) -> Iterator[Samples]:
        """The recording's windows; and silence in between while the speaker waits for an answer."""
        silence = np.zeros(WINDOW, np.float32)
        for window in _windows(samples):
            yield window
            while realtime and self._speaker == WAITS and self._is_answering():
                yield silence

    def _is_answering(self) -> bool:
        if not self.turns or self._failure or (last := self.turns[-1]).detected is None:
            return False
        return not last.done.is_set() or self._is_unheard(last, self._now())

    def _is_unheard(self, turn: Turn, now: float) -> bool:
        """Whether some of what there is of an answer is still to be played."""
        if turn.detected is None:
            return False
        heard = play(tuple(turn.chunks), self._sample_rate, since=turn.detected)
        return heard is not None and heard.ended > now

    def _follow(self, event: Event | None, heard: float, shift: float) -> None:
        """`heard` is how far into the audio we are; `shift` brings that onto the run's clock."""
        if isinstance(event, Resumed):
            self._cancel(since=-1)
            self.turns.pop()
            self.discarded += 1
        elif isinstance(event, Ended):
            suspected = bool(self.turns) and self.turns[-1].detected is None
            turn = self.turns[-1] if suspected else self._open(event, shift)
            if not isinstance(event, Paused):
                # By the clock of its beginning: as fast as possible, the run's own has gone on to the answer's end.
                turn.detected = turn.ended + heard - event.ended

    def _open(self, event: Ended, shift: float) -> Turn:
        turn = Turn(len(self.turns), event.began + shift, event.ended + shift, None)
        self.turns.append(turn)
        self._queues[0].put(_Packet(turn, event.samples, self._now()))
        self._queues[0].put(_Packet(turn, None, self._now(), last=True))
        return turn

    def _interrupt(self) -> None:
        """Drop what is in the making, and cut short what is being played."""
        self._cancel()
        now = self._now()
        for turn in self.turns:
            if turn.cancelled is None and self._is_unheard(turn, now):
                turn.cancelled = now

    def _cancel(self, since: int = 0) -> None:
        for turn in self.turns[since:]:
            if not turn.done.is_set():
                turn.cancelled = self._now()
                turn.done.set()

    def _work(self, position: int, name: str, stage: Stage) -> None:
        current: Turn | None = None
        inbox = self._queues[position]
        while (packet := inbox.get()) is not None:
            turn = packet.turn
            if turn.cancelled is not None or self._failure:
                continue
            try:
                if turn is not current:
                    stage.begin()
                    current = turn
                self._pump(position, name, packet, stage.end() if packet.last else stage.take(packet.item))
            except BaseException as error:  # also SystemExit: a thread that ends would leave its turn unanswered
                self._fail(name, error)
        if position + 1 < len(self._queues):
            self._queues[position + 1].put(None)

    def _pump(self, position: int, name: str, packet: _Packet, produced: Iterator[Any]) -> None:
        # What is left at a turn's end was held back on purpose; it did not queue.
        turn, waited = packet.turn, 0.0 if packet.last else self._now() - packet.sent
        while True:
            began = self._now()
            try:
                item = next(produced)
            except StopIteration:
                break
            turn.spans.append(Span(name, waited, began, self._now()))
            waited = 0.0
            self._deliver(position, name, turn, item)
            if turn.cancelled is not None:
                return
        if packet.last:
            self._finish(position, turn)

    def _deliver(self, position: int, name: str, turn: Turn, item: Any) -> None:
        if position + 1 < len(self._queues):
            self._queues[position + 1].put(_Packet(turn, item, self._now()))
        elif not isinstance(item, np.ndarray) or item.dtype.kind != "f" or item.ndim == 0:
            what = f"{item.dtype} {list(item.shape)}" if isinstance(item, np.ndarray) else type(item).__name__
            raise InputError(f"Expected waveforms as float arrays, got {what} - at the last output")
        elif item.shape[-1]:  # without a sample there is nothing to hear yet
            turn.chunks.append(Chunk(self._now(), item.shape[-1]))

    def _finish(self, position: int, turn: Turn) -> None:
        if position + 1 < len(self._queues):
            self._queues[position + 1].put(_Packet(turn, None, self._now(), last=True))
        else:
            turn.done.set()

    def _fail(self, name: str, error: BaseException) -> None:
        if isinstance(error, OmniError):
            told: OmniError = error.within(f"stage {name!r}")
        else:
            told = ModelError(f"Expected an answer, got {type(error).__name__}: {error} - at stage {name!r}")
        told.__cause__ = error
        self._failure = self._failure or told
        for turn in self.turns:
            turn.done.set()

    def _now(self) -> float:
        return time.perf_counter() - self._begun


def _windows(samples: Samples) -> Iterator[Samples]:
    padded = np.concatenate([samples, np.zeros(-samples.size % WINDOW, np.float32)])
    for first in range(0, padded.size, WINDOW):
        yield padded[first : first + WINDOW]
