"""The journal: rows survive a crash at any byte, and no other run's rows slip in."""

from __future__ import annotations

from pathlib import Path

import pytest

from omni_sdk.errors import InputError
from omni_sdk.tools.evaluate.journal import Journal

HEADER = {"kind": "test", "rate": 16_000}
ROWS = [{"id": "a", "text": "año\n"}, {"id": "b", "n": 1.5}, {"id": "c"}]


def filled(path: Path) -> bytes:
    with Journal(path, HEADER) as journal:
        for row in ROWS:
            journal.append(row)
    return path.read_bytes()


def test_rows_come_back(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "run.jsonl"
    filled(path)
    with Journal(path, HEADER) as journal:
        assert journal.rows == ROWS


def test_a_crash_at_any_byte_loses_at_most_the_last_row(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    whole = filled(path)
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        complete = max(whole[:cut].count(b"\n") - 1, 0)
        with Journal(path, HEADER) as journal:
            assert journal.rows == ROWS[:complete]
            journal.append({"id": "new"})
        with Journal(path, HEADER) as journal:
            assert journal.rows == [*ROWS[:complete], {"id": "new"}]


def test_a_row_is_on_disk_when_append_returns(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with Journal(path, HEADER) as journal:
        journal.append(ROWS[0])
        assert path.read_bytes().endswith(b'"a\xc3\xb1o\\n"}\n')


def test_another_runs_journal_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    whole = filled(path)
    for content in (whole, whole[:-1]):  # a row that was cut off is still the other run's
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"rate: 16000, now 8000"):
            Journal(path, {**HEADER, "rate": 8000})
        assert path.read_bytes() == content


def test_one_process_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with Journal(path, HEADER), pytest.raises(InputError, match="in use"):
        Journal(path, HEADER)
    Journal(path, HEADER).close()


@pytest.mark.parametrize("content", [b"hello\n", b"[1]\n", b"hello\nworld", b"\x08\n\xff\nweights"])
def test_a_file_that_is_no_journal_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match="line 1"):
        Journal(path, HEADER)
    assert path.read_bytes() == content


def test_a_file_without_a_line_end_is_not_eaten(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(b"precious")
    with pytest.raises(InputError):
        Journal(path, HEADER)
    assert path.read_bytes() == b"precious"


def test_half_a_surrogate_pair_survives(tmp_path: Path) -> None:
    row = {"id": "a", "text": "broken \ud83d and é"}
    with Journal(tmp_path / "run.jsonl", {"name": "\udce9"}) as journal:
        journal.append(row)
    with Journal(tmp_path / "run.jsonl", {"name": "\udce9"}) as journal:
        assert journal.rows == [row]


@pytest.mark.parametrize("path", [".", "/proc/x"])
def test_what_is_no_file_to_write_is_refused(path: str) -> None:
    with pytest.raises(InputError, match="a file that can be written"):
        Journal(path, HEADER)
