"""Memory that this process may take: control groups first, then the machine; sizes as people write them."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import psutil
import pytest
from groups import tree
from hypothesis import given
from hypothesis import strategies as st

from omni_sdk import cgroup, memory
from omni_sdk.errors import SettingsError
from omni_sdk.memory import DeviceMemory

GIB = 1 << 30


@pytest.fixture
def machine(monkeypatch):
    """8 GiB, 6 of them available."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=8 * GIB, available=6 * GIB))


def in_group(monkeypatch, folder, files):
    tree(
        monkeypatch, folder, "0::/a/b", [("/", "mnt", "cgroup2")], {f"mnt/{name}": text for name, text in files.items()}
    )


def group(path, limit, used, inactive=0):
    return {
        f"{path}/memory.max": str(limit),
        f"{path}/memory.current": str(used),
        f"{path}/memory.stat": f"anon 5\ninactive_file {inactive}\n",
    }


def test_the_machine_where_no_group_limits(machine, monkeypatch, tmp_path):
    in_group(monkeypatch, tmp_path, group("a/b", "max", 5) | group("a", 9 * GIB, 5))
    assert memory.device() == DeviceMemory(8 * GIB, 6 * GIB, "machine")


def test_a_group_and_what_it_uses_but_for_pages_that_can_be_dropped(machine, monkeypatch, tmp_path):
    in_group(monkeypatch, tmp_path, group("a/b", 4 * GIB, 3 * GIB, inactive=GIB))
    assert memory.device() == DeviceMemory(4 * GIB, 2 * GIB, "cgroup")


def test_the_fullest_group_decides_what_is_available(machine, monkeypatch, tmp_path):
    in_group(monkeypatch, tmp_path, group("a/b", 2 * GIB, GIB) | group("a", 4 * GIB, 4 * GIB - 100))
    assert memory.device() == DeviceMemory(2 * GIB, 100, "cgroup")


def test_a_group_over_its_limit_leaves_nothing(machine, monkeypatch, tmp_path):
    in_group(monkeypatch, tmp_path, group("a", GIB, 2 * GIB))
    assert memory.device().available == 0


def test_a_group_never_offers_more_than_the_machine_has_left(machine, monkeypatch, tmp_path):
    in_group(monkeypatch, tmp_path, group("a", 7 * GIB, 0))
    assert memory.device() == DeviceMemory(7 * GIB, 6 * GIB, "cgroup")


@pytest.mark.parametrize(("limit", "total"), [(str((1 << 63) - 4096), 8 * GIB), (str(GIB), GIB)])
def test_version_1_says_no_limit_by_a_huge_one(machine, monkeypatch, tmp_path, limit, total):
    files = {"memory.limit_in_bytes": limit, "memory.usage_in_bytes": "0", "memory.stat": ""}
    files = {f"mem/c/{name}": text for name, text in files.items()}
    tree(monkeypatch, tmp_path, "3:memory:/c", [("/", "mem", "cgroup rw,memory")], files)
    assert memory.device().total == total


def test_this_process_uses_some():
    used = memory.process()
    assert 0 < used.resident <= used.peak
    assert used.proportional is None or 0 < used.proportional <= used.peak
    assert 0 < memory.private() <= used.peak


def test_without_the_kernels_word_resident_is_all_that_is_known(monkeypatch, tmp_path):
    monkeypatch.setattr(cgroup, "PROC", tmp_path)
    used = memory.process()
    assert used.proportional is None
    assert used.resident == used.peak
    assert memory.private() > 0


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (1073741824, GIB),
        ("1073741824", GIB),
        ("1 GiB", GIB),
        ("1gib", GIB),
        (" 1.5 kib ", 1536),
        ("800 MB", 800_000_000),
        ("2 tb", 2 * 10**12),
        ("7b", 7),
        ("60%", 600),
        ("0.5 %", 5),
        ("9" * 400, sys.maxsize),
    ],
)
def test_sizes_as_people_write_them(text, size):
    assert memory.parse(text, total=1000) == size


def test_a_share_is_of_the_device(machine, monkeypatch, tmp_path):
    in_group(monkeypatch, tmp_path, group("a", 4 * GIB, 0))
    assert memory.parse("25%") == GIB


@pytest.mark.parametrize("text", [0, -1, True, None, "", "much", "1 GiBs", "-1 GiB", "1e9", "0%", "0.4 b", "1 2", [1]])
def test_what_is_no_size(text):
    with pytest.raises(SettingsError, match="at max_memory"):
        memory.parse(text, total=1000, where="max_memory")


@given(st.floats(0, 1 << 62))
def test_human_sizes_stay_short(size):
    text = memory.human(size)
    number, unit = text.split()
    factor = 1024 ** ("B", "KiB", "MiB", "GiB").index(unit)
    assert float(number) * factor == pytest.approx(size, abs=0.51 * (1 if unit == "B" else factor / 10 + 1))
    assert unit == "GiB" or float(number) <= 1024
