"""Files that this process maps: how much of one is in memory, and how to let go of it.

Linux only: elsewhere nothing is known and nothing let go.
"""

from __future__ import annotations

import ctypes
import functools
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from omni_sdk import cgroup

MADV_DONTNEED = 4
COUNTED = ("Rss", "Pss", "Anonymous", "Swap")
_HEAD = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) \S{4} \S+ \S+ \d+\s*(.*)$")


@dataclass(frozen=True, slots=True)
class Mapped:
    """Bytes of files mapped: in memory, and this process's share of those, pages of n processes counted one n-th."""

    resident: int
    proportional: int


def usage(files: Sequence[Path]) -> Mapped:
    """Of these files together."""
    found = list(_mappings(files))
    return Mapped(sum(one.bytes["Rss"] for one in found), sum(one.bytes["Pss"] for one in found))


def release(files: Sequence[Path]) -> None:
    """Let go of the pages of these files; whoever reads them next takes them from the page cache again.

    A load that prepacks reads every weight once and never again. Where the process wrote into a mapping of its own,
    which the file does not hold, nothing of that mapping is touched; so this is for before others use it.
    """
    advise = _madvise()
    if advise is not None:
        for one in _mappings(files):
            if one.bytes["Anonymous"] == one.bytes["Swap"] == 0:
                advise(one.start, one.end - one.start, MADV_DONTNEED)


@dataclass(slots=True)
class _Mapping:
    start: int
    end: int
    bytes: dict[str, int]


def _mappings(files: Sequence[Path]) -> Iterator[_Mapping]:
    """Where these files are mapped, each with what the kernel counts in it."""
    names = frozenset(os.path.realpath(path) for path in files)
    try:
        lines = (cgroup.PROC / "self" / "smaps").read_text().splitlines()
    except OSError:
        return
    current: _Mapping | None = None
    for line in lines:
        head = _HEAD.match(line)
        if head:
            if current is not None:
                yield current
            counted = dict.fromkeys(COUNTED, 0)
            current = _Mapping(int(head[1], 16), int(head[2], 16), counted) if head[3] in names else None
        elif current is not None:
            field, _, rest = line.partition(":")
            if field in COUNTED:
                current.bytes[field] = int(rest.split()[0]) * 1024
    if current is not None:
        yield current


@functools.cache
def _madvise() -> Callable[[int, int, int], int] | None:
    try:
        function = ctypes.CDLL(None, use_errno=True).madvise
    except (OSError, AttributeError, TypeError):
        return None
    function.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    function.restype = ctypes.c_int
    return function
