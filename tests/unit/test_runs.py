"""What a run is bound to, and the call between feeds and results, against an engine that only remembers."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

from omni_sdk._buffers import BufferPool
from omni_sdk._runs import BoundRun, Frame


class Engine:
    """Takes an address for a value, and doubles what is bound when it runs."""

    def __init__(self):
        self.bound = {}
        self.calls = []
        self.during = lambda: None

    def value_of(self, index, array):
        return array

    def bind(self, name, value):
        self.calls.append(name)
        self.bound[name] = value

    def start(self, binding, options):
        self.during()
        np.multiply(self.bound["x"], 2, out=self.bound["y"])

    def run_of(self, pool, shape=(3,), *, stages=False):
        frames = (
            Frame([name], [np.float32], [shape], self.bind, self.value_of, pool if stages and name == "x" else None)
            for name in ("x", "y")
        )
        return BoundRun(*frames, pool, self.start, "binding", RuntimeError, lambda: None)


@pytest.fixture
def engine():
    return Engine()


@pytest.fixture
def pool():
    return BufferPool()


def ones(size=3):
    return np.ones(size, np.float32)


def test_a_frame_takes_equal_dtypes_that_are_other_objects():
    frame = Frame(("x",), (np.int64,), ((4,),))
    twin = np.ones(4, np.longlong if np.dtype(np.longlong) is not np.dtype(np.int64) else np.int_)
    assert twin.dtype is not np.dtype(np.int64)
    assert frame.match({"x": twin}) >= 0
    assert frame.match({"x": np.ones(4, np.dtype("i8", copy=True))}) >= 0


@pytest.mark.parametrize(
    "array",
    [
        np.ones(5, np.float32),
        np.ones((4, 1), np.float32),
        np.ones(4, np.float64),
        np.ones(4, ">f4"),
        np.ones(8, np.float32)[::2],
        [1.0] * 4,
        np.frombuffer(b"\0" * 17, np.uint8)[1:].view(np.float32),
    ],
)
def test_a_frame_refuses_what_cannot_be_bound(array):
    frame = Frame(("x",), (np.float32,), ((4,),))
    assert frame.match({"x": array}) == -1


def test_a_frame_wants_every_name_and_no_other():
    frame = Frame(("a", "b"), (np.float32, np.int8), ((2,), ()))
    first = {"a": np.ones(2, np.float32), "b": np.ones((), np.int8)}
    assert frame.match(first) == 2
    assert frame.match({"a": first["a"]}) == -1
    assert frame.match({**first, "c": first["a"]}) == -1
    assert frame.match({"a": first["a"], "c": first["b"]}) == -1
    assert frame.match([first]) == -1


def test_what_is_held_stands_in_for_what_is_missing_and_nothing_else():
    frame = Frame(("a", "b"), (np.float32, np.int8), ((2,), ()))
    a, b = np.ones(2, np.float32), np.ones((), np.int8)
    assert frame.match({"a": a}, {"b": b, "more": a}) == 2
    assert frame.match({"a": a, "c": b}, {"b": b}) == -1
    assert frame.match({"a": a}, {"b": a}) == -1


def test_a_frame_counts_bytes_and_refuses_sizes_that_cannot_be():
    assert Frame(("x", "y"), (np.float32, np.int8), ((3, 0), (5,))).nbytes == 5
    with pytest.raises(ValueError, match="0 or more"):
        Frame(("x",), (np.int8,), ((-1,),))
    with pytest.raises(MemoryError, match="address space"):
        Frame(("x",), (np.float64,), ((2**40, 2**40),))
    with pytest.raises(ValueError, match="as many"):
        Frame(("x",), (), ())


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
    assert run.bindings == len(engine.calls) == 2
    other = ones()
    run.run({"x": other})
    assert engine.calls[2:] == ["x"]


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


def test_feeds_that_do_not_fit_run_nothing(engine, pool):
    run = engine.run_of(pool)
    assert run.run({"x": ones(4)}) is None
    assert run.run({}) is None
    assert (engine.calls, run.bindings, pool.stats()["allocations"]) == ([], 0, 0)


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
    before = run.bindings
    assert run.run({"x": x})["y"].tolist() == [2, 2, 2]
    assert run.bindings == before + 2
    del x
    engine.bound.clear()
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
