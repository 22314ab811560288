"""Cores this process may really use: affinity, hyper-threads and quotas counted in."""

from __future__ import annotations

import os

import pytest
from groups import tree

from omni_sdk import cpu


def cpuinfo(*cores, flags="fma avx2 ht avx512_vnni"):
    blocks = (
        f"processor\t: {number}\nmodel name\t: Small One\n"
        f"physical id\t: {package}\ncore id\t\t: {core}\nflags\t\t: {flags}"
        for number, (package, core) in enumerate(cores)
    )
    return "\n\n".join(blocks) + "\n\n"


FOUR_CORES = cpuinfo((0, 0), (0, 1), (0, 0), (0, 1), (1, 0), (1, 1), (1, 0), (1, 1))
ARM = "\n\n".join(f"processor\t: {i}\nFeatures\t: asimd asimddp\nCPU part\t: 0xd0c" for i in range(4))
ARM += "\n\nModel\t\t: Small Board Rev 1\n"


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine of these processors, where this process may use some of them, in groups with these files."""

    def make(processors=FOUR_CORES, affinity=range(8), groups="0::/", mounts=(("/", "mnt", "cgroup2"),), files=()):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(affinity), raising=False)
        tree(monkeypatch, tmp_path, groups, mounts, {"proc/cpuinfo": processors, **dict(files)})

    yield make
    cpu.describe.cache_clear()


@pytest.mark.parametrize(
    ("affinity", "cores"), [(range(8), 4), ({0, 2}, 1), ({0, 1}, 2), ({0, 2, 4}, 2), ({7}, 1), ({99}, 1)]
)
def test_threads_of_one_core_count_once(machine, affinity, cores):
    machine(affinity=affinity)
    assert cpu.describe().physical_cores == cores
    assert cpu.usable_cores() == cores
    assert cpu.quota() is None


@pytest.mark.parametrize(
    ("text", "quota", "cores"),
    [
        ("max 100000", None, 4),
        ("150000 100000", 1.5, 1),
        ("200000 100000", 2.0, 2),
        ("10000 100000", 0.1, 1),
        ("1600000 100000", 16.0, 4),
    ],
)
def test_a_quota_of_version_2(machine, text, quota, cores):
    machine(groups="0::/a", files={"mnt/a/cpu.max": text})
    assert (cpu.quota(), cpu.usable_cores()) == (quota, cores)


def test_the_tightest_group_above_counts(machine):
    machine(groups="0::/a/b", files={"mnt/a/b/cpu.max": "max 100000", "mnt/a/cpu.max": "300000 100000"})
    assert (cpu.quota(), cpu.usable_cores()) == (3.0, 3)


@pytest.mark.parametrize(("quota", "means"), [("-1", None), ("250000", 2.5)])
def test_a_quota_of_version_1(machine, quota, means):
    files = {"cpu/c/cpu.cfs_quota_us": quota, "cpu/c/cpu.cfs_period_us": "100000"}
    machine(groups="4:cpu,cpuacct:/c", mounts=[("/", "cpu", "cgroup rw,cpu,cpuacct")], files=files)
    assert cpu.quota() == means
    assert cpu.usable_cores() == (4 if means is None else 2)


def test_what_the_processor_is(machine):
    machine()
    found = cpu.describe()
    assert found.name == "Small One"
    assert found.useful == ("avx2", "fma", "avx512_vnni")
    assert found.fast_int8


def test_an_arm_board(machine):
    machine(processors=ARM, affinity=range(4))
    found = cpu.describe()
    assert (found.name, found.physical_cores) == ("Small Board Rev 1", 4)
    assert found.useful == ("asimd", "asimddp")
    assert found.fast_int8


def test_vectors_alone_are_not_fast_int8(machine):
    machine(processors=cpuinfo((0, 0), flags="avx2 fma"))
    assert not cpu.describe().fast_int8


def test_without_the_kernels_word_processors_are_cores(machine, tmp_path):
    machine(affinity={0, 1, 2})
    (tmp_path / "proc" / "cpuinfo").unlink()
    assert cpu.describe().physical_cores == 3
    assert cpu.describe().flags == frozenset()
