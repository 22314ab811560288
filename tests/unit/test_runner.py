"""Bound runs: one owner at a time, learned shapes, destinations, and none left behind."""

from __future__ import annotations

from collections import deque

import graphs
import numpy as np
import pytest

from omni_sdk import learned
from omni_sdk.errors import ClosedError, InputError
from omni_sdk.learned import LearnedShapes
from omni_sdk.runner import READY_RUNS


@pytest.fixture
def model():
    with graphs.load(graphs.DOUBLE) as model:
        yield model


def test_the_second_run_of_a_shape_is_bound(model):
    x = np.ones(4, np.float32)
    model.infer(x=x)
    assert len(model._runner.idle) == 0
    model.infer(x=x)
    assert len(model._runner.idle) == 1
    assert model._runner.learned == (((4,),),)


def test_a_run_that_another_thread_takes_first_is_left_alone(model):
    class Overtaken(deque):
        def remove(self, run):
            raise ValueError("another thread was quicker")

    x, other = np.ones(4, np.float32), np.zeros(4, np.float32)
    for _ in range(2):
        model.infer(x=x)
    run = model._runner.idle[0]
    before = run.bound
    assert model._runner._take({"x": other}, Overtaken(model._runner.idle)) is None
    run.run({"x": x})
    assert run.bound == before


def test_equal_dtypes_that_are_other_objects_are_bound_too(model):
    x = np.ones(4, np.dtype("f4", copy=True))
    assert x.dtype is not np.dtype("f4")
    for _ in range(3):
        model.infer(x=x)
    assert len(model._runner.idle) == 1


def test_shapes_take_turns(model):
    for size in (3, 5, 3, 5, 0, 5, 3, 0):
        x = np.arange(size, dtype=np.float32)
        np.testing.assert_array_equal(model.infer(x=x)["y"], x * 2)


def test_many_shapes_keep_few_runs(model):
    for size in range(1, 60):
        for _ in range(2):
            model.infer(x=np.ones(size, np.float32))
    assert len(model._runner.idle) <= 32


def test_a_data_dependent_shape_is_found_out_and_never_wrong():
    with graphs.load(graphs.NONZERO) as model:
        for bits in ([1, 0, 1], [1, 1, 1], [0, 0, 0], [0, 1, 0], [1, 1, 1]):
            got = model.infer(x=np.array(bits, np.int64))["y"]
            np.testing.assert_array_equal(got, np.nonzero(np.array(bits)))
        assert model._runner.data_dependent
        assert not model.explain()["io_binding"].effective


def test_shapes_that_were_doubted_are_forgotten_in_the_end(monkeypatch):
    monkeypatch.setattr(learned, "REMEMBERED_SHAPES", 3)
    shapes = LearnedShapes()
    for size in range(5):
        shapes.learn(((size,),), ((size,),))
        shapes.doubt(((size,),))
    assert list(shapes._doubted) == [((size,),) for size in (2, 3, 4)]
    shapes.clear()
    assert not shapes._doubted


def test_bad_data_is_not_taken_for_a_data_dependent_shape():
    with graphs.load(graphs.PICK) as model:
        x, good, bad = np.ones(4, np.float32), np.array([0], np.int64), np.array([9], np.int64)
        for _ in range(2):
            model.infer(x=x, i=good)
            with pytest.raises(Exception, match="at infer"):
                model.infer(x=x, i=bad)
            model.infer(x=x, i=good)
        assert not model._runner.data_dependent
        assert model.stats().bytes_in_use == 0


@pytest.mark.parametrize("warm", [0, 2])
def test_out_is_written_in_place(model, warm):
    x, y = np.ones(4, np.float32), np.empty(4, np.float32)
    for _ in range(warm):
        model.infer(x=x)
    assert model.infer({"x": x}, out={"y": y})["y"] is y
    assert (y == 2).all()
    assert (model.stats().bytes_copied_out == 0) == (warm > 0)


def test_out_may_be_strided_and_is_then_copied_and_counted(model):
    x, room = np.ones(4, np.float32), np.zeros(8, np.float32)
    for _ in range(2):
        model.infer(x=x)
    model.infer({"x": x}, out={"y": room[::2]})
    np.testing.assert_array_equal(room, [2, 0] * 4)
    assert model.stats().bytes_copied_out == 16


def test_out_may_overlap_an_input():
    with graphs.load(graphs.SUM_AND_GAP) as model:
        for _ in range(3):
            a, b = np.full(4, 5, np.float32), np.full(4, 3, np.float32)
            model.infer({"a": a, "b": b}, out={"total": a, "gap": b})
            assert (a == 8).all()
            assert (b == 2).all()


@pytest.mark.parametrize(
    ("out", "says"),
    [
        ({"z": np.ones(4, np.float32)}, "'z'"),
        ({"y": np.ones(4)}, "float32"),
        ({"y": [1.0] * 4}, "list"),
        ({"y": np.ones(5, np.float32)}, r"\(4,\), got \(5,\)"),
        ({"y": np.broadcast_to(np.float32(1), 4)}, "writable"),
        ([], "mapping"),
    ],
)
@pytest.mark.parametrize("warm", [0, 2])
def test_destinations_that_do_not_fit(model, out, says, warm):
    x = np.ones(4, np.float32)
    for _ in range(warm):
        model.infer(x=x)
    with pytest.raises(InputError, match=says):
        model.infer({"x": x}, out=out)
    assert (model.infer(x=x)["y"] == 2).all()
    assert model.stats().bytes_in_use == 0


def test_two_destinations_never_share_memory():
    with graphs.load(graphs.SUM_AND_GAP) as model:
        room = np.empty(6, np.float32)
        feeds = {"a": np.ones(4, np.float32), "b": np.ones(4, np.float32)}
        with pytest.raises(InputError, match="'total'"):
            model.infer(feeds, out={"total": room[:4], "gap": room[2:]})


def test_a_run_that_ends_after_close_does_not_keep_the_session(model):
    x = np.ones(4, np.float32)
    for _ in range(2):
        model.infer(x=x)
    runner = model._runner
    idle = runner.idle
    model.close()
    with pytest.raises(ClosedError, match="closed"):
        model.infer(x=x)
    assert runner.idle is not idle
    assert runner.session is None


def test_surplus_runs_that_other_threads_took_are_no_error(model):
    class Emptied(deque):
        def __len__(self):
            return READY_RUNS + 1

        def popleft(self):
            raise IndexError("pop from an empty deque")

    x = np.ones(4, np.float32)
    model.infer(x=x)
    run = model._runner._new_run({"x": x}, model._runner._learned)
    results = model._runner._run_bound(run, {"x": x}, None, None, Emptied())
    assert (results["y"] == 2).all()
