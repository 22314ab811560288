"""Control groups and processors as a device might have them, in a folder of the test's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from omni_sdk import cgroup, cpu


def tree(
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    groups: str,
    mounts: Iterable[tuple[str, str, str]],
    files: Mapping[str, str],
) -> None:
    """Makes `folder` what the process sees.

    `groups` is its /proc/self/cgroup; `mounts` are of (root, place, "kind options"); `files` lie beside them.
    """
    lines = []
    for root, place, kind in mounts:
        name, _, options = kind.partition(" ")
        lines.append(f"30 23 0:26 {root} {folder / place} rw,nosuid shared:4 - {name} none {options or 'rw'}")
    inside = {"proc/self/cgroup": groups, "proc/self/mountinfo": "\n".join(lines), **files}
    for name, text in inside.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(cgroup, "PROC", folder / "proc")
    cpu.describe.cache_clear()
