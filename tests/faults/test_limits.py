"""Memory and disks that end too soon: a sentence, nothing half written, and the process lives on."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import graphs
import numpy as np
import pytest
from victims import SETTINGS, dense, load_and_try

import omni_sdk as omni
from omni_sdk import process_pools, profiles
from omni_sdk.bundle import Bundle, create
from omni_sdk.source import Source

DISK_BYTES = 1 << 20
LIMITED = """
import resource, sys
import numpy as np, omni_sdk as omni

headroom, threads, folder = int(sys.argv[1]) << 20, int(sys.argv[2]), sys.argv[3]
settings = omni.Settings(intra_op_num_threads=threads)
x = np.ones((512, 1024), np.float32)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + headroom, used + headroom))
for cache_dir in (None, folder + "/cache"):
    try:
        with omni.load(folder + "/model.onnx", settings, cache_dir=cache_dir) as model:
            results = [model.infer(x=x)["y"][0, 0] for _ in range(3)]
        assert len(set(results)) == 1
    except (omni.OmniError, MemoryError) as error:
        print(type(error).__name__, end=" ")
    else:
        print("ran", end=" ")
"""
GROUP_BYTES = 400 << 20
GROUPED = """
import os, sys
import numpy as np

open(sys.argv[1] + "/cgroup.procs", "w").write(str(os.getpid()))  # before anything large is loaded
import omni_sdk as omni
from omni_sdk import memory

device = memory.device()
settings = omni.Settings(intra_op_num_threads=1, memory_limit="75%")
with omni.load(sys.argv[2] + "/model.onnx", settings, cache_dir=None) as model:
    rows, told = np.ones((4, 1024), np.float32), []
    before = model.infer(x=rows)["y"]
    for exponent in range(6, 20):  # up to 2 GiB of inputs, five times what the group has
        try:
            model.infer(x=np.broadcast_to(np.float32(1), (1 << exponent, 1024)))
        except omni.MemoryBudgetError:
            told.append(exponent)
    assert (model.infer(x=rows)["y"] == before).all()
print(device.limited_by, device.total, *told)
"""


@pytest.fixture(scope="module")
def large_model(tmp_path_factory) -> Path:
    return dense(tmp_path_factory.mktemp("large") / "model.onnx", external=False, width=1024).parent


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="address space is limited and measured by Linux")
@pytest.mark.parametrize("threads", [1, 4])
def test_whatever_address_space_is_left_the_process_lives(large_model, threads):
    told = []
    for headroom in (1, 14, 28, 4000):
        done = subprocess.run(
            [sys.executable, "-c", LIMITED, str(headroom), str(threads), str(large_model)],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert done.returncode == 0, f"at {headroom} MiB: {done.stderr[-1000:]}"
        told.append(done.stdout.split())
    assert told[0] == ["ModelError", "ModelError"]
    assert told[-1] == ["ran", "ran"]


@pytest.fixture
def control_group() -> Iterator[Path]:
    """A control group of its own with a memory limit that the kernel kills for."""
    for root, limit in (("memory", "memory.limit_in_bytes"), ("", "memory.max")):
        place = Path("/sys/fs/cgroup", root, f"omni-sdk-{os.getpid()}")
        try:
            place.mkdir()
        except OSError:
            continue
        try:
            (place / limit).write_text(str(GROUP_BYTES))
            yield place
            return
        except OSError:
            continue
        finally:
            place.rmdir()
    pytest.skip("a control group with a memory limit takes root and a writable hierarchy")


def test_within_a_control_group_a_limit_refuses_what_the_kernel_would_kill_for(control_group, large_model):
    done = subprocess.run(
        [sys.executable, "-c", GROUPED, str(control_group), str(large_model)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr[-1000:]
    limited_by, total, *refused = done.stdout.split()
    assert (limited_by, int(total)) == ("cgroup", GROUP_BYTES)
    assert refused, "the largest inputs were never refused"
    assert refused == [str(exponent) for exponent in range(int(refused[0]), 20)]


def test_threads_that_the_system_does_not_give_are_told(monkeypatch):
    class NoMore(threading.Thread):
        started = 0

        def start(self):
            if NoMore.started == 2:
                raise RuntimeError("can't start new thread")
            NoMore.started += 1
            super().start()

    monkeypatch.setattr(process_pools.threading, "Thread", NoMore)
    with pytest.raises(omni.ModelError, match="Expected 7 more threads, got 2 from the system"):
        graphs.load(graphs.DOUBLE, intra_op_num_threads=8)


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    """A disk of its own, small enough to fill."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=700", "tmpfs", str(place)]
    if (
        not sys.platform.startswith("linux")
        or os.geteuid() != 0
        or subprocess.run(mount, capture_output=True).returncode
    ):
        pytest.skip("mounting a small tmpfs takes root and a mount namespace")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def read_only(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)


def fill(disk: Path, left: int = 0) -> None:
    with (disk / "filling").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            os.truncate(file.fileno(), max(0, file.tell() - left))


@pytest.mark.parametrize("left", [0, 4096, 16384])
def test_on_a_full_disk_nothing_is_half_written_and_loads_go_on(disk, tmp_path, left):
    path = dense(tmp_path / "model.onnx", width=256)
    right = load_and_try(path)["y"]
    fill(disk, left)
    with pytest.raises(omni.BundleError, match="No space left"), create(disk / "bundle") as draft:
        dense(draft.folder / "model.onnx", width=256)
    for _ in range(2):
        assert (load_and_try(path, cache_dir=disk)["y"] == right).all()
    profile = profiles.blank(Source(path), "latency", SETTINGS, {"note": "x" * 20_000})
    with pytest.raises(omni.SettingsError, match="No space left"):
        profiles.save(profile, disk)
    assert not [
        found for found in disk.rglob("*") if found.is_file() and found.name[0] != "." and found.name != "filling"
    ]
    assert profiles.find(Source(path), disk) is None


def test_a_disk_that_fills_while_a_bundle_is_replaced_keeps_the_old_one(disk):
    with create(disk / "bundle") as draft:
        dense(draft.folder / "model.onnx")
    before = load_and_try(disk / "bundle")["y"]
    with pytest.raises(omni.BundleError, match="No space left"), create(disk / "bundle") as draft:
        fill(disk)
        (draft.folder / "model.onnx").write_bytes(bytes(100))
    Bundle.open(disk / "bundle", checksums=True)
    assert (load_and_try(disk / "bundle")["y"] == before).all()
    assert sorted(found.name for found in disk.iterdir()) == ["bundle", "filling"]


def test_on_a_read_only_disk_what_is_there_serves(disk, tmp_path):
    path = dense(tmp_path / "model.onnx")
    right = load_and_try(path, cache_dir=disk)["y"]
    with create(disk / "bundle") as draft:
        dense(draft.folder / "model.onnx")
    profiles.save(profiles.blank(Source(path), "latency", SETTINGS, {}), disk)
    read_only(disk)
    assert (load_and_try(path, cache_dir=disk)["y"] == right).all()
    assert (load_and_try(disk / "bundle", cache_dir=disk)["y"] == right).all()
    assert profiles.settings_for(path, disk) == SETTINGS
    with pytest.raises(omni.BundleError, match="Read-only"), create(disk / "bundle"):
        pass
    with pytest.raises(omni.SettingsError, match="Read-only"):
        profiles.save(profiles.blank(Source(path), "memory", SETTINGS, {}), disk)


def test_numbers_are_the_same_when_memory_was_short_in_between(large_model):
    x = np.ones((4, 1024), np.float32)
    with omni.load(large_model / "model.onnx", SETTINGS, cache_dir=None) as model:
        before = model.infer(x=x)["y"]
        with pytest.raises((omni.OmniError, MemoryError)):
            model.infer(x=np.broadcast_to(np.float32(1), (1 << 40, 1024)))
        assert (model.infer(x=x)["y"] == before).all()
