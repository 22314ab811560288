"""Datasets: Common Voice folders and manifests, and what is wrong with some."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from omni_sdk.errors import InputError
from omni_sdk.tools.evaluate.dataset import read_dataset


def common_voice(folder: Path, table: str, name: str = "test.tsv") -> Path:
    (folder / "clips").mkdir(parents=True)
    (folder / name).write_text(table, encoding="utf-8")
    return folder


def test_a_common_voice_folder(tmp_path: Path) -> None:
    folder = common_voice(
        tmp_path / "es",
        'client_id\tpath\tsentence\tage\nx\ta.mp3\t"¿Qué?" dijo\u2028él.\t\nx\tb.mp3\t\t\ny\tc.mp3\nz\ta.mp3\tOtra\t\n',
    )
    first, empty, short, again = read_dataset(folder)
    assert first.audio == folder / "clips" / "a.mp3"
    assert first.reference == '"¿Qué?" dijo\u2028él.'
    assert empty.reference == short.reference == ""
    assert (first.id, again.id) == ("a.mp3", "a.mp3 #2")


def test_another_split(tmp_path: Path) -> None:
    folder = common_voice(tmp_path / "es", "path\tsentence\na.mp3\tSí\n", "dev.tsv")
    assert [u.reference for u in read_dataset(folder, split="dev")] == ["Sí"]
    with pytest.raises(InputError, match=r"Expected test\.tsv .* got these tables: dev\.tsv"):
        read_dataset(folder)


def test_a_manifest_is_relative_to_itself(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    lines = [{"audio": "a.wav", "text": "uno"}, {"audio": str(tmp_path / "b.wav"), "text": "dos", "id": 7}]
    path.write_text("\n\n".join(map(json.dumps, lines)) + "\n", encoding="utf-8-sig")
    one, two = read_dataset(path)
    assert (one.id, one.audio, one.reference) == ("a.wav", tmp_path / "a.wav", "uno")
    assert (two.id, two.audio, two.reference) == ("7", tmp_path / "b.wav", "dos")


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("path\ttext\na\tb\n", r"columns path and sentence, got path, text \(missing: sentence\)"),
        ("", r"got none \(missing: path, sentence\)"),
        ("path\tsentence\n", "at least one utterance"),
        ("path\tsentence\na\x00\tb\n" + "x" * 200_000, "tab-separated"),
    ],
)
def test_what_broken_tables_get(tmp_path: Path, table: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_dataset(common_voice(tmp_path / "cv", table))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"audio": "a"}\n', "line 1"),
        (b'{"audio": "a", "text": "b"}\n[1]\n', "JSON object a line, got list - at .*line 2"),
        (b'{"audio": "a", "text": "b"}\n{oops\n', "line 2"),
        (b"\n", "at least one utterance"),
        (b'{"audio": "\xff"}', "UTF-8"),
    ],
)
def test_what_broken_manifests_get(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "m.jsonl"
    path.write_bytes(content)
    with pytest.raises(InputError, match=said):
        read_dataset(path)


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="got nothing"):
        read_dataset(tmp_path / "absent")
    (tmp_path / "test.tsv").write_text("path\tsentence\n")
    with pytest.raises(InputError, match="Expected a folder clips/"):
        read_dataset(tmp_path)


def test_a_name_that_is_made_unique_takes_no_others(tmp_path: Path) -> None:
    lines = [{"audio": "a.wav", "text": "", "id": name} for name in ("a", "a", "a #2", "a", "a #2")]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, lines)))
    names = [utterance.id for utterance in read_dataset(tmp_path / "m.jsonl")]
    assert names == ["a", "a #3", "a #2", "a #4", "a #2 #2"]
