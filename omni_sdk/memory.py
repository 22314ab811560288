"""What memory the device has, what this process may take of it, and what it uses. All in bytes."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import psutil

from omni_sdk import cgroup
from omni_sdk.errors import SettingsError

# Version 1 groups without a bound report a huge page-aligned number instead of saying so.
UNBOUNDED = 1 << 60

UNITS = {"": 1, "b": 1}
for _power, _letter in enumerate("kmgt", start=1):
    UNITS |= {f"{_letter}ib": 1024**_power, f"{_letter}b": 1000**_power}


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """Memory of the device as this process meets it, in bytes.

    Attributes
    ----------
    total : int
        The smaller of the machine's memory and the tightest control group above this process.
    available : int
        What can still be taken without swapping, within that bound.
    limited_by : str
        `"machine"` or `"cgroup"`.
    """

    total: int
    available: int
    limited_by: str


@dataclass(frozen=True, slots=True)
class ProcessMemory:
    """What this process uses, in bytes: resident now, its highest so far, and its share when pages are shared out."""

    resident: int
    peak: int
    proportional: int | None


def device() -> DeviceMemory:
    """Measured now: the control groups' limits first, then the machine."""
    machine = psutil.virtual_memory()
    limits = list(_group_limits())
    total = min((limit for limit, _ in limits), default=UNBOUNDED)
    if total >= machine.total:
        return DeviceMemory(machine.total, machine.available, "machine")
    free = min(limit - used for limit, used in limits)
    return DeviceMemory(total, max(0, min(machine.available, free)), "cgroup")


def process() -> ProcessMemory:
    """Measured now. The proportional set size counts a page shared by n processes as one n-th; Linux only."""
    here = psutil.Process()
    resident = here.memory_info().rss
    try:
        proportional = _status_bytes("smaps_rollup", "Pss")
        peak = _status_bytes("status", "VmHWM") or resident
    except OSError:
        proportional, peak = None, resident
    return ProcessMemory(resident, max(peak, resident), proportional)


def private() -> int:
    """Resident bytes of this process that no file stands behind; all resident bytes where that is not known."""
    try:
        found = _status_bytes("status", "RssAnon")
    except OSError:
        found = None
    return int(psutil.Process().memory_info().rss) if found is None else found


def parse(text: int | str, *, total: int | None = None, where: str = "memory_limit") -> int:
    """Bytes from `1073741824`, `"1 GiB"`, `"800 MB"` or `"60%"` of `total` (default: what the device has).

    Raises
    ------
    SettingsError
        When it is none of these, or not above zero.
    """
    if isinstance(text, int) and not isinstance(text, bool):
        size = text
    else:
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(%|[a-z]*)\s*", str(text).lower())
        unit = match[2] if match else None
        if match is None or (unit != "%" and unit not in UNITS) or isinstance(text, bool):
            raise SettingsError(f"Expected bytes, a size like '2 GiB' or a share like '60%', got {text!r} - at {where}")
        share = (device().total if total is None else total) / 100 if unit == "%" else UNITS[match[2]]
        size = int(min(float(match[1]) * share, sys.maxsize))
    if size <= 0:
        raise SettingsError(f"Expected more than zero bytes, got {text!r} - at {where}")
    return size


def human(size: float) -> str:
    """`1536` as `1.5 KiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"


def _group_limits() -> Iterator[tuple[int, int]]:
    """Limit and use of each control group that sets a limit; file pages that can be dropped do not count as used."""
    limits = cgroup.values("memory", "memory.max", "memory.limit_in_bytes")
    uses = cgroup.values("memory", "memory.current", "memory.usage_in_bytes")
    details = cgroup.values("memory", "memory.stat", "memory.stat")
    # The root group of version 2 has none of these files, so the three walks stay in step.
    for limit, use, words in zip(limits, uses, details, strict=False):
        if limit and limit[0].isdigit() and int(limit[0]) < UNBOUNDED:
            stat = dict(zip(words[::2], words[1::2], strict=False))
            yield int(limit[0]), int(use[0]) - int(stat.get("inactive_file", 0))


def _status_bytes(file: str, field: str) -> int | None:
    for line in (cgroup.PROC / "self" / file).read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    return None
