"""A run with made voice activity and made stages: times, order, interruption, failure."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from rich.console import Console

from omni_sdk.cli.evaluate_tables import show_latency
from omni_sdk.errors import InputError, ModelError
from omni_sdk.tools.evaluate.latency import picture
from omni_sdk.tools.evaluate.latency.record import Recording, play
from omni_sdk.tools.evaluate.latency.report import summarize
from omni_sdk.tools.evaluate.latency.run import Run
from omni_sdk.tools.evaluate.latency.stages import CallStage, Stage
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

STEP = WINDOW / SAMPLE_RATE
RATE = 1000


class Script:
    """Voice activity that says what it was told to say, window by window."""

    def __init__(self, events: dict[int, Event]) -> None:
        self.events, self.position = events, 0

    def step(self, window: np.ndarray) -> Event | None:
        self.position += 1
        return self.events.get(self.position)


def ended(window: int, *, late: int = 2) -> Ended:
    return Ended((window - late - 3) * STEP, (window - late) * STEP, np.ones(WINDOW, np.float32))


def run(
    events: dict[int, Event],
    stages: list[tuple[str, Callable[[Any], Any]]],
    *,
    realtime: bool = False,
    windows: int = 10,
    speaker: str = "interrupts",
) -> Recording:
    made: list[tuple[str, Stage]] = [(name, CallStage(function)) for name, function in stages]
    work = Run(made, speaker, RATE, time.perf_counter())
    samples = np.zeros(windows * WINDOW, np.float32)
    voice = work.hear(cast(VoiceActivity, Script(events)), samples, realtime)
    return Recording(tuple(work.turns), tuple(voice), 1.0, 0.5, samples.size / SAMPLE_RATE, realtime, work.discarded)


def speak(item: Any) -> Iterator[np.ndarray]:
    for _ in range(3):
        time.sleep(0.02)
        yield np.zeros((1, 100), np.float32)


def test_items_flow_through_all_stages() -> None:
    seen = []
    stages = [("double", lambda x: seen.append(x.shape) or [1, 2]), ("speak", speak)]
    (turn,) = run({5: ended(5)}, stages).turns
    assert seen == [(WINDOW,)]
    assert [chunk.samples for chunk in turn.chunks] == [100] * 3
    assert [span.stage for span in turn.spans].count("speak") == 3
    assert all(span.ended - span.began >= 0.02 for span in turn.spans if span.stage == "speak")
    arrivals = [chunk.arrival for chunk in turn.chunks]
    assert arrivals == sorted(arrivals)


@pytest.mark.parametrize("realtime", [False, True])
def test_latency_counts_from_the_end_of_speech(realtime: bool) -> None:
    report = summarize(run({5: ended(5, late=2)}, [("speak", speak)], realtime=realtime), ["speak"], RATE, 16_000)
    assert report.total is not None
    assert report.detection is not None
    assert report.response is not None
    # Two windows of silence until the end is sure, and a first step of 20 ms.
    assert report.detection.max == pytest.approx(2 * STEP, abs=1e-6)
    assert 0.02 <= report.response.max < 0.5
    assert report.total.max == pytest.approx(report.detection.max + report.response.max)
    assert (report.turns, report.unanswered, report.interrupted, report.cpu_cores) == (1, 0, 0, 0.5)
    assert report.stages[1].rtf == pytest.approx(report.stages[1].busy_seconds / 0.3)


def test_realtime_audio_is_not_heard_before_it_is_spoken() -> None:
    recording = run({}, [("speak", speak)], realtime=True, windows=5)
    assert [span.began >= n * STEP for n, span in enumerate(recording.voice, start=1)] == [True] * len(recording.voice)


def test_a_speaker_who_begins_again_interrupts() -> None:
    def endless(item: Any) -> Iterator[np.ndarray]:
        while True:
            time.sleep(0.01)
            yield np.zeros(100, np.float32)

    events: dict[int, Event] = {3: ended(3, late=1), 12: Began(0.3), 15: ended(15), 25: Began(0.7)}
    recording = run(events, [("speak", endless)], realtime=True, windows=30)
    report = summarize(recording, ["speak"], RATE, 16_000)
    assert [turn.cancelled is not None for turn in recording.turns] == [True, True]
    assert (report.interrupted, report.unanswered) == (2, 0)
    for turn in recording.turns:
        assert turn.cancelled is not None
        assert turn.chunks[-1].arrival <= turn.cancelled + 0.2


def at_once(item: Any) -> np.ndarray:
    return np.zeros(500, np.float32)


@pytest.mark.parametrize(
    ("window", "speaker", "realtime", "interrupted"),
    [
        (7, "interrupts", True, 1),
        (28, "interrupts", True, 0),
        (7, "goes on", True, 0),
        (7, "interrupts", False, 0),
    ],
    ids=["while it is played", "after it was heard", "who lets it play", "as fast as possible"],
)
def test_an_answer_that_is_ready_is_cut_short_while_it_is_played(
    window: int, speaker: str, realtime: bool, interrupted: int
) -> None:
    """0.5 s of audio, ready after three windows of 32 ms."""
    events: dict[int, Event] = {3: ended(3, late=1), window: Began(0.0)}
    recording = run(events, [("speak", at_once)], realtime=realtime, windows=29, speaker=speaker)
    report = summarize(recording, ["speak"], RATE, 16_000)
    (turn,) = recording.turns
    playback = report.playback(turn)
    assert playback is not None
    assert (report.interrupted, report.unanswered, report.underruns) == (interrupted, 0, 0)
    if interrupted:
        assert playback.ended == turn.cancelled
        assert window * STEP <= playback.ended < playback.began + 0.5
    else:
        assert turn.cancelled is None
        assert playback.ended - playback.began == pytest.approx(0.5)


def test_what_waits_for_a_dropped_answer_is_dropped_with_it() -> None:
    def burst(item: Any) -> Iterator[int]:
        yield from range(20)

    def slow(item: Any) -> np.ndarray:
        time.sleep(0.05)
        return np.zeros(10, np.float32)

    events: dict[int, Event] = {3: ended(3, late=1), 6: Began(0.1)}
    (turn,) = run(events, [("burst", burst), ("slow", slow)], realtime=True, windows=8).turns
    assert 1 <= sum(span.stage == "slow" for span in turn.spans) < 10


def test_a_speaker_who_goes_on_lets_turns_queue_up() -> None:
    slow = [("speak", lambda item: (time.sleep(0.3), np.zeros(100, np.float32))[1])]
    events: dict[int, Event] = {2: ended(2, late=1), 3: Began(0.0), 4: ended(4, late=1)}
    first, second = run(events, slow, realtime=True, speaker="goes on").turns
    assert first.cancelled is second.cancelled is None
    assert second.spans[0].queued > 0.1
    assert second.chunks[0].arrival > first.chunks[0].arrival + 0.29


def test_a_speaker_who_waits_hears_every_answer_out() -> None:
    events: dict[int, Event] = {3: ended(3, late=1)}
    recording = run(events, [("speak", speak)], realtime=True, speaker="waits", windows=5)
    (turn,) = recording.turns
    playback = play(turn.chunks, RATE)
    assert playback is not None
    # The answer lasts 0.3 s, in silence; only then come the two windows that are left.
    assert len(recording.voice) >= 5 + round(0.3 / STEP)
    assert recording.voice[-2].began >= playback.ended


@pytest.mark.parametrize("realtime", [False, True])
def test_an_answer_begun_on_suspicion_is_ready_when_the_end_is_sure(realtime: bool) -> None:
    suspected = Paused(0.0, 4 * STEP, np.ones(WINDOW, np.float32))
    sure = Ended(0.0, 4 * STEP, np.ones(WINDOW, np.float32))
    events: dict[int, Event] = {5: suspected, 9: sure}
    recording = run(events, [("speak", speak)], realtime=realtime, speaker="waits", windows=12)
    report = summarize(recording, ["speak"], RATE, 16_000)
    assert report.total is not None
    assert report.detection is not None
    assert report.response is not None
    # Five windows of silence were 160 ms; the first step took 20 of them.
    assert report.detection.max == report.total.max == pytest.approx(5 * STEP)
    assert report.response.max == 0.0
    assert (report.turns, report.discarded) == (1, 0)


def test_an_answer_begun_too_soon_is_never_heard() -> None:
    suspected = Paused(0.0, 4 * STEP, np.ones(WINDOW, np.float32))
    sure = Ended(0.0, 9 * STEP, np.ones(2 * WINDOW, np.float32))
    seen = []
    stages = [("note", lambda item: seen.append(item.size) or item), ("speak", speak)]
    events: dict[int, Event] = {5: suspected, 6: Resumed(), 11: sure}
    recording = run(events, stages, realtime=True, speaker="waits", windows=12)
    assert seen == [WINDOW, 2 * WINDOW]
    assert recording.discarded == 1
    (turn,) = recording.turns
    assert turn.ended == pytest.approx(9 * STEP)


def test_underruns_of_a_slow_stage_are_counted() -> None:
    def slow(item: Any) -> Iterator[np.ndarray]:
        for _ in range(3):
            time.sleep(0.05)
            yield np.zeros(10, np.float32)

    report = summarize(run({3: ended(3)}, [("speak", slow)]), ["speak"], RATE, 16_000)
    assert report.underruns == 2
    assert 0.05 < report.underrun_seconds < 0.5
    assert report.stages[1].rtf is not None
    assert report.stages[1].rtf > 1


@pytest.mark.parametrize("realtime", [False, True])
def test_a_stage_that_raises_ends_the_run_by_name(realtime: bool) -> None:
    def broken(item: Any) -> None:
        raise RuntimeError("no voice")

    before = threading.active_count()
    with pytest.raises(ModelError, match="RuntimeError: no voice - at stage 'broken'") as caught:
        run({3: ended(3)}, [("first", lambda x: x), ("broken", broken), ("last", speak)], realtime=realtime)
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert threading.active_count() == before


def test_an_error_of_this_package_says_in_which_stage_it_was() -> None:
    def refuse(item: Any) -> None:
        raise InputError("Expected rank 2, got rank 1 - at input 'x'", hint="reshape it")

    with pytest.raises(InputError, match="at input 'x' in stage 'model'\n  hint: reshape it"):
        run({3: ended(3)}, [("model", refuse), ("speak", speak)])


@pytest.mark.parametrize(
    ("item", "said"),
    [("hello", "str"), (np.zeros(9, np.int16), r"int16 \[9\]"), (np.zeros(()), r"float64 \[\]")],
    ids=["text", "integers", "one number"],
)
def test_a_last_stage_without_waveforms_is_an_error(item: object, said: str) -> None:
    with pytest.raises(InputError, match=f"waveforms as float arrays, got {said} - at the last output in stage 'talk'"):
        run({3: ended(3)}, [("talk", lambda x: item)])


def test_a_chunk_without_samples_is_no_first_audio() -> None:
    def late(item: Any) -> Iterator[np.ndarray]:
        yield np.zeros(0, np.float32)
        time.sleep(0.05)
        yield np.zeros(100, np.float32)

    report = summarize(run({3: ended(3)}, [("late", late)]), ["late"], RATE, 16_000)
    assert report.response is not None
    assert report.response.max >= 0.05
    nothing = summarize(run({3: ended(3)}, [("empty", lambda x: np.zeros(0, "f4"))]), ["empty"], RATE, 16_000)
    assert (nothing.unanswered, nothing.total) == (1, None)


def test_turns_without_audio_are_unanswered() -> None:
    report = summarize(run({3: ended(3), 8: ended(8)}, [("mute", lambda x: None)]), ["mute"], RATE, 16_000)
    assert (report.turns, report.unanswered, report.total) == (2, 2, None)
    assert report.to_dict()["each_turn"][0]["first_audio"] is None


def test_silence_has_no_turn() -> None:
    report = summarize(run({}, [("speak", speak)]), ["speak"], RATE, 16_000)
    assert (report.turns, report.total, report.stages[1].step) == (0, None, None)
    console = Console(file=io.StringIO(), width=120)
    show_latency(console, report)
    assert "No speech was found that began and ended" in console.file.getvalue()  # type: ignore[attr-defined]


def test_a_timeline_of_some_turns_says_of_how_many(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(picture, "TURNS_AT_MOST", 1)
    report = summarize(run({3: ended(3), 8: ended(8)}, [("speak", speak)]), ["speak"], RATE, 16_000)
    assert "turn (the first 1 of 2)" in picture.draw_timeline(report, tmp_path / "t.svg").read_text()


def test_a_stage_that_exits_ends_the_run_too() -> None:
    """Not only what is an `Exception`: the thread would die, and its turn never be done."""

    def leaving(item: Any) -> None:
        raise SystemExit(3)

    with pytest.raises(ModelError, match="SystemExit: 3 - at stage 'leaving'"):
        run({3: ended(3)}, [("leaving", leaving), ("speak", speak)])


def test_as_fast_as_possible_no_time_is_before_the_run() -> None:
    recording = run({8: ended(8), 10: ended(10)}, [("speak", speak)], windows=12)
    times = [(turn.began, turn.ended, turn.detected) for turn in recording.turns]
    assert min(turn.began for turn in recording.turns) == 0.0
    assert all(began <= end <= (sure or 0.0) for began, end, sure in times)
    assert all(span.began >= 0.0 for span in recording.voice)


def test_a_turn_that_nobody_answered_misses_every_goal() -> None:
    answers = iter([np.zeros(100, np.float32), None])
    recording = run({3: ended(3), 8: ended(8)}, [("some", lambda item: next(answers))])
    report = summarize(recording, ["some"], RATE, 16_000)
    assert report.unanswered == 1
    assert not report.meets(None)
    recording.turns[1].cancelled = recording.turns[1].ended + 0.2
    assert report.meets(None)  # the speaker began again
    assert report.meets(10.0)
    assert not report.meets(0.1)
