"""Stamps: what lets a file's content be taken as read.

A stamp holds each file's inode, size, modification and change time, and the id of the boot. Any write moves the change
time, which no call can set back; what a power failure may have lost was lost under another boot id. So while a stamp
stays equal, the files hold what they held when it was made.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import psutil

from omni_sdk import files, folders
from omni_sdk.strict import JSON, MAX_BYTES, decode


def state(known: Sequence[os.stat_result]) -> JSON:
    """The stamp of files whose status is known."""
    return {
        "boot": boot(),
        "files": [
            [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns] for status in known
        ],
    }


def read(folder: Path, name: str) -> JSON:
    """Read a small JSON file.

    Raises
    ------
    BundleError
        Where there is none, or it is not what `note` wrote.
    """
    with files.opened(folder, name) as (descriptor, _):
        return decode(os.read(descriptor, MAX_BYTES + 1), name)


def note(path: Path, document: JSON) -> None:
    """Write a small JSON file at one instant; on a disk that takes no notes, do without."""
    with contextlib.suppress(OSError):
        folders.put(path, json.dumps(document))


@cache
def boot() -> str:
    """Id of this boot of the machine."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return f"{psutil.boot_time():.0f}"
