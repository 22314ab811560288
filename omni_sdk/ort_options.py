"""Which options the installed ONNX Runtime really understands.

ONNX Runtime takes any session entry and ignores the ones it does not know. Its shared library carries the names of
those it does know as NUL-terminated strings, so the library itself is asked: the answer holds for the version that
runs, whatever it is.
"""

from __future__ import annotations

import difflib
import mmap
import re
from collections.abc import Iterator
from pathlib import Path

# Entries that look as if they existed, met in the wild, and what to use instead.
IMPOSTORS = {
    "session.qdq_matmulnbits_to_float": "the real neighbour is 'session.qdq_matmulnbits_accuracy_level'",
    "session.arena_extend_strategy": "set Settings(arena_bytes=..., arena_extend_strategy=...)",
    "session.arena_size": "set Settings(arena_bytes=...)",
}

# Names that compilers cut in two: a library may hold only so many of their first letters in one place.
SPLIT = {"session.model_external_initializers_file_folder_path": 48}

# How an arena grows, as ONNX Runtime numbers it.
ARENA_STRATEGIES = {"power_of_two": 0, "same_as_requested": 1}

_ENTRY = re.compile(rb"(?:session|optimization|mlas|ep|memory)\.[a-z0-9_.]*[a-z0-9_](?=\0)")
_SOURCE_FILE = re.compile(r"\.(cc|h|cpp|cu)$")


class SessionEntries:
    """The names of session entries that the ONNX Runtime in a folder knows.

    Looking one name up takes milliseconds, listing all of them most of a second, so both happen only when asked.

    Parameters
    ----------
    folder : Path
        Where ONNX Runtime's shared libraries lie.
    """

    def __init__(self, folder: Path) -> None:
        self._libraries = [path for path in folder.glob("*onnxruntime*") if path.is_file() and path.stat().st_size]
        self._found: dict[str, bool] = {}

    def readable(self) -> bool:
        """Whether there is a library to ask."""
        return bool(self._libraries)

    def __contains__(self, name: str) -> bool:
        if name not in self._found:
            text = name.encode()[: SPLIT.get(name)] + (b"" if name in SPLIT else b"\0")
            self._found[name] = any(view.find(text) >= 0 for view in self._views())
        return self._found[name]

    def names(self) -> set[str]:
        """Every name."""
        found = {match.group().decode() for view in self._views() for match in _ENTRY.finditer(view)}
        return {name for name in found if not _SOURCE_FILE.search(name)}

    def remedy(self, name: str) -> str:
        """What to do about a name that is not known."""
        if name in IMPOSTORS:
            return IMPOSTORS[name]
        near = difflib.get_close_matches(name, self.names(), n=1, cutoff=0.8)
        return f"did you mean {near[0]!r}?" if near else "remove it: ONNX Runtime ignores it silently"

    def _views(self) -> Iterator[mmap.mmap]:
        for path in self._libraries:
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
                yield view
