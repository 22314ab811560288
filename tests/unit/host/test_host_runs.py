"""Runs in a host: their arenas and results count, make room for others, and never go beyond the budget."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import graphs
import numpy as np
import pytest
from hosts import X, cost, right

import omni_sdk as omni
from omni_sdk import memory
from omni_sdk.errors import MemoryBudgetError
from omni_sdk.host import Host

MIB = 1 << 20

WAVES = "g (float[N] x) => (float[N] y) { e = Exp(x)\n s = Sin(e)\n c = Cos(e)\n y = Add(s, c) }"


def floats(mib):
    return np.zeros(mib * MIB // 4, np.float32)


def test_runs_wait_for_those_under_way():
    """One run keeps about 96 MiB of arena, so two do not fit beside a session of 16."""
    failed, x = [], floats(32)

    def work():
        for _ in range(3):
            try:
                host["waves"].infer(x=x)
            except Exception as error:
                failed.append(error)

    with Host("150 MiB", cache_dir=None, shared_threads=False, wait=None) as host:
        host.add("waves", graphs.serialized(WAVES))
        host["waves"].warmup({"x": x.shape})
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert failed == []
        assert host.stats().peak <= host.memory_budget


def test_a_run_that_can_never_fit_is_refused_however_long_it_may_wait():
    with Host("150 MiB", cache_dir=None, shared_threads=False, wait=None) as host:
        host.add("waves", graphs.serialized(WAVES))
        host["waves"].infer(x=floats(32))
        with pytest.raises(MemoryBudgetError, match="this run") as caught:
            host["waves"].infer(x=floats(64))
        assert caught.value.parts["model waves"] == host.stats().models["waves"].bytes
        host["waves"].infer(x=floats(32))


@pytest.mark.parametrize("pinned", [True, False])
def test_an_idle_arena_makes_room(paths, pinned):
    with Host("150 MiB", cache_dir=None, shared_threads=False, wait=0) as host:
        host.add("waves", graphs.serialized(WAVES), pinned=pinned)
        host.add("two", paths["two"])
        host.add("three", paths["three"])
        host["waves"].infer(x=floats(40))
        assert host.stats().in_use > 100 * MIB
        before = memory.private()
        assert right(host["two"], "two")
        assert right(host["three"], "three")
        assert before - memory.private() > 60 * MIB
        stats = host.stats()
        assert stats.models["waves"].loaded
        assert stats.in_use < 80 * MIB
        assert stats.peak > 100 * MIB
        with host.using("two"), host.using("three"), pytest.raises(MemoryBudgetError):
            host["waves"].infer(x=floats(40))
    assert host.stats().in_use == 0


def test_a_refusal_says_what_is_held(paths):
    with Host(int(cost(paths) * 2.1), cache_dir=None, shared_threads=False, wait=None) as host:
        host.add("two", paths["two"])
        host.add("large", graphs.serialized(WAVES), settings=omni.Settings(cache_bytes=3 * MIB))
        host.add("pinned", paths["three"], pinned=True)
        host._places["large"].bytes *= 2
        with pytest.raises(MemoryBudgetError, match="no model is in use") as caught:
            host["large"].infer(x=X[0])
        assert set(caught.value.parts) == {"model pinned", "arena", "this load"}


def test_a_models_own_limit_holds_too():
    with Host("1 GiB", cache_dir=None, shared_threads=False) as host:
        host.add("waves", graphs.serialized(WAVES), settings=omni.Settings(memory_limit="150 MiB"))
        host["waves"].infer(x=floats(16))
        with pytest.raises(MemoryBudgetError, match=r"at most 150\.0 MiB"):
            host["waves"].infer(x=floats(160))
        assert host["waves"].memory().limit == 150 * MIB


@pytest.mark.parametrize(("budget", "limit"), [("100 MiB", None), ("1 GiB", "100 MiB")])
def test_an_arena_that_a_first_run_made_too_large_refuses_no_small_one(budget, limit):
    with Host(budget, cache_dir=None, shared_threads=False, wait=0) as host:
        host.add("waves", graphs.serialized(WAVES), settings=omni.Settings(memory_limit=limit))
        host["waves"].infer(x=floats(64))
        assert host.stats().in_use > 150 * MIB
        host["waves"].infer(x=floats(1))
        assert host.stats().in_use < 100 * MIB
        with pytest.raises(MemoryBudgetError):
            host["waves"].infer(x=floats(64))


def test_results_that_callers_hold_count_and_those_let_go_make_room():
    with Host("120 MiB", cache_dir=None, shared_threads=False, wait=0) as host:
        host.add("waves", graphs.serialized(WAVES))
        before = host.stats().in_use
        held = [host["waves"].infer(x=floats(2))["y"] for _ in range(20)]
        assert host.stats().in_use - before > 36 * MIB
        with pytest.raises(MemoryBudgetError, match="new buffers"):
            held += [host["waves"].infer(x=floats(2))["y"] for _ in range(60)]
        assert host.stats().peak <= host.memory_budget
        held.clear()
        host["waves"].infer(x=floats(2))
        assert host.stats().in_use <= host.memory_budget


def test_a_models_name_hides_no_part_of_the_sum(paths):
    with Host("1 GiB", cache_dir=None, shared_threads=False) as host:
        for name in ("arena", "this run", "new buffers"):
            host.add(name, paths["two"])
            host[name].infer(x=X)
        assert host.stats().in_use >= sum(each.bytes for each in host.stats().models.values())


SHARED_ARENA = """
import sys, graphs, numpy as np, omni_sdk as omni
waves = "g (float[N] x) => (float[N] y) { e = Exp(x)\\n s = Sin(e)\\n c = Cos(e)\\n y = Add(s, c) }"
with omni.Host("150 MiB", cache_dir=None, wait=0) as host:
    host.add("waves", graphs.serialized(waves))
    host.add("two", sys.argv[1])
    host.add("again", sys.argv[1])
    host["waves"].infer(x=np.zeros(10 << 20, np.float32))
    assert host.stats().in_use > 100 << 20
    before = omni.memory.private()
    for name in ("two", "again"):
        host[name].infer(x=np.ones((1, 512), np.float32))
    assert before - omni.memory.private() > 60 << 20
    assert host.stats().models["waves"].loaded
    host["waves"].infer(x=np.zeros(10 << 20, np.float32))
assert host.stats().in_use == 0
"""


def test_the_shared_arena_makes_room(paths):
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", SHARED_ARENA, str(paths["two"])], capture_output=True, text=True, timeout=60, env=env
    )
    assert done.returncode == 0, done.stderr
