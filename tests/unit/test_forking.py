"""Forked children: everything of the parent's says that it is, whatever threads did at the fork, and the child ends."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import weakref

import pytest

from omni_sdk import forking

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")

BEGIN = """
import os, sys, threading, time, numpy as np, graphs, omni_sdk as omni
x = np.ones(4, np.float32)

def in_child(check):
    child = os.fork()
    if child == 0:
        try:
            check()
        except Exception as error:
            print(repr(error), file=sys.stderr)
            sys.exit(1)
        sys.exit(7)
    return child

def ends(child):
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 7, status

def told(call):
    try:
        call()
    except omni.ClosedError as error:
        assert "forked child" in str(error) or "closed meanwhile" in str(error), error
    else:
        raise AssertionError("the child used what is the parent's")
"""


def run(script):
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", BEGIN + script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_every_call_on_every_thing_of_the_parents_is_told():
    run("""
import asyncio
model = graphs.load(graphs.DOUBLE, cache_bytes=1 << 20)
held = model.infer(x=x)["y"]
stateful = graphs.load('g (float[4] x, float[4] "past.h") => (float[4] y, float[4] "present.h")'
                       '{ y = Identity("past.h")\\n "present.h" = Add(x, "past.h") }')
stream = stateful.stream()
for _ in range(3):
    stream.step(x=x)

def check():
    told(lambda: model.infer(x=x))
    told(lambda: asyncio.run(model.infer_async(x=x)))
    told(lambda: model.warmup({"x": (4,)}))
    told(model.explain)
    told(stateful.stream)
    told(lambda: stream.step(x=x))
    assert (held == 2).all()
    assert "parent" in repr(model)
    model.close()
    stream.close()

ends(in_child(check))
assert (model.infer(x=x)["y"] == 2).all()
assert (stream.step(x=x)["y"] == 3).all()
""")


def test_a_fork_while_threads_are_in_the_midst_of_it():
    run("""
model = graphs.load(graphs.LONG, intra_op_num_threads=2, cache_bytes=1 << 20)
n, stop = np.array(500, np.int64), threading.Event()
eight = np.ones(8, np.float32)

def work(number):
    while not stop.is_set():
        model.infer({"x": eight * np.float32(time.perf_counter()), "n": n})

threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
for thread in threads:
    thread.start()

def check():
    told(lambda: model.infer(x=eight, n=n))
    with graphs.load(graphs.DOUBLE, intra_op_num_threads=2) as mine:
        assert (mine.infer(x=x)["y"] == 2).all()

for _ in range(2):
    time.sleep(0.01)
    ends(in_child(check))
stop.set()
for thread in threads:
    thread.join()
""")


def test_a_child_of_a_child_ends_too():
    run("""
model = graphs.load(graphs.DOUBLE)
model.infer(x=x)
mine = []

def grandchild():
    told(lambda: model.infer(x=x))
    told(lambda: mine[0].infer(x=x))

def check():
    mine.append(graphs.load(graphs.DOUBLE))
    mine[0].infer(x=x)
    ends(in_child(grandchild))
    assert (mine[0].infer(x=x)["y"] == 2).all()

ends(in_child(check))
""")


@pytest.mark.parametrize("last", ["del model", "model.close()"])
def test_a_stream_that_outlives_its_model(last):
    run(f"""
import gc
model = graphs.load('g (float[4] x, float[4] "past.h") => (float[4] y, float[4] "present.h")'
                    '{{ y = Identity("past.h")\\n "present.h" = Add(x, "past.h") }}', intra_op_num_threads=2)
stream = model.stream()
for _ in range(3):
    stream.step(x=x)
{last}
gc.collect()

def check():
    told(lambda: stream.step(x=x))
    stream.close()

ends(in_child(lambda: told(lambda: stream.step(x=x))))
ends(in_child(check))
""")


def test_a_stream_whose_step_was_under_way_at_the_fork():
    run("""
model = graphs.load(graphs.DOUBLE)
stream = model.stream(window=omni.Window(left=1))
inside, leave = threading.Event(), threading.Event()
stream._infer = lambda feeds: inside.set() or leave.wait(20) and model.infer(feeds)
thread = threading.Thread(target=stream.step, args=({"x": x},))
thread.start()
inside.wait()

def check():
    stream._infer = model.infer
    told(lambda: stream.step(x=x))
    told(stream.flush)

ends(in_child(check))
leave.set()
thread.join()
""")


class Thing:
    def __init__(self):
        self.disowned = 0

    def disown(self):
        self.disowned += 1


def test_what_is_watched_is_not_kept_alive(monkeypatch):
    skipped = []
    monkeypatch.setattr(forking, "_living", weakref.WeakSet())
    monkeypatch.setattr(forking, "_skip_clean_up_at_exit", lambda: skipped.append(True))
    kept, lost = Thing(), Thing()
    for thing in (kept, lost, kept):
        forking.watch(thing)
    alive = weakref.ref(lost)
    del lost, thing
    gc.collect()
    assert alive() is None
    forking._disown_all()
    assert (kept.disowned, skipped) == (1, [True])
    del kept
    gc.collect()
    forking._disown_all()
    assert skipped == [True]


def test_what_is_kept_for_ever_is_never_destroyed():
    thing = Thing()
    alive = weakref.ref(thing)
    forking.keep_for_ever(thing)
    del thing
    gc.collect()
    assert alive() is not None
