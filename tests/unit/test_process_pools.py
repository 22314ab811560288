"""What a process has one of: the first to ask sizes it, and an idle arena is given back."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import graphs
import numpy as np
import pytest

from omni_sdk import memory
from omni_sdk import session as sessions
from omni_sdk.errors import ModelError
from omni_sdk.process_pools import give_back_arena, require_threads
from omni_sdk.settings import Settings
from omni_sdk.source import Source


def test_an_idle_arena_is_given_back():
    text = "g (float[N] x, float[2] z) => (float[N] y) { e = Exp(x)\n s = Sin(e)\n y = Cos(s) }"
    session = sessions.open_session(Source(graphs.serialized(text)), Settings())
    inputs, _ = sessions.specs(session)
    session.run(None, {"x": np.zeros(16 << 20, np.float32), "z": np.zeros(2, np.float32)})
    before = memory.private()
    assert give_back_arena(session, inputs)
    assert before - memory.private() > 48 << 20
    without = sessions.open_session(Source(graphs.serialized(text)), Settings(enable_cpu_mem_arena=False))
    assert not give_back_arena(without, inputs)


def test_the_arena_of_a_model_of_strings_is_not():
    session = sessions.open_session(
        Source(graphs.serialized("g (string[N] x) => (string[N] y) { y = Identity(x) }")), Settings()
    )
    assert not give_back_arena(session, sessions.specs(session)[0])


def test_the_first_to_ask_sizes_what_the_process_shares():
    script = """
import logging, graphs, numpy as np
from omni_sdk import process_pools as pools
said = []
class Keep(logging.Handler):
    def emit(self, record):
        said.append(record.getMessage())
logging.getLogger("omni_sdk").addHandler(Keep())
model = graphs.load(graphs.DOUBLE, shared_threads=True, intra_op_num_threads=1)
assert pools.Threads.sized == (1, 1), pools.Threads.sized
assert pools.Arena.registered == (1 << 20, "power_of_two"), pools.Arena.registered
assert not [line for line in said if "no effect" in line and "threads" in line], said
other = graphs.load(graphs.DOUBLE, shared_threads=True, intra_op_num_threads=2, arena_bytes=1 << 21)
assert pools.Threads.sized == (1, 1)
assert any("2 threads have no effect" in line for line in said), said
assert any("arena_bytes=2097152 has no effect" in line for line in said), said
found = other.explain()
assert found["arena_bytes"].effective == 1 << 20
assert (found["intra_op_num_threads"].asked, found["intra_op_num_threads"].effective) == (2, 1)
assert found["allow_spinning"].effective == "during runs"
assert not model.explain()["intra_op_num_threads"].changed
found = graphs.load(graphs.DOUBLE, intra_op_num_threads=1, execution_mode="parallel", inter_op_num_threads=3).explain()
assert found["shared_threads"].effective and found["inter_op_num_threads"].effective == 1
for each in (model, other, graphs.load(graphs.DOUBLE)):
    assert (each.infer(x=np.ones(3, np.float32))["y"] == 2).all()
"""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False, env=env
    )
    assert (run.returncode, run.stderr) == (0, "")


def test_threads_that_the_system_does_not_have_are_told(monkeypatch):
    before, real = threading.active_count(), threading.Thread.start

    def start(thread):
        if threading.active_count() >= before + 2:
            raise RuntimeError("can't start new thread")
        real(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    source = Source(graphs.serialized(graphs.DOUBLE))
    require_threads(2, source)
    with pytest.raises(ModelError, match="Expected 5 more threads, got 2 from the system"):
        require_threads(5, source)
    assert threading.active_count() == before
