"""Error rates on made utterances with known errors, and runs that break off."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from omni_sdk.tools.evaluate import wer
from omni_sdk.tools.evaluate.dataset import Utterance
from omni_sdk.tools.evaluate.journal import Journal
from omni_sdk.tools.evaluate.wer import Row

pytest.importorskip("jiwer")

Samples = npt.NDArray[np.float32]
WriteAudio = Callable[..., Path]
TEXTS = {"a": "Tengo 3 gatos.", "b": "¿Qué hora es?", "c": "El año pasado", "d": "Sí, claro"}


@pytest.fixture
def dataset(write_audio: WriteAudio) -> list[Utterance]:
    """Each recording's length names it: the transcriber below reads it from there."""
    return [
        Utterance(name, write_audio(f"{name}.wav", np.zeros(1000 * n, np.float32)), text)
        for n, (name, text) in enumerate(TEXTS.items(), start=1)
    ]


def parrot(answers: dict[str, str]) -> Callable[[Samples, int], str]:
    return lambda samples, sample_rate: answers[list(TEXTS)[samples.size // 1000 - 1]]


def run(dataset: list[Utterance], transcriber: wer.Transcriber, path: Path, **options: bool) -> list[Row]:
    with Journal(path, {"kind": "wer"}) as journal:
        return wer.transcribe(dataset, transcriber, journal, **options)  # type: ignore[arg-type]


def test_known_errors_are_counted_exactly(dataset: list[Utterance], tmp_path: Path) -> None:
    heard = {"a": "tengo tres gatos", "b": "que hora", "c": "el año pasado también", "d": "no claro"}
    report = wer.score(run(dataset, parrot(heard), tmp_path / "r.jsonl"), language="es")
    assert report.words == wer.Errors(substitutions=2, deletions=1, insertions=1, reference=11)
    assert report.wer is not None
    assert report.wer.estimate == pytest.approx(4 / 11)
    assert report.wer.low <= 4 / 11 <= report.wer.high
    # é, three letters and a space of " es", " también", and two letters of "sí" against "no".
    assert report.characters == wer.Errors(substitutions=3, deletions=3, insertions=8, reference=16 + 11 + 13 + 8)
    assert [s.id for s in report.scores] == ["b", "d", "c", "a"]
    assert report.failures == ()


def test_a_perfect_transcriber_has_no_error(dataset: list[Utterance], tmp_path: Path) -> None:
    report = wer.score(run(dataset, parrot(TEXTS), tmp_path / "r.jsonl"), language="es")
    assert report.wer is not None
    assert report.cer is not None
    assert (report.wer.estimate, report.cer.estimate) == (0.0, 0.0)
    # Four recordings without an error do not mean that there is none.
    assert report.wer.low == 0.0 < report.wer.high < 1.0


def test_a_silent_transcriber_deletes_every_word(dataset: list[Utterance], tmp_path: Path) -> None:
    report = wer.score(run(dataset, lambda samples, rate: "", tmp_path / "r.jsonl"))
    assert report.words == wer.Errors(0, 11, 0, 11)
    assert report.words.rate == 1.0


def test_what_goes_wrong_is_a_row(dataset: list[Utterance], tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp3"
    broken.write_bytes(b"\xff\xfb\x90\x00 nothing behind the header")
    dataset += [
        Utterance("broken", broken, "uno"),
        Utterance("absent", tmp_path / "absent.mp3", "uno"),
        Utterance("empty", dataset[0].audio, "  "),
        Utterance("dots", dataset[3].audio, "..."),
    ]

    def transcriber(samples: Samples, sample_rate: int) -> object:
        if samples.size == 1000:
            raise RuntimeError("no memory of cats")
        return None if samples.size == 2000 else "sí claro"

    report = wer.score(run(dataset, transcriber, tmp_path / "r.jsonl"), language="es")  # type: ignore[arg-type]
    failures = {row.id: row for row in report.failures}
    assert {name: row.status for name, row in failures.items()} == {
        "a": wer.RAISED,
        "b": wer.NOT_TEXT,
        "broken": wer.UNREADABLE,
        "absent": wer.UNREADABLE,
        "empty": wer.EMPTY_REFERENCE,
        "dots": wer.EMPTY_REFERENCE,
    }
    assert "no memory of cats" in failures["a"].detail
    assert str(broken) in failures["broken"].detail
    assert report.words == wer.Errors(2, 1, 0, 5)


def test_a_transcriber_that_exits_is_a_row(dataset: list[Utterance], tmp_path: Path) -> None:
    rows = run(dataset, lambda samples, rate: sys.exit(0), tmp_path / "r.jsonl")  # type: ignore[arg-type, return-value]
    assert {row.status for row in rows} == {wer.RAISED}
    assert rows[0].detail == "SystemExit: 0"


def test_nothing_to_score_is_no_rate(dataset: list[Utterance], tmp_path: Path) -> None:
    report = wer.score([Row("a", wer.UNREADABLE, "x")])
    assert report.wer is None
    assert report.rtf == 0.0
    json.dumps(report.to_dict())


def test_an_interrupted_run_goes_on_where_it_was(dataset: list[Utterance], tmp_path: Path) -> None:
    path, asked = tmp_path / "r.jsonl", []

    def interrupted(samples: Samples, sample_rate: int) -> str:
        asked.append(samples.size)
        if samples.size == 3000 and len(asked) == 3:
            raise KeyboardInterrupt
        return parrot(TEXTS)(samples, sample_rate)

    with pytest.raises(KeyboardInterrupt):
        run(dataset, interrupted, path)
    rows = run(dataset, interrupted, path)
    assert asked == [1000, 2000, 3000, 3000, 4000]
    assert [row.status for row in rows] == ["ok"] * 4
    assert run(dataset, interrupted, path) == rows
    assert len(asked) == 5


def test_failed_rows_are_made_again_only_when_asked(dataset: list[Utterance], tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    run(dataset, parrot({}), path)
    assert {row.status for row in run(dataset, parrot(TEXTS), path)} == {wer.RAISED}
    assert {row.status for row in run(dataset, parrot(TEXTS), path, retry=True)} == {wer.OK}
    assert {row.status for row in run(dataset, parrot({}), path)} == {wer.OK}


def test_a_changed_reference_is_transcribed_again(dataset: list[Utterance], tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    run(dataset, parrot(TEXTS), path)
    dataset[0] = Utterance("a", dataset[0].audio, "Otra cosa")
    assert run(dataset, parrot(TEXTS), path)[0].reference == "Otra cosa"


def test_a_changed_recording_is_transcribed_again(
    dataset: list[Utterance], write_audio: WriteAudio, tmp_path: Path
) -> None:
    path = tmp_path / "r.jsonl"
    assert run(dataset, parrot(TEXTS), path)[0].hypothesis == TEXTS["a"]
    write_audio("a.wav", np.zeros(2000, np.float32))
    assert run(dataset, parrot(TEXTS), path)[0].hypothesis == TEXTS["b"]


def test_other_rates_are_resampled_and_counted(write_audio: WriteAudio, tmp_path: Path) -> None:
    dataset = [Utterance("x", write_audio("x.wav", sample_rate=48_000), "hola")]
    seen = []
    rows = run(dataset, lambda samples, rate: seen.append((samples.size, rate)) or "hola", tmp_path / "r.jsonl")
    assert seen == [(16_000, 16_000)]
    assert wer.score(rows).resampled == {48_000: 1}
    assert rows[0].audio_seconds == pytest.approx(1.0)
    assert rows[0].compute_seconds > 0


def test_rates_weigh_utterances_by_their_words() -> None:
    rows = [Row("a", "ok", "uno", "dos", 1, 0.5), Row("b", "ok", "a b c d e f g h i", "a b c d e f g h i", 3, 0.5)]
    report = wer.score(rows)
    assert report.words.rate == pytest.approx(0.1)
    assert report.rtf == pytest.approx(0.25)
    assert [s.rtf for s in report.scores] == pytest.approx([0.5, 1 / 6])
