"""Recordings with their texts: a Common Voice folder, or a JSONL manifest."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path

from omni_sdk.errors import InputError


@dataclass(frozen=True, slots=True)
class Utterance:
    """One recording and what is said in it.

    Attributes
    ----------
    id : str
        Unique in its dataset, and the same on every reading.
    audio : Path
        The recording; whether it can be read is not known yet.
    reference : str
        What is said, as written; may be empty.
    """

    id: str
    audio: Path
    reference: str


def read_dataset(path: str | Path, *, split: str = "test") -> list[Utterance]:
    """Read a dataset's table.

    Parameters
    ----------
    path : str or Path
        A Common Voice folder, with `clips/` and `<split>.tsv` (columns `path` and `sentence`); or a `.jsonl` file of
        objects with `audio` (relative to the file), `text` and, if wanted, `id`.
    split : str
        Which table of a Common Voice folder.

    Returns
    -------
    list of Utterance
        In the table's order.

    Raises
    ------
    InputError
        The table is missing, empty, not UTF-8, lacks a column, or a line of it cannot be understood.
    """
    path = Path(path)
    if path.is_dir():
        utterances = _common_voice(path, split)
    elif path.is_file():
        utterances = _manifest(path)
    else:
        raise InputError(f"Expected a Common Voice folder or a .jsonl manifest, got nothing - at {path}")
    if not utterances:
        raise InputError(f"Expected at least one utterance, got an empty table - at {path}")
    return _with_unique_ids(utterances)


def _common_voice(folder: Path, split: str) -> list[Utterance]:
    table, clips = folder / f"{split}.tsv", folder / "clips"
    if not table.is_file():
        there = ", ".join(sorted(p.name for p in folder.glob("*.tsv"))) or "none"
        raise InputError(f"Expected {table.name} in a Common Voice folder, got these tables: {there} - at {folder}")
    if not clips.is_dir():
        raise InputError(f"Expected a folder clips/ beside {table.name}, got none - at {folder}")
    # Common Voice writes quotation marks as they are: only a tab and a line's end have a meaning.
    lines = io.StringIO(_text(table), newline="")
    reader = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    try:
        columns, rows = reader.fieldnames or [], list(reader)
    except csv.Error as error:
        raise InputError(f"Expected tab-separated text, got {error} - at {table}") from error
    missing = [name for name in ("path", "sentence") if name not in columns]
    if missing:
        raise InputError(
            f"Expected the columns path and sentence, got {', '.join(columns) or 'none'} "
            f"(missing: {', '.join(missing)}) - at {table}"
        )
    return [
        Utterance(row["path"] or f"row {number}", clips / (row["path"] or ""), row["sentence"] or "")
        for number, row in enumerate(rows, start=1)
    ]


def _manifest(path: Path) -> list[Utterance]:
    utterances = []
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        where = f"at {path}, line {number}"
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"Expected a JSON object a line, got {error} - {where}") from error
        if not isinstance(entry, dict):
            raise InputError(f"Expected a JSON object a line, got {type(entry).__name__} - {where}")
        for key in ("audio", "text"):
            if not isinstance(entry.get(key), str):
                raise InputError(f"Expected the keys audio and text as strings, got {sorted(entry)} - {where}")
        utterances.append(Utterance(str(entry.get("id", entry["audio"])), path.parent / entry["audio"], entry["text"]))
    return utterances


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"Expected UTF-8 text, got {error} - at {path}") from error
    except OSError as error:
        raise InputError(f"Expected a file that can be read, got {error.strerror} - at {path}") from error


def _with_unique_ids(utterances: list[Utterance]) -> list[Utterance]:
    """A resumed run knows a row by its id: the second of a name becomes `name #2`, on every reading."""
    seen: dict[str, int] = {}
    given, unique = {utterance.id for utterance in utterances}, []
    for utterance in utterances:
        count = seen.get(utterance.id, 0) + 1
        while count > 1 and f"{utterance.id} #{count}" in given:  # some other's own
            count += 1
        seen[utterance.id] = count
        name = utterance.id if count == 1 else f"{utterance.id} #{count}"
        unique.append(Utterance(name, utterance.audio, utterance.reference))
    return unique
