"""What a run leaves behind: turns, and what each stage did when. Times are seconds on one clock, the run's own."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True)
class Span:
    """A stage at work: `queued` seconds its item waited, then from `began` to `ended`."""

    stage: str
    queued: float
    began: float
    ended: float

    def moved(self, seconds: float) -> Span:
        """The same so many seconds later."""
        return replace(self, began=self.began + seconds, ended=self.ended + seconds)


@dataclass(frozen=True, slots=True)
class Chunk:
    """Samples that came out of the last stage at `arrival`."""

    arrival: float
    samples: int

    def moved(self, seconds: float) -> Chunk:
        """The same so many seconds later."""
        return replace(self, arrival=self.arrival + seconds)


@dataclass(eq=False, slots=True)
class Turn:
    """Something that was said, and its answer in the making.

    Attributes
    ----------
    index : int
        From 0.
    began, ended : float
        When the speaker began and ended.
    detected : float or None
        When the window was complete that made sure of the end; None while it is only suspected.
    cancelled : float or None
        When the speaker began again: the answer was dropped, or its playback cut short.
    spans, chunks : list
        What was done for it, and what came out.
    done : threading.Event
        Nothing more will come.
    """

    index: int
    began: float
    ended: float
    detected: float | None
    cancelled: float | None = None
    spans: list[Span] = field(default_factory=list)
    chunks: list[Chunk] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)

    def move(self, seconds: float) -> None:
        """Bring every time onto a clock whose zero was so many seconds earlier."""
        self.began, self.ended = self.began + seconds, self.ended + seconds
        self.detected = None if self.detected is None else self.detected + seconds
        self.cancelled = None if self.cancelled is None else self.cancelled + seconds
        self.spans = [span.moved(seconds) for span in self.spans]
        self.chunks = [chunk.moved(seconds) for chunk in self.chunks]


@dataclass(frozen=True, slots=True)
class Recording:
    """A whole run.

    Attributes
    ----------
    turns : tuple of Turn
        In order.
    voice : tuple of Span
        Voice activity's windows; `queued` is how late a window was begun.
    seconds, cpu_seconds : float
        Duration of the run, and processor time of the whole process in it.
    audio_seconds : float
        Duration of what was played in.
    realtime : bool
        The audio was played in at its own pace.
    discarded : int
        Answers that were begun on suspicion and dropped, for the speaker went on.
    """

    turns: tuple[Turn, ...]
    voice: tuple[Span, ...]
    seconds: float
    cpu_seconds: float
    audio_seconds: float
    realtime: bool
    discarded: int = 0


@dataclass(frozen=True, slots=True)
class Underrun:
    """The output stood still for `seconds`, from `at` on."""

    at: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Playback:
    """An answer as it would have sounded: from `began` to `ended`, with its gaps."""

    began: float
    ended: float
    underruns: tuple[Underrun, ...]


def play(
    chunks: Sequence[Chunk], sample_rate: int, *, since: float = 0.0, until: float | None = None
) -> Playback | None:
    """Play chunks at their own pace from the first on.

    Parameters
    ----------
    chunks : sequence of Chunk
        As they arrived.
    sample_rate : int
        Hz of the output.
    since : float
        Before this nothing is played: the end of speech was not sure.
    until : float, optional
        When the listener interrupted; what comes later does not matter.

    Returns
    -------
    Playback or None
        None where nothing came. A chunk that arrives after the last one has ended makes an underrun of that length.
    """
    if not chunks or (until is not None and max(chunks[0].arrival, since) >= until):
        return None
    began = end = max(chunks[0].arrival, since)
    underruns = []
    for chunk in chunks:
        if until is not None and end >= until:
            break
        if chunk.arrival > end:
            underruns.append(Underrun(end, chunk.arrival - end))
        end = max(end, chunk.arrival) + chunk.samples / sample_rate
    return Playback(began, end if until is None else min(end, until), tuple(underruns))
