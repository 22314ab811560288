"""Host: several models within one budget, none starved, none put away while it runs, no deadlock.

Shared threads are for good in a process and refuse other tests' plain sessions, so they are tested in one of its own.
"""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import graphs
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import omni_sdk as omni
from omni_sdk import host as hosting
from omni_sdk import memory
from omni_sdk.errors import ClosedError, InputError, MemoryBudgetError, ModelError, OmniError, SettingsError
from omni_sdk.host import Host

MIB = 1 << 20
SIDE = 512


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """Three models of 1 MiB; each multiplies by its own number."""
    folder = tmp_path_factory.mktemp("models")
    for factor in (2, 3, 5):
        weights = numpy_helper.from_array(np.eye(SIDE, dtype=np.float32) * factor, "w")
        value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", SIDE]) for name in "xy"]
        graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", value[:1], value[1:], [weights])
        onnx.save_model(
            helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9),
            folder / f"{factor}.onnx",
        )
    return {name: folder / f"{factor}.onnx" for name, factor in {"two": 2, "three": 3, "five": 5}.items()}


FACTORS = {"two": 2, "three": 3, "five": 5}
X = np.ones((2, SIDE), np.float32)


def cost(paths):
    with Host("1 GiB", cache_dir=None, shared_threads=False) as host:
        host.add("two", paths["two"])
        return host.stats().models["two"].bytes


def filled(paths, models, **named):
    """A host with room for so many of the three models, and for their runs."""
    host = Host(int(cost(paths) * (models + 0.6)), cache_dir=None, shared_threads=False, **named)
    for name, path in paths.items():
        host.add(name, path)
    return host


def right(model, name):
    return bool((model.infer(x=X)["y"] == FACTORS[name]).all())


def loaded(host):
    return {name for name, model in host.stats().models.items() if model.loaded}


def test_models_are_loaded_on_demand_and_the_least_recently_used_goes(paths):
    with filled(paths, 2) as host:
        assert loaded(host) == set()
        assert list(host) == ["two", "three", "five"]
        for name in ("two", "three", "two", "five"):
            assert isinstance(host[name], omni.Model)
            assert right(host[name], name)
        assert loaded(host) == {"two", "five"}
        stats = host.stats()
        assert stats.models["three"].put_away == 1
        assert stats.models["two"].loads == 1
        assert stats.in_use <= stats.peak <= stats.budget
        assert "2 of 3 models loaded" in repr(host)


def test_cancelling_an_awaited_call_ends_its_run_and_lets_the_model_go():
    for_ever = {"x": np.ones(8, np.float32), "n": np.array(10**9, np.int64)}

    async def main(model):
        task = asyncio.create_task(model.infer_async(for_ever))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 20)
        with pytest.raises(TimeoutError):
            await model.infer_async(for_ever, timeout=0.02)

    with Host("1 GiB", cache_dir=None, shared_threads=False) as host:
        host.add("long", graphs.serialized(graphs.LONG))
        asyncio.run(main(host["long"]))
        assert host.stats().models["long"].running == 0


def test_cancelling_an_awaited_call_ends_its_wait_for_room(paths):
    async def main(host):
        with host.using("two"):
            task = asyncio.create_task(host["three"].infer_async(x=X))
            await asyncio.sleep(0.1)
            assert host.stats().waiting == 1
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(task, 20)
            assert host.stats().waiting == 0
        assert (await host["three"].infer_async(x=X))["y"][0, 0] == 3

    with filled(paths, 1) as host:
        asyncio.run(main(host))


def test_closing_refuses_awaited_calls_that_wait(paths):
    with filled(paths, 1) as host:
        model = host["two"]
    with pytest.raises(ClosedError):
        asyncio.run(model.infer_async(x=X))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_host_in_a_forked_child_says_so_whatever_threads_were_doing(paths):
    script = f"""
import os, sys, threading
from omni_sdk import ClosedError, Host
host = Host("1 GiB", cache_dir=None, shared_threads=False)
host.add("two", {str(paths["two"])!r}, pinned=True)
held, over = threading.Event(), threading.Event()
def hold():
    with host._turns.lock:
        held.set()
        over.wait()
thread = threading.Thread(target=hold)
thread.start()
held.wait()
child = os.fork()
if child == 0:
    try:
        host["two"]
    except ClosedError as error:
        sys.exit(7 if "forked child" in str(error) else 1)
    sys.exit(2)
_, status = os.waitpid(child, 0)
over.set()
thread.join()
sys.exit(os.waitstatus_to_exitcode(status))
"""
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, timeout=60, check=False)
    assert (run.returncode, run.stderr) == (7, b"")


def test_a_handle_outlives_being_put_away(paths):
    with filled(paths, 1) as host:
        two = host["two"]
        assert right(two, "two")
        assert right(host["three"], "three")
        assert loaded(host) == {"three"}
        assert right(two, "two")
        assert [spec.name for spec in two.inputs] == ["x"]
        assert two.warmup({"x": (2, SIDE)}).seconds
        assert two.stats().runs >= 2
        assert two.memory().total > 0
        assert "shared_threads" in str(two.explain())
        with two.input_buffers(x=(2, SIDE)) as buffers:
            buffers["x"][:] = 1
            assert (two.infer(buffers)["y"] == 2).all()
        assert (asyncio.run(two.infer_async(x=X))["y"] == 2).all()
        with pytest.raises(ModelError, match="pickling 'two'"):
            pickle.dumps(two)
        with pytest.raises(AttributeError):
            two.no_such_thing  # noqa: B018


def test_pinned_models_stay(paths):
    with Host(int(cost(paths) * 2.6), cache_dir=None, shared_threads=False) as host:
        host.add("two", paths["two"], pinned=True)
        assert loaded(host) == {"two"}
        for name in ("three", "five"):
            host.add(name, paths[name])
            assert right(host[name], name)
        assert loaded(host) == {"two", "five"}


def test_a_model_in_use_is_not_put_away_and_a_request_waits_for_it(paths):
    with filled(paths, 1) as host:
        events = []

        def ask():
            right(host["three"], "three")
            events.append("three")

        with host.using("two") as two:
            thread = threading.Thread(target=ask)
            thread.start()
            while host.stats().waiting == 0:
                time.sleep(0.001)
            assert right(two, "two")
            events.append("two")
        thread.join(10)
        assert events == ["two", "three"]


@pytest.mark.parametrize(("wait", "least"), [(0, 0.0), (0.1, 0.1)])
def test_a_request_that_cannot_be_met_fails_as_asked(paths, wait, least):
    with filled(paths, 1, wait=wait) as host, host.using("two"):
        failed = []

        def ask():
            began = time.monotonic()
            try:
                host["three"].infer(x=X)
            except MemoryBudgetError as error:
                failed.append((time.monotonic() - began, str(error)))

        thread = threading.Thread(target=ask)
        thread.start()
        thread.join(10)
        ((seconds, message),) = failed
        assert least <= seconds < least + 5
        assert "no room came free" in message
        assert "two" in message


def test_what_can_never_fit_is_refused_when_it_is_added(paths):
    with Host(cost(paths) * 2 - 1, cache_dir=None, shared_threads=False) as host:
        host.add("two", paths["two"], pinned=True)
        with pytest.raises(MemoryBudgetError, match="pinned two"):
            host.add("three", paths["three"])
        assert list(host) == ["two"]


def test_two_that_hold_one_and_want_the_others_do_not_deadlock(paths):
    with filled(paths, 2, wait=None) as host:
        barrier, outcomes = threading.Barrier(2), []

        def ask(mine, other):
            with host.using(mine):
                barrier.wait()
                try:
                    with host.using(other) as model:
                        outcomes.append(right(model, other))
                except MemoryBudgetError as error:
                    outcomes.append(str(error))

        threads = [threading.Thread(target=ask, args=args) for args in (("two", "five"), ("three", "five"))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert not any(thread.is_alive() for thread in threads)
        assert any("waits for room itself" in str(outcome) for outcome in outcomes)


def test_one_thread_that_holds_everything_is_told(paths):
    with filled(paths, 1, wait=None) as host, host.using("two"):
        with pytest.raises(MemoryBudgetError, match="waits for room itself"):
            host["three"].infer(x=X)
        assert right(host["two"], "two")


def test_a_stream_holds_its_model_until_it_is_closed(paths):
    with filled(paths, 1, wait=0) as host:
        stream = host["two"].stream(window=omni.Window(left=0, input_axis=0, output_axis=0, ratio=1))
        with pytest.raises(MemoryBudgetError):
            host["three"].infer(x=X)
        stream.close()
        stream.close()
        assert right(host["three"], "three")
        stream = host["two"].stream(window=omni.Window(left=0, input_axis=0, output_axis=0, ratio=1))
        del stream
        gc.collect()
        assert right(host["three"], "three")
        with pytest.raises(OmniError):
            host["two"].stream()
        assert right(host["three"], "three")


def test_a_model_that_fails_to_load_leaves_its_room(paths, tmp_path):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"\x00" * 1000)
    with filled(paths, 2) as host:
        host.add("broken", broken)
        for _ in range(3):
            with pytest.raises(ModelError):
                host["broken"].infer(x=X)
        assert right(host["two"], "two")
        with pytest.raises(ModelError):
            host.add("pinned", broken, pinned=True)
        assert "pinned" not in host


def test_wrong_names_and_closed_hosts(paths):
    host = filled(paths, 2)
    with pytest.raises(InputError, match="'four'"):
        host["four"]
    with pytest.raises(InputError, match="not in use"):
        host.add("two", paths["two"])
    two = host["two"]
    assert right(two, "two")
    host.close()
    host.close()
    with pytest.raises(ClosedError):
        two.infer(x=X)
    with pytest.raises(ClosedError):
        host["two"]


def hammer(host, requests, threads=8):
    """Random requests from many threads; errors, wrong answers, and the highest sampled use."""
    wrong, peak, done = [], [0], threading.Event()

    def sample():
        while not done.wait(0.0005):
            peak[0] = max(peak[0], host.stats().in_use)

    def work(seed):
        rng = random.Random(seed)
        for _ in range(requests // threads):
            name = rng.choice(list(FACTORS))
            try:
                if not right(host[name], name):
                    wrong.append(name)
            except Exception as error:
                wrong.append(error)

    sampler = threading.Thread(target=sample)
    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(threads)]
    for thread in (sampler, *workers):
        thread.start()
    for thread in workers:
        thread.join(300)
    done.set()
    sampler.join()
    assert not any(thread.is_alive() for thread in workers)
    return wrong, peak[0]


@pytest.mark.parametrize("requests", [400, pytest.param(10_000, marks=pytest.mark.heavy)])
def test_many_threads_stay_within_the_budget_and_none_fails(paths, requests):
    with filled(paths, 2) as host:
        wrong, peak = hammer(host, requests)
        assert wrong == []
        assert 0 < peak <= host.memory_budget
        assert host.stats().peak <= host.memory_budget
        assert host.stats().models["two"].put_away > 0
        assert all(model.running == 0 for model in host.stats().models.values())


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


def test_settings_by_a_presets_name(paths):
    with Host("1 GiB", settings="baseline", cache_dir=None, shared_threads=False) as host:
        host.add("two", paths["two"])
        host.add("three", paths["three"], settings="balanced")
        assert host["two"].settings == omni.Settings.preset("baseline")
        assert host["three"].settings == omni.Settings()
        with pytest.raises(SettingsError, match="'fast'"):
            host.add("five", paths["five"], settings="fast")
    with pytest.raises(SettingsError, match="'fast'"):
        Host(settings="fast", shared_threads=False)


@pytest.mark.parametrize("wait", ["x", -1, True, float("nan")])
def test_seconds_that_are_none(wait):
    with pytest.raises(SettingsError, match=r"Host\(wait\)"):
        Host(wait=wait, shared_threads=False)


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


THREADS = """
import os, sys, numpy as np, omni_sdk as omni
x = np.ones((64, 512), np.float32)
with omni.Host("1 GiB", settings=omni.Settings(intra_op_num_threads=4), cache_dir=None) as host:
    for index in range(5):
        host.add(str(index), sys.argv[1])
        host[str(index)].infer(x=x)
        print(len(os.listdir("/proc/self/task")), end=" ")
with omni.load(sys.argv[1], cache_dir=None) as model:
    assert (model.infer(x=x)["y"] == 2).all()
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are listed on Linux only")
def test_five_models_run_the_threads_of_one(paths):
    done = subprocess.run(
        [sys.executable, "-c", THREADS, str(paths["two"])], capture_output=True, text=True, timeout=60, env=os.environ
    )
    assert done.returncode == 0, done.stderr
    counts = [int(word) for word in done.stdout.split()]
    assert len(counts) == 5
    assert len(set(counts)) == 1


def test_the_default_wait_ends():
    assert 0 < hosting.DEFAULT_WAIT_SECONDS < float("inf")
