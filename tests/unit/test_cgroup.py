"""Control files of this process's groups, nearest first, version 1 and 2, inside containers and out."""

from __future__ import annotations

import pytest
from groups import tree

from omni_sdk import cgroup


def limits():
    return list(cgroup.values("memory", "memory.max", "memory.limit_in_bytes"))


def test_version_2_from_the_group_up_to_the_mount(tmp_path, monkeypatch):
    tree(
        monkeypatch,
        tmp_path,
        "0::/a/b",
        [("/", "mnt", "cgroup2")],
        {"mnt/a/b/memory.max": "max\n", "mnt/a/memory.max": "100\n", "mnt/memory.max": "200\n", "memory.max": "1"},
    )
    assert limits() == [["max"], ["100"], ["200"]]


def test_version_1_takes_the_hierarchy_of_its_controller(tmp_path, monkeypatch):
    tree(
        monkeypatch,
        tmp_path,
        "4:cpu,cpuacct:/c\n3:memory:/m\n0::/",
        [("/", "cpu", "cgroup rw,cpu,cpuacct"), ("/", "memory", "cgroup rw,memory"), ("/", "uni", "cgroup2")],
        {"cpu/c/memory.limit_in_bytes": "1", "memory/m/memory.limit_in_bytes": "2", "uni/memory.max": "3"},
    )
    assert limits() == [["2"], ["3"]]
    assert list(cgroup.values("memory", "", "memory.limit_in_bytes")) == [["2"]]


@pytest.mark.parametrize(
    ("root", "path", "folder"),
    [
        ("/docker/x", "/docker/x", "mnt"),
        ("/docker/x", "/docker/x/job", "mnt/job"),
        ("/docker/x", "/docker/xy", "mnt/docker/xy"),  # a neighbour whose name begins alike
        ("/", "/", "mnt"),
    ],
)
def test_a_mount_that_shows_part_of_the_hierarchy(tmp_path, monkeypatch, root, path, folder):
    tree(
        monkeypatch,
        tmp_path,
        f"0::{path}",
        [(root, "mnt", "cgroup2")],
        {f"{folder}/memory.max": "7", "mnt/y/memory.max": "8"},
    )
    assert limits() == [["7"]]


def test_nothing_where_there_are_no_groups(tmp_path, monkeypatch):
    monkeypatch.setattr(cgroup, "PROC", tmp_path)
    assert limits() == []
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "cgroup").write_text("0::/a\n")
    assert limits() == []


def test_other_mounts_are_passed_over(tmp_path, monkeypatch):
    tree(monkeypatch, tmp_path, "0::/a", [("/", "disk", "ext4"), ("/", "mnt", "cgroup2")], {"disk/a/memory.max": "1"})
    assert limits() == []
