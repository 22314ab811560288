"""A run's rows on disk as they come, so that a run that is cut off at any moment goes on where it was."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any

from omni_sdk.errors import InputError
from omni_sdk.tools.evaluate.output import check_writable, escape_surrogates

Row = dict[str, Any]


class Journal:
    """Append-only JSONL: a header that says what the run is, then one row a line.

    A row is on disk (written and synced) before `append` returns. A last line that a crash left half-written is cut
    off when the journal is opened again. One process at a time: the file is locked while it is open.

    Parameters
    ----------
    path : str or Path
        The file; made with its folders where it is absent.
    header : dict
        What must be the same for the run to go on: JSON values only.

    Raises
    ------
    InputError
        The file is another run's, is in use, is no journal, or cannot be written.
    """

    def __init__(self, path: str | Path, header: Row) -> None:
        self.path = check_writable(path)
        self._file = self.path.open("a+b")
        try:
            self._lock()
            self.rows: list[Row] = self._recover(header)
        except OSError as error:
            self._file.close()
            raise InputError(f"Expected a file that can be read, got {error.strerror} - at {self.path}") from error
        except BaseException:
            self._file.close()
            raise

    def append(self, row: Row) -> None:
        """Write one row to disk and keep it in `rows`."""
        self._file.write(escape_surrogates(json.dumps(row, ensure_ascii=False)) + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self.rows.append(row)

    def close(self) -> None:
        """Close the file, which gives the lock back."""
        self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InputError(f"Expected a run that no other process writes, got one in use - at {self.path}") from error

    def _recover(self, header: Row) -> list[Row]:
        self._file.seek(0)
        whole, newline, torn = self._file.read().rpartition(b"\n")
        first = escape_surrogates(json.dumps(header, ensure_ascii=False)) + b"\n"
        if not newline and not first.startswith(torn):
            raise InputError(f"Expected a journal or a new file, got another kind of file - at {self.path}")
        if not newline:
            self._file.truncate(0)
            self._file.write(first)
            self._file.flush()
            return []
        found, *rows = [self._parse(line, number) for number, line in enumerate(whole.split(b"\n"), start=1)]
        # Through JSON and back, so that a tuple compares as the list it was written as.
        if found != json.loads(json.dumps(header)):
            changed = [f"{key}: {found.get(key)!r}, now {header.get(key)!r}" for key in {**header, **found}
                       if found.get(key) != header.get(key)]  # fmt: skip
            raise InputError(
                f"Expected the run that was begun here, got another ({'; '.join(changed)}) - at {self.path}",
                hint="Name another output file, or delete this one.",
            )
        if torn:  # not before it is known for a journal: what is another file's is never cut off
            self._file.truncate(len(whole) + len(newline))
        return rows

    def _parse(self, line: bytes, number: int) -> Row:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"Expected one JSON object a line, got {error} - at {self.path}, line {number}") from error
        if not isinstance(row, dict):
            raise InputError(f"Expected JSON objects, got {type(row).__name__} - at {self.path}, line {number}")
        return row
