"""Calls to a host that are awaited or come from many threads: none starves, none deadlocks, each ends as asked."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import graphs
import numpy as np
import pytest
from hosts import FACTORS, X, filled, right

from omni_sdk.errors import ClosedError, MemoryBudgetError
from omni_sdk.host import Host


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
