"""Turns from made probabilities."""

from __future__ import annotations

import numpy as np
import pytest

from omni_sdk.tools.evaluate.latency.config import VoiceConfig
from omni_sdk.tools.evaluate.latency.voice import SAMPLE_RATE, WINDOW, Began, Ended, Event, Paused, Resumed, Turns

STEP = WINDOW / SAMPLE_RATE
CONFIG = VoiceConfig("", min_speech_seconds=3 * STEP, min_silence_seconds=2 * STEP)


def hear(probabilities: list[float], config: VoiceConfig = CONFIG) -> list[tuple[int, Event]]:
    turns = Turns(config)
    events = [turns.step(p, np.full(WINDOW, n, np.float32)) for n, p in enumerate(probabilities)]
    return [(n, event) for n, event in enumerate(events) if event is not None]


def test_a_turn_has_its_beginning_its_end_and_its_samples() -> None:
    (begun, began), (done, ended) = hear([0, 0.9, 0.9, 0.9, 0.9, 0, 0, 0])
    assert (begun, began) == (3, Began(1 * STEP))
    assert done == 6
    assert isinstance(ended, Ended)
    assert (ended.began, ended.ended) == (1 * STEP, 5 * STEP)
    np.testing.assert_array_equal(ended.samples, np.repeat(np.arange(1, 5), WINDOW))


def test_a_click_is_no_turn() -> None:
    assert hear([0.9, 0.9, 0, 0, 0, 0.9, 0, 0]) == []


def test_a_pause_shorter_than_the_silence_does_not_end_a_turn() -> None:
    (_, _), (done, ended) = hear([0.9, 0.9, 0.9, 0, 0.9, 0.9, 0, 0])
    assert done == 7
    assert isinstance(ended, Ended)
    assert ended.ended == 6 * STEP


def test_a_probability_just_below_the_threshold_holds_a_turn_open() -> None:
    assert [n for n, _ in hear([0.9, 0.9, 0.9, 0.4, 0.4, 0.4, 0.4, 0.9, 0.0, 0.0])] == [2, 9]


@pytest.mark.parametrize("threshold", [0.02, 0.15, 0.3])
def test_silence_ends_a_turn_at_any_threshold(threshold: float) -> None:
    config = VoiceConfig("", threshold, min_speech_seconds=3 * STEP, min_silence_seconds=2 * STEP)
    assert [n for n, _ in hear([0.9, 0.9, 0.9, 0.0, 0.0], config)] == [2, 4]


def test_turns_follow_each_other() -> None:
    events = hear([0.9] * 4 + [0] * 3 + [0.9] * 3 + [0] * 2)
    assert [type(event) for _, event in events] == [Began, Ended, Began, Ended]
    last = events[-1][1]
    assert isinstance(last, Ended)
    assert (last.began, last.ended) == (7 * STEP, 10 * STEP)


def test_speech_that_never_ends_gives_no_turn() -> None:
    assert [type(event) for _, event in hear([0.9] * 50)] == [Began]


def test_an_eager_turn_is_suspected_first_and_sure_later() -> None:
    eager = VoiceConfig("", min_speech_seconds=3 * STEP, min_silence_seconds=3 * STEP, eager_seconds=STEP)
    (_, _), (paused_at, paused), (ended_at, ended) = hear([0.9] * 4 + [0] * 4, eager)
    assert (paused_at, ended_at) == (4, 6)
    assert isinstance(paused, Paused)
    assert isinstance(ended, Ended)
    assert not isinstance(ended, Paused)
    assert (paused.began, paused.ended) == (ended.began, ended.ended) == (0.0, 4 * STEP)
    np.testing.assert_array_equal(paused.samples, ended.samples)


def test_a_suspicion_is_taken_back_when_the_speaker_goes_on() -> None:
    eager = VoiceConfig("", min_speech_seconds=3 * STEP, min_silence_seconds=3 * STEP, eager_seconds=STEP)
    events = [type(event) for _, event in hear([0.9] * 4 + [0, 0, 0.9, 0.9, 0, 0, 0], eager)]
    assert events == [Began, Paused, Resumed, Paused, Ended]
