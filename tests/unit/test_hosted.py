"""Models of a host as their users see them: every argument is the model's own, and time counts from the call."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
import threading
import time

import graphs
import numpy as np
import pytest

from omni_sdk.errors import InputError
from omni_sdk.host import Host
from omni_sdk.hosted import HostedModel
from omni_sdk.model import Model

CARRIES = """g (float[4] self, float[4] "past.h") => (float[4] y, float[4] "present.h") {
    y = Identity("past.h")
    "present.h" = Add(self, "past.h")
}"""
X = np.ones(4, np.float32)


@pytest.mark.parametrize("name", ["infer", "infer_async"])
def test_its_calls_are_spelled_as_the_models_own(name):
    assert inspect.signature(getattr(HostedModel, name)) == inspect.signature(getattr(Model, name))


def host_of(text, *names, **named):
    host = Host("1 GiB", cache_dir=None, shared_threads=False, **named)
    for name in names:
        host.add(name, graphs.serialized(text))
    return host


@pytest.fixture
def full(monkeypatch):
    """A host that never has room for its second model while its first one is used."""
    with host_of(graphs.DOUBLE, "one", "two") as host:
        make_room = host._places.make_room
        monkeypatch.setattr(
            host._places, "make_room", lambda need, **how: not host._places.holders() and make_room(need, **how)
        )
        yield host


def held(host, inside, leave):
    with host.using("one"):
        inside.set()
        leave.wait(30)


def test_time_counts_while_a_call_waits_for_room(full):
    inside, leave = threading.Event(), threading.Event()
    thread = threading.Thread(target=held, args=(full, inside, leave))
    thread.start()
    inside.wait(10)
    began = time.monotonic()
    try:
        with pytest.raises(TimeoutError, match=r"within 0\.1 s, got none - at 'two'"):
            full["two"].infer(x=X, timeout=0.1)
        assert 0.1 <= time.monotonic() - began < 10
    finally:
        leave.set()
        thread.join()
    assert (full["two"].infer(x=X)["y"] == 2).all()
    assert (full["two"].infer({"x": X}, timeout=20)["y"] == 2).all()


def test_a_call_that_ended_in_the_queue_ends_no_later_wait(full):
    inside, leave = threading.Event(), threading.Event()
    thread = threading.Thread(target=held, args=(full, inside, leave))
    thread.start()
    inside.wait(10)
    with pytest.raises(TimeoutError):
        full["two"].infer(x=X, timeout=0.05)
    threading.Timer(0.1, leave.set).start()
    with full.using("two") as model:  # waits on the same thread, without an interrupt of its own
        assert (model.infer(x=X)["y"] == 2).all()
    thread.join()


def test_time_counts_while_a_model_runs():
    with host_of(graphs.LONG, "long") as host:
        with pytest.raises(TimeoutError):
            host["long"].infer(x=np.ones(8, np.float32), n=np.array(10**9, np.int64), timeout=0.05)
        assert host.stats().models["long"].running == 0
        with pytest.raises(InputError, match="timeout"):
            host["long"].infer(timeout="soon")


def test_an_input_may_be_called_self():
    with host_of(CARRIES, "a") as host:
        feeds = {"past.h": X}
        assert (host["a"].infer(self=X, **feeds)["present.h"] == 2).all()
        with host["a"].stream(self=X, state={"past.h": "present.h"}) as stream:
            stream.step()
            assert (stream.step()["y"] == 1).all()
        with host["a"].input_buffers() as buffers:
            assert buffers.keys() == {"self", "past.h"}
        with pytest.raises(InputError, match="'self'"), host["a"].input_buffers(self=(5,)):
            pass


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_an_awaited_call_in_a_forked_child_is_told():
    script = """
import asyncio, os, signal, sys, time, graphs, numpy as np
from omni_sdk import ClosedError, Host
x = np.ones(4, np.float32)
host = Host("1 GiB", cache_dir=None, shared_threads=False)
host.add("a", graphs.serialized(graphs.DOUBLE))
model = host["a"]
asyncio.run(model.infer_async(x=x))
time.sleep(0.2)  # until the thread that ran it is idle
child = os.fork()
if child == 0:
    signal.alarm(20)
    try:
        asyncio.run(model.infer_async(x=x))
    except ClosedError as error:
        sys.exit(7 if "forked child" in str(error) else 1)
    except BaseException:
        os._exit(2)
    sys.exit(3)
_, status = os.waitpid(child, 0)
assert (asyncio.run(model.infer_async(x=x))["y"] == 2).all()
sys.exit(os.waitstatus_to_exitcode(status))
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        capture_output=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert (done.returncode, done.stderr) == (7, b"")
