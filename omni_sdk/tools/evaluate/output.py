"""What is written: reports as JSON that every reader takes; and whether a file can be, before hours of measuring."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from omni_sdk.errors import InputError

PICTURES = (".png", ".svg", ".pdf")


def check_writable(path: str | Path) -> Path:
    """Make sure that a file can be written, and leave it as it was.

    Parameters
    ----------
    path : str or Path
        Its folders are made.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        It cannot: the folder cannot be made or written to, or something else bears the name.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        was_there = path.exists()
        with path.open("ab"):
            pass
        if not was_there:
            path.unlink()
    except (OSError, ValueError) as error:
        raise InputError(
            f"Expected a file that can be written, got {getattr(error, 'strerror', None) or error} - at {path}"
        ) from error
    return path


def check_picture(path: str | Path) -> Path:
    """Make sure that a picture can be written.

    Raises
    ------
    InputError
        It cannot, or its suffix names none of the formats.
    """
    if Path(path).suffix.lower() not in PICTURES:
        suffix = Path(path).suffix or "no suffix"
        raise InputError(f"Expected a picture as {', '.join(PICTURES)}, got {suffix!r} - at {path}")
    return check_writable(path)


def write_json(path: str | Path, report: dict[str, Any]) -> Path:
    """Write a report.

    Parameters
    ----------
    path : str or Path
        The file; its folders are made, and what stood there is replaced in one step.
    report : dict
        From a report's `to_dict`. Figures that are not finite become null, for JSON has no name for them.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        It cannot be written.
    """
    path = Path(path)
    # Half of a surrogate pair, as file names and broken JSON bring it, is written as an escape: UTF-8 has none.
    text = json.dumps(_finite(report), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_bytes(escape_surrogates(text))
        unfinished.replace(path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise InputError(f"Expected to write a report, got {error.strerror or error} - at {path}") from error
    return path


def escape_surrogates(text: str) -> bytes:
    r"""JSON as UTF-8, lone surrogates as `\ud800`: JSON's own escapes, which `json.loads` takes back."""
    return text.encode("utf-8", "backslashreplace")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
