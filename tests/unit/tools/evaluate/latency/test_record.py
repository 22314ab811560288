"""Playback of chunks as they arrive: where it begins, where it stands still, where it is cut off."""

from __future__ import annotations

import pytest

from omni_sdk.tools.evaluate.latency.record import Chunk, Underrun, play

RATE = 1000


def test_chunks_in_time_play_without_a_gap() -> None:
    playback = play([Chunk(1.0, 300), Chunk(1.2, 300), Chunk(1.6, 300)], RATE)
    assert playback is not None
    assert (playback.began, playback.underruns) == (1.0, ())
    assert playback.ended == pytest.approx(1.9)


def test_a_late_chunk_is_an_underrun_of_its_lateness() -> None:
    playback = play([Chunk(1.0, 300), Chunk(1.5, 300), Chunk(1.6, 100)], RATE)
    assert playback is not None
    (gap,) = playback.underruns
    assert gap == Underrun(pytest.approx(1.3), pytest.approx(0.2))  # type: ignore[arg-type]
    assert playback.ended == pytest.approx(1.9)


def test_gaps_after_an_interruption_do_not_count() -> None:
    chunks = [Chunk(1.0, 300), Chunk(2.0, 300)]
    playback = play(chunks, RATE, until=1.2)
    assert playback is not None
    assert (playback.ended, playback.underruns) == (1.2, ())
    assert play(chunks, RATE, until=0.9) is None
    late = play(chunks, RATE, until=2.1)
    assert late is not None
    assert len(late.underruns) == 1


def test_nothing_is_no_playback() -> None:
    assert play([], RATE) is None
