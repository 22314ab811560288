"""What the control groups above this process allow, version 1 and 2 alike."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

PROC = Path("/proc")


def values(controller: str, v2_name: str, v1_name: str) -> Iterator[list[str]]:
    """The words of one control file in this process's group and in every group above it, nearest first.

    Parameters
    ----------
    controller : str
        Name of the controller in version 1, such as `memory`.
    v2_name, v1_name : str
        The file that holds the value in either version.
    """
    for folder, name in _folders(controller, v2_name, v1_name):
        try:
            yield (folder / name).read_text().split()
        except OSError:
            continue


def _folders(controller: str, v2_name: str, v1_name: str) -> Iterator[tuple[Path, str]]:
    groups = _groups()
    for root, mount, kind, options in _mounts():
        if kind == "cgroup2" and "" in groups:
            path, name = groups[""], v2_name
        elif kind == "cgroup" and controller in options and controller in groups:
            path, name = groups[controller], v1_name
        else:
            continue
        # A container may see its own group as the root of the mount: then the path starts with what is mounted.
        below = PurePosixPath(path).is_relative_to(root)
        folder = mount / (PurePosixPath(path).relative_to(root) if below else path.lstrip("/"))
        for level in (folder, *folder.parents):
            yield level, name
            if level == mount:
                break


def _groups() -> dict[str, str]:
    """Controller -> this process's path in its hierarchy; version 2 stands under the empty name."""
    try:
        lines = (PROC / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return {}
    groups: dict[str, str] = {}
    for line in lines:
        _, controllers, path = line.split(":", 2)
        groups.update((name, path) for name in controllers.split(","))
    return groups


def _mounts() -> Iterator[tuple[str, Path, str, list[str]]]:
    """Root, mount point, kind and options of each control group mount (see proc_pid_mountinfo(5))."""
    try:
        lines = (PROC / "self" / "mountinfo").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        if kind.startswith("cgroup"):
            fields = before.split()
            yield fields[3], Path(fields[4]), kind, options.split(",")
