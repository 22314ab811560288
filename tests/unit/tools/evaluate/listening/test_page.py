"""The page: whole in one file, blind, level-matched; and what unfit folders get."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from omni_sdk.errors import InputError
from omni_sdk.tools.evaluate.listening import write_page
from omni_sdk.tools.evaluate.listening.loudness import loudness_lufs

soundfile = pytest.importorskip("soundfile")

WriteAudio = Callable[..., Path]
Voice = Callable[..., npt.NDArray[np.float32]]


@pytest.fixture
def folder(write_audio: WriteAudio, voice: Voice, tmp_path: Path) -> Path:
    """Three conditions of three items, at very different levels."""
    for gain, condition in ((1.0, "reference"), (0.1, "qdq"), (0.5, "fp32")):
        for seed, item in enumerate(("basil", "cumin", "thyme")):
            write_audio(f"clips/{condition}/{item}.wav", gain * voice(0.6, 24_000, seed), 24_000)
    return tmp_path / "clips"


def page_data(page: Path) -> dict[str, Any]:
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', page.read_text(), re.DOTALL)
    assert found
    data: dict[str, Any] = json.loads(found[1])
    return data


@pytest.mark.parametrize(("kind", "trials"), [("mos", 9 + 2 + 2), ("abx", 6 + 2)])
def test_every_clip_is_asked_for(folder: Path, tmp_path: Path, kind: str, trials: int) -> None:
    test = write_page(folder, tmp_path / "t.html", kind=kind, seed=1)
    key, data = json.loads(test.key.read_text()), page_data(test.page)
    assert test.trials == len(data["trials"]) == len(key["trials"]) == trials
    asked = {tuple(sorted(key["clips"][c]["condition"] for c in t["clips"])) for t in key["trials"].values()}
    if kind == "mos":
        assert asked == {("reference",), ("qdq",), ("fp32",), ("anchor",)}
    else:
        assert asked == {("qdq", "reference"), ("fp32", "reference"), ("anchor", "reference")}
        for trial in key["trials"].values():
            assert len({key["clips"][c]["item"] for c in trial["clips"]}) == 1


def test_the_page_says_nothing_of_what_a_clip_is(folder: Path, tmp_path: Path) -> None:
    for kind in ("mos", "abx"):
        test = write_page(folder, tmp_path / f"{kind}.html", kind=kind, seed=1)
        data = page_data(test.page)
        assert set(data) == {"format", "test", "kind", "clips", "trials"}
        assert all(set(trial) == {"trial", "clips"} for trial in data["trials"])
        assert list(data["clips"]) == sorted(data["clips"])
        assert all(trial["clips"] == sorted(trial["clips"]) for trial in data["trials"])
        text = re.sub(r'"clips": \{.*?\}', "", test.page.read_text())
        assert not re.search(r"qdq|fp32|basil|cumin|thyme", text)


def test_clips_in_the_page_are_equally_loud(folder: Path, tmp_path: Path) -> None:
    test = write_page(folder, tmp_path / "t.html", seed=1)
    levels = []
    for clip in page_data(test.page)["clips"].values():
        samples, rate = soundfile.read(io.BytesIO(base64.b64decode(clip)), dtype="float32")
        levels.append(loudness_lufs(samples, rate))
    assert len(levels) == 11
    assert levels == pytest.approx([test.loudness_lufs] * 11, abs=0.05)


def test_the_page_asks_nothing_of_the_network(folder: Path, tmp_path: Path) -> None:
    text = write_page(folder, tmp_path / "t.html", seed=1).page.read_text()
    markup = re.sub(r'"clips": \{.*?\}', "", text)
    assert not re.search(
        r"https?:|//[a-z]+\.|\bsrc=|<link|@import|url\((?!createObject)|fetch\(|XMLHttpRequest", markup
    )
    assert "default-src 'none'" in text


def test_a_seed_gives_the_same_page_and_none_another(folder: Path, tmp_path: Path) -> None:
    pages = [write_page(folder, tmp_path / f"{n}.html", seed=s).page.read_text() for n, s in enumerate([5, 5, 6, None])]
    assert pages[0] == pages[1]
    assert len(set(pages)) == 3


def test_the_key_of_another_test_is_not_replaced(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "t.html"
    first = write_page(folder, output, seed=5)
    page, key = first.page.read_bytes(), first.key.read_bytes()
    for seed, kind in ((6, "mos"), (None, "mos"), (5, "abx")):
        with pytest.raises(InputError, match=r"got the key of another test - at .*t\.key\.json"):
            write_page(folder, output, kind=kind, seed=seed)
    assert (first.page.read_bytes(), first.key.read_bytes()) == (page, key)
    again = write_page(folder, output, title="Once more", seed=5)
    assert again.key.read_bytes() == key
    assert again.page.read_bytes() != page
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clips", "t.html", "t.key.json"]


def test_no_page_stands_without_its_key(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []

    def replace(path: Path, target: Path) -> None:
        written.append(target.name)
        raise OSError("the disk is gone")

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(InputError, match=r"the disk is gone - at .*t\.key\.json"):
        write_page(folder, tmp_path / "t.html", seed=5)
    assert written == ["t.key.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["clips"]


def test_a_title_is_text_not_markup(folder: Path, tmp_path: Path) -> None:
    text = write_page(folder, tmp_path / "t.html", title="</title><script>alert(1)</script>", seed=1).page.read_text()
    assert "<script>alert" not in text


def test_the_reference_may_be_named(folder: Path, tmp_path: Path) -> None:
    key = json.loads(write_page(folder, tmp_path / "t.html", kind="abx", reference="fp32", seed=1).key.read_text())
    assert key["reference"] == "fp32"
    with pytest.raises(InputError, match="Expected one of fp32, qdq, reference, got 'gold'"):
        write_page(folder, tmp_path / "t.html", reference="gold")
    with pytest.raises(InputError, match="Expected one of mos, abx, got 'mushra'"):
        write_page(folder, tmp_path / "t.html", kind="mushra")
    with pytest.raises(InputError, match="zero or more, got -1"):
        write_page(folder, tmp_path / "t.html", seed=-1)


def test_what_unfit_folders_get(folder: Path, tmp_path: Path, write_audio: WriteAudio) -> None:
    def refused(said: str, path: Path = folder) -> None:
        with pytest.raises(InputError, match=said):
            write_page(path, tmp_path / "t.html")
        assert not (tmp_path / "t.html").exists()

    refused("got none", tmp_path / "absent")
    refused(
        "two folders of recordings or more, got reference", (folder / "reference").rename(tmp_path / "reference").parent
    )
    (tmp_path / "reference").rename(folder / "reference")
    (folder / "qdq" / "cumin.wav").rename(tmp_path / "cumin.wav")
    refused("qdq lacks cumin")
    (tmp_path / "cumin.wav").rename(folder / "qdq" / "cumin.wav")
    (folder / "qdq" / "thyme.flac").write_bytes(b"")
    refused("got thyme.flac and thyme.wav")
    (folder / "qdq" / "thyme.flac").unlink()
    (folder / "fp32" / "basil.wav").write_bytes(b"RIFF")
    refused("libsndfile")
    (folder / "fp32").rename(folder / "anchor")
    refused("no condition named 'anchor'")
