"""What a run is bound to, and the call between feeds and results, against an engine that only remembers."""

from __future__ import annotations

import functools
import gc
import weakref

import numpy as np
import pytest

from omni_sdk._buffers import BufferPool
from omni_sdk._runs import BoundRun, Frame


class Engine:
    """Takes an array for a value, and doubles what is bound when it runs."""

    def __init__(self):
        self.bindings = {}, {}
        self.calls = []
        self.during = lambda: None

    def value_of(self, index, array):
        return array

    def bind(self, binding, name, value):
        self.calls.append(name)
        binding[name] = value

    def start(self, binding, options):
        self.during()
        np.multiply(binding["x"], 2, out=binding["y"])

    def frame(self, names, dtypes, shapes, stager=None):
        binds = tuple(functools.partial(self.bind, binding) for binding in self.bindings)
        return Frame(names, dtypes, shapes, binds, self.value_of, stager)

    def run_of(self, pool, shape=(3,), *, stages=False):
        inputs, outputs = (
            self.frame([name], [np.float32], [shape], pool if stages and name == "x" else None) for name in "xy"
        )
        return BoundRun(inputs, outputs, pool, self.start, self.bindings, RuntimeError, lambda: None)


@pytest.fixture
def engine():
    return Engine()


@pytest.fixture
def pool():
    return BufferPool()


def ones(size=3):
    return np.ones(size, np.float32)


def test_equal_dtypes_that_are_other_objects_fit(engine, pool):
    frames = (engine.frame([name], [np.int64], [(4,)]) for name in "xy")
    run = BoundRun(*frames, pool, engine.start, engine.bindings, RuntimeError, lambda: None)
    twin = np.ones(4, np.longlong if np.dtype(np.longlong) is not np.dtype(np.int64) else np.int_)
    assert twin.dtype is not np.dtype(np.int64)
    assert run.run({"x": twin})["y"].tolist() == [2] * 4
    assert run.run({"x": np.ones(4, np.dtype("i8", copy=True))})["y"].tolist() == [2] * 4


READ_ONLY = np.ones(4, np.float32)
READ_ONLY.flags.writeable = False


def test_what_is_only_read_may_be_read_only(engine, pool):
    assert engine.run_of(pool, (4,)).run({"x": READ_ONLY})["y"].tolist() == [2] * 4


@pytest.mark.parametrize(
    "feeds",
    [
        {"x": np.ones(5, np.float32)},
        {"x": np.ones((4, 1), np.float32)},
        {"x": np.ones(4, np.float64)},
        {"x": np.ones(4, ">f4")},
        {"x": np.ones(8, np.float32)[::2]},
        {"x": [1.0] * 4},
        {"x": np.frombuffer(b"\0" * 17, np.uint8)[1:].view(np.float32)},
        {},
        {"z": READ_ONLY},
        {"x": READ_ONLY, "z": READ_ONLY},
        [READ_ONLY],
    ],
)
def test_what_cannot_be_bound_runs_nothing(engine, pool, feeds):
    run = engine.run_of(pool, (4,))
    assert run.run(feeds) is None
    assert (engine.calls, run.bound, pool.stats()["allocations"]) == ([], 0, 0)


def test_what_is_held_stands_in_for_what_is_missing_and_nothing_else(engine, pool):
    run, x = engine.run_of(pool), ones()
    assert run.run({}, held={"x": x, "more": x})["y"].tolist() == [2, 2, 2]
    assert run.run({"x": 2 * x}, held={"x": x})["y"].tolist() == [4, 4, 4]
    assert run.run({"more": x}, held={"x": x}) is None
    assert run.run({}, held={"x": ones(4)}) is None


def test_a_frame_counts_bytes_and_refuses_sizes_that_cannot_be(engine):
    assert engine.frame(("x", "y"), (np.float32, np.int8), ((3, 0), (5,))).nbytes == 5
    with pytest.raises(ValueError, match="0 or more"):
        engine.frame(("x",), (np.int8,), ((-1,),))
    with pytest.raises(MemoryError, match="address space"):
        engine.frame(("x",), (np.float64,), ((2**40, 2**40),))
    with pytest.raises(ValueError, match="as many"):
        engine.frame(("x",), (), ())
    with pytest.raises(ValueError, match="two that bind"):
        Frame(("x",), (np.int8,), ((1,),), (engine.bind,), engine.value_of)


def test_a_run_gives_results_that_later_runs_leave_alone(engine, pool):
    run = engine.run_of(pool)
    kept = [run.run({"x": ones() * number})["y"] for number in range(1, 5)]
    assert [array.tolist() for array in kept] == [[2 * number] * 3 for number in range(1, 5)]
    assert pool.stats()["in_use_blocks"] == 4
    kept.clear()
    assert pool.stats()["in_use_blocks"] == 0


def test_in_a_steady_state_nothing_is_bound(engine, pool):
    run, x = engine.run_of(pool), ones()
    for _ in range(3):
        run.run({"x": x})
    assert run.bound == len(engine.calls) == 2
    other = ones()
    for number in range(6):
        run.run({"x": x if number % 2 else other})
    assert run.bound == len(engine.calls) == 4  # once in either binding


def test_a_state_handed_back_by_hand_is_a_steady_state(engine, pool):
    run, state = engine.run_of(pool), ones()
    for _ in range(4):
        state = run.run({"x": state})["y"]
    before = run.bound
    for _ in range(8):
        state = run.run({"x": state})["y"]
    assert run.bound == before
    assert state.tolist() == [2.0**12] * 3


def test_large_states_handed_back_are_too(engine, pool):
    size = 1 << 20
    run, state = engine.run_of(pool, (size,)), ones(size)
    for _ in range(4):
        state = run.run({"x": state})["y"]
    before = run.bound
    for _ in range(4):
        state = run.run({"x": state})["y"]
    assert run.bound == before


def test_places_that_were_bound_before_need_no_new_value(engine, pool):
    made = []
    engine.value_of = lambda index, array: made.append(array.ctypes.data) or array
    run, places = engine.run_of(pool), [ones() for _ in range(8)]
    for x in places * 3:
        run.run({"x": x})
    assert [made.count(x.ctypes.data) for x in places] == [1] * 8
    for x in (other := [ones() for _ in range(2)]):
        run.run({"x": x})
    for x in places:
        run.run({"x": x})
    assert [made.count(x.ctypes.data) for x in (*other, *places)] == [1, 1] + [2] * 8  # the oldest give way


def test_a_run_holds_its_feeds_whatever_becomes_of_the_mapping(engine, pool):
    """Another thread may empty the caller's dict while the engine reads."""
    run, feeds = engine.run_of(pool), {"x": ones()}
    gone = weakref.ref(feeds["x"])
    seen = []

    def during():
        feeds.clear()
        gc.collect()
        seen.append(gone() is not None)

    engine.during = during
    assert run.run(feeds)["y"].tolist() == [2, 2, 2]
    assert seen == [True]
    assert gone() is None


def test_a_failure_is_told_and_what_was_bound_is_forgotten(engine, pool):
    run, x = engine.run_of(pool), ones()
    gone = weakref.ref(x)
    run.run({"x": x})

    def fail():
        raise OSError("no")

    engine.during = fail
    with pytest.raises(RuntimeError, match="no") as raised:
        run.run({"x": x})
    assert isinstance(raised.value.__cause__, OSError)
    del raised
    engine.during = lambda: None
    before = run.bound
    assert run.run({"x": x})["y"].tolist() == [2, 2, 2]
    assert run.bound == before + 2
    del x
    assert gone() is None
    assert pool.stats()["in_use_blocks"] == 0


def test_a_value_that_cannot_be_bound_leaves_nothing_bound(engine, pool):
    engine.value_of = lambda index, array: 1 / 0
    run = engine.run_of(pool)
    with pytest.raises(ZeroDivisionError):
        run.run({"x": ones()})
    engine.value_of = lambda index, array: array
    assert engine.run_of(pool).run({"x": ones()})["y"].tolist() == [2, 2, 2]
    assert pool.stats()["in_use_blocks"] == 0


def test_given_places_are_results_and_those_apart_are_not(engine, pool):
    run, mine = engine.run_of(pool), np.zeros(3, np.float32)
    assert run.run({"x": ones()}, None, {"y": mine})["y"] is mine
    assert mine.tolist() == [2, 2, 2]
    mine.fill(0)
    assert run.run({}, held={"x": ones()}, apart={"y": mine}) == {}
    assert mine.tolist() == [2, 2, 2]
    assert pool.stats()["allocations"] == 0


def test_small_arrays_that_always_lie_elsewhere_are_copied_in_the_end(engine, pool):
    run = engine.run_of(pool, stages=True)
    kept = [np.full(3, number, np.float32) for number in range(24)]
    for x in kept:
        assert run.run({"x": x})["y"].tolist() == (2 * x).tolist()
    assert engine.calls.count("x") == 17  # sixteen strange places, then the one that stays
    assert pool.stats()["staged_bytes"] == (24 - 16) * 12
    assert pool.stats()["in_use_blocks"] == 0


def test_large_arrays_and_those_that_come_round_again_are_never_copied(engine, pool):
    large = engine.run_of(pool, (5000,), stages=True)
    kept = [ones(5000) for _ in range(24)]
    for x in kept:
        large.run({"x": x})
    again = engine.run_of(pool, stages=True)
    two = [ones(), ones()]
    for number in range(40):
        again.run({"x": two[number % 2]})
    assert pool.stats()["staged_bytes"] == 0
