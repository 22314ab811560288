"""What reads bytes of strangers, one file a reader. Each has `read(data)`: it raises an `OmniError` or nothing."""

from __future__ import annotations

import tempfile
from pathlib import Path

_FOLDER = tempfile.TemporaryDirectory(prefix="omni-fuzz-")


def as_file(data: bytes, name: str) -> Path:
    """The data in a file, the same one every time."""
    path = Path(_FOLDER.name, name)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return path
