"""Scores from made answers: exact means, and every reason for which a rater does not count."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from omni_sdk.errors import InputError
from omni_sdk.tools.evaluate.listening import AbxReport, MosReport, score_results
from omni_sdk.tools.evaluate.listening.score import chance_of

Json = dict[str, Any]
QUALITY = {"reference": 5, "fp32": 4, "int8": 3, "anchor": 1}


@pytest.fixture
def mos_key(tmp_path: Path) -> Path:
    clips = {f"{c}-{i}": {"condition": c, "item": i} for c in QUALITY for i in ("a", "b") if (c, i) != ("anchor", "b")}
    trials: Json = {f"t-{t}": {"clips": [t], "role": "anchor" if t[0] == "a" else "test"} for t in clips}
    trials["again"] = {"clips": ["fp32-a"], "role": "repeat"}
    return write(
        tmp_path / "key.json", {**HEAD, "kind": "mos", "reference": "reference", "clips": clips, "trials": trials}
    )


@pytest.fixture
def abx_key(tmp_path: Path) -> Path:
    clips = {f"{c}-{i}": {"condition": c, "item": i} for c in ("reference", "int8", "anchor") for i in "abcd"}
    trials = {
        f"t-{c}-{i}": {"clips": [f"{c}-{i}", f"reference-{i}"], "role": "anchor" if c == "anchor" else "test"}
        for c in ("int8", "anchor")
        for i in "abcd"
    }
    return write(
        tmp_path / "key.json", {**HEAD, "kind": "abx", "reference": "reference", "clips": clips, "trials": trials}
    )


HEAD = {"format": 1, "test": "0123"}


def write(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content))
    return path


def ratings(key: Path, rate: Callable[[str, str], int], rater: str, **changes: object) -> Path:
    """One rater's file: `rate(trial, condition)` gives each trial its rating."""
    secret = json.loads(key.read_text())
    answers = [
        {"trial": t, "clip": e["clips"][0], "rating": rate(t, secret["clips"][e["clips"][0]]["condition"])}
        for t, e in secret["trials"].items()
    ]
    return write(key.parent / f"{rater}.json", {**HEAD, "kind": "mos", "rater": rater, "answers": answers, **changes})


def choices(key: Path, is_right: Callable[[str], bool], rater: str) -> Path:
    answers = []
    for trial, entry in json.loads(key.read_text())["trials"].items():
        a, b = entry["clips"]
        answers.append({"trial": trial, "a": a, "b": b, "x": b, "answer": b if is_right(trial) else a})
    return write(key.parent / f"{rater}.json", {**HEAD, "kind": "abx", "rater": rater, "answers": answers})


def honest(trial: str, condition: str) -> int:
    return QUALITY[condition]


def test_mos_is_the_mean_of_the_ratings(mos_key: Path) -> None:
    harsh = ratings(mos_key, lambda t, c: max(1, QUALITY[c] - 1), "harsh")
    report = score_results([ratings(mos_key, honest, "kind"), harsh], mos_key)
    assert isinstance(report, MosReport)
    assert [(s.condition, s.mos.estimate, s.ratings) for s in report.conditions] == [
        ("reference", 4.5, 4),
        ("fp32", 3.5, 4),
        ("int8", 2.5, 4),
        ("anchor", 1.0, 2),
    ]
    assert (report.raters, report.unit, report.rejected) == (2, "answer", {})
    best, worst = report.conditions[0].mos, report.conditions[-1].mos
    assert best.low < 4.0
    assert best.high == 5.0
    # Two ratings that agree are no certainty.
    assert worst.low == 1.0 < worst.high < 5.0
    json.dumps(report.to_dict())


def test_many_raters_make_the_interval_over_raters(mos_key: Path) -> None:
    rng = np.random.default_rng(4)
    files = [
        ratings(mos_key, lambda t, c, s=shift: min(5, max(1, QUALITY[c] - int(s))), f"r{n}")  # type: ignore[misc]
        for n, shift in enumerate(rng.integers(0, 2, size=12))
    ]
    report = score_results(files, mos_key)
    assert (report.raters, report.unit) == (12, "rater")
    interval = report.conditions[0].mos
    assert interval.low < interval.estimate < interval.high
    # Each rater rates alike: 24 ratings are but 12 opinions, and the interval is as wide as 12 make it.
    assert interval.high - interval.low > 0.4


@pytest.mark.parametrize(
    ("rate", "reason"),
    [
        (lambda t, c: 3, "every clip got the same rating"),
        (lambda t, c: 6 - QUALITY[c], "rated no worse"),
        (lambda t, c: 1 if t == "again" else QUALITY[c], r"differ by 3\.0 points"),
    ],
)
def test_inattentive_raters_do_not_count(mos_key: Path, rate: Callable[[str, str], int], reason: str) -> None:
    good, bad = ratings(mos_key, honest, "good"), ratings(mos_key, rate, "bad")
    report = score_results([good, bad], mos_key)
    assert report.raters == 1
    assert list(report.rejected) == ["bad"]
    with pytest.raises(InputError, match=reason):
        score_results([bad], mos_key)


def test_a_rater_against_all_others_does_not_count(mos_key: Path) -> None:
    swapped = {"reference": 4, "fp32": 5, "int8": 3, "anchor": 1}
    contrary = {"reference": 2, "fp32": 4, "int8": 5, "anchor": 1}
    files = [ratings(mos_key, honest, f"r{n}") for n in range(5)]
    files.append(ratings(mos_key, lambda t, c: swapped[c], "swapped"))
    files.append(ratings(mos_key, lambda t, c: contrary[c], "contrary"))
    report = score_results(files, mos_key)
    assert list(report.rejected) == ["contrary"]
    assert "correlate" in report.rejected["contrary"]


def test_files_that_are_no_answers_are_reported(mos_key: Path, tmp_path: Path) -> None:
    good = ratings(mos_key, honest, "good")
    again = write(tmp_path / "again.json", json.loads(good.read_text()))
    foreign = ratings(mos_key, honest, "foreign", test="ffff")
    torn = tmp_path / "torn.json"
    torn.write_text('{"format": 1')
    deep = tmp_path / "deep.json"
    deep.write_text("[" * 200_000)
    partial = ratings(mos_key, honest, "partial", answers=json.loads(good.read_text())["answers"][:3])
    wild = ratings(mos_key, lambda t, c: 9, "wild")
    twice = ratings(mos_key, honest, "twice", answers=json.loads(good.read_text())["answers"][:1] * 2)
    report = score_results([good, again, foreign, torn, deep, partial, wild, twice, tmp_path / "absent.json"], mos_key)
    assert report.raters == 1
    expected = {
        "again.json": "a second answer of good",
        "foreign.json": "Expected answers to test 0123, got 'ffff'",
        "torn.json": "Expected a JSON file",
        "deep.json": "Expected a JSON file, got RecursionError",
        "partial": "of 8 trials are not answered",
        "wild.json": "rating from 1 to 5",
        "twice.json": "each trial of the test once",
        "absent.json": "FileNotFoundError",
    }
    assert set(report.rejected) == set(expected)
    for name, said in expected.items():
        assert said in report.rejected[name]


def test_abx_counts_right_answers(abx_key: Path) -> None:
    files = [choices(abx_key, lambda t: "anchor" in t or t.endswith("a"), f"r{n}") for n in range(2)]
    report = score_results(files, abx_key)
    assert isinstance(report, AbxReport)
    anchor, int8 = report.conditions
    assert (anchor.condition, anchor.correct, anchor.answers) == ("anchor", 8, 8)
    assert anchor.p_value == pytest.approx(2**-8)
    assert (int8.condition, int8.correct, int8.answers) == ("int8", 2, 8)
    assert int8.share_correct.estimate == 0.25
    assert int8.p_value == pytest.approx(1 - 9 / 256)


def test_an_abx_rater_who_misses_the_obvious_does_not_count(abx_key: Path) -> None:
    files = [choices(abx_key, lambda t: True, "good"), choices(abx_key, lambda t: t.endswith("a"), "deaf")]
    report = score_results(files, abx_key)
    assert report.rejected == {"deaf": "only 1 of 4 unmistakable pairs were told apart"}


def test_abx_answers_with_foreign_clips_are_refused(abx_key: Path) -> None:
    path = choices(abx_key, lambda t: True, "odd")
    content = json.loads(path.read_text())
    content["answers"][0]["answer"] = "elsewhere"
    with pytest.raises(InputError, match="the trial's two clips"):
        score_results([write(path, content)], abx_key)


@pytest.mark.parametrize("content", ["[1]", '{"format": 1, "test": "0123"}', "{"])
def test_a_key_that_is_none_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "key.json"
    path.write_text(content)
    with pytest.raises(InputError, match=r"key\.json"):
        score_results([], path)


def test_no_rater_is_an_error(mos_key: Path) -> None:
    with pytest.raises(InputError, match="no file was given"):
        score_results([], mos_key)


def test_chance_is_the_exact_binomial() -> None:
    assert chance_of(0, 10) == 1.0
    assert chance_of(9, 10) == pytest.approx(11 / 1024)
    assert chance_of(12, 16) == pytest.approx(0.0384, abs=1e-4)
