"""What is written: reports as JSON that every reader takes; and whether a file can be, before hours of measuring."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omni_sdk.errors import InputError
from omni_sdk.tools.evaluate.extras import require

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
    OmniError
        The package that draws is not installed.
    """
    if Path(path).suffix.lower() not in PICTURES:
        suffix = Path(path).suffix or "no suffix"
        raise InputError(f"Expected a picture as {', '.join(PICTURES)}, got {suffix!r} - at {path}")
    require("matplotlib.figure")
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
    write_files({path: escape_surrogates(text)})
    return path


def write_files(contents: Mapping[Path, bytes]) -> None:
    """Write files, each in one step, once all of them are on the disk.

    Parameters
    ----------
    contents : mapping of Path to bytes
        What each is to hold, in the order in which they are to appear; folders are made.

    Raises
    ------
    InputError
        One cannot be written.
    """
    unfinished = {path: path.with_name(f".{path.name}.{os.getpid()}") for path in contents}
    path = None
    try:
        for path, content in contents.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished[path].write_bytes(content)
        for path, whole in unfinished.items():
            whole.replace(path)
    except OSError as error:
        raise InputError(f"Expected to write a file, got {error.strerror or error} - at {path}") from error
    finally:
        for rest in unfinished.values():
            rest.unlink(missing_ok=True)


def escape_surrogates(text: str) -> bytes:
    r"""JSON as UTF-8, lone surrogates as `\ud800`: JSON's own escapes, which `json.loads` takes back."""
    return text.encode("utf-8", "backslashreplace")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
