"""Streams that are misused, broken off or closed: told so, unharmed, and with nothing left in use."""

from __future__ import annotations

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import graphs
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from summing import FIRST, SUMS, heard, ones

import omni_sdk as omni
from omni_sdk import ranges


@pytest.mark.parametrize("warm", [0, 1, 2, 3, 6])
def test_a_step_that_fails_leaves_the_stream_as_it_was(model, warm):
    with model.stream() as stream:
        heard(stream, [1] * warm)
        for _ in range(3):
            with pytest.raises(omni.ModelError, match="at infer"):
                stream.step(x=ones(7), i=np.array([9]))
            with pytest.raises(omni.InputError, match="dimension 1"):
                stream.step(x=np.ones((1, 5), np.float32), i=FIRST)
            with pytest.raises(omni.InputError, match="missing"):
                stream.step(x=ones(7))
        assert heard(stream, [1, 1, 1]) == [warm + 1, warm + 2, warm + 3]


def test_an_exception_from_outside_mid_step_leaves_the_stream_as_it_was(model, monkeypatch):
    interrupted, whole = False, ort.InferenceSession.run_with_iobinding

    def run(session, binding, options=None):
        whole(session, binding, options)
        if interrupted:
            raise KeyboardInterrupt

    monkeypatch.setattr(ort.InferenceSession, "run_with_iobinding", run)
    with model.stream() as stream:
        heard(stream, [1] * 4)
        interrupted = True
        for _ in range(3):
            with pytest.raises(KeyboardInterrupt):
                stream.step(x=ones(50), i=FIRST)
        interrupted = False
        assert heard(stream, [1, 1, 1]) == [5, 6, 7]


def test_one_thread_at_a_time(model, monkeypatch):
    inside, leave = threading.Event(), threading.Event()
    with model.stream() as stream, ThreadPoolExecutor(1) as thread:
        heard(stream, [1])
        whole = stream._step

        def slow(feeds):
            inside.set()
            leave.wait(20)
            return whole(feeds)

        monkeypatch.setattr(stream, "_step", slow)
        first = thread.submit(stream.step, x=ones(), i=FIRST)
        inside.wait(20)
        with pytest.raises(omni.StreamError, match=r"one thread at a time(.|\n)*one stream for each"):
            stream.step(x=ones(), i=FIRST)
        leave.set()
        assert first.result(20)["y"] == 2
        monkeypatch.undo()
        assert heard(stream, [1]) == [3]


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({"z": FIRST}, omni.InputError, r"an input \(x, i, past\.h\), got 'z'"),
        ({"a": FIRST}, omni.InputError, r"an input \(x, i, past\.h\), got 'a'"),
        ({"past.h": ones()}, omni.InputError, "initial="),
        ({"i": np.zeros(2, np.int64)}, omni.InputError, "'i'"),
        ({"initial": {"past.h": np.zeros((1, 5), np.float32)}}, omni.InputError, "past.h"),
        ({"state": {"past.h": "y"}}, omni.StreamError, "like past.h"),
        ({"state": {"past.h": "present.h"}, "window": omni.Window(left=1)}, omni.StreamError, "got both"),
    ],
)
def test_streams_that_cannot_be_opened(model, given, error, says):
    with pytest.raises(error, match=says):
        model.stream(**given)


@pytest.mark.parametrize("warm", [0, 3])
def test_the_state_is_not_a_feed(model, warm):
    with model.stream() as stream:
        heard(stream, [1] * warm)
        with pytest.raises(omni.InputError, match=r"past\.h"):
            stream.step({"x": ones(), "i": FIRST, "past.h": ones(99)})
        with pytest.raises(omni.InputError):
            stream.step({"x": ones(), "past.h": ones(99)})
        assert heard(stream, [1]) == [warm + 1]


def test_a_model_without_state_and_one_in_doubt():
    with graphs.load(graphs.DOUBLE) as model, pytest.raises(omni.StreamError, match="window="):
        model.stream()
    doubtful = SUMS.replace("=> (float[B, 1] y,", '=> (float[B, 1] y, float[B, 4] "next.h",').replace(
        "y = Gather", '"next.h" = Neg (x)\n y = Gather'
    )
    with graphs.load(doubtful) as model:
        with pytest.raises(omni.StreamError, match=r"present\.h(.|\n)*state="):
            model.stream()
        with model.stream(state={"past.h": "present.h"}) as stream:
            assert heard(stream, [1, 1]) == [1, 2]


def test_codes_out_of_range_are_told_at_any_step():
    proto = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["": 20]> g (int64[1] code, int64[1] "past.h")
        => (int64[1] y, int64[1] "present.h") { y = Add(code, "past.h")\n "present.h" = Identity(y) }"""
    )
    onnx.helper.set_model_props(proto, dict([ranges.entry("code", 0, 4)]))
    with omni.load(proto.SerializeToString(), cache_dir=None) as model, model.stream() as stream:
        for step in range(1, 6):
            assert stream.step(code=np.array([1]))["y"] == step
            with pytest.raises(omni.InputError, match="Expected values from 0 to 4, got 5"):
                stream.step(code=np.array([5]))
        assert stream.step(code=[1])["y"] == 6


def test_closing_gives_the_memory_back(model):
    with model.stream() as first:  # its buffers are ONNX Runtime's own
        heard(first, range(5))
    stream = model.stream()
    heard(stream, range(5))
    assert model.stats().bytes_in_use > 0
    stream.close()
    stream.close()
    assert model.stats().bytes_in_use == 0
    with pytest.raises(omni.StreamError, match="closed"):
        heard(stream, [1])


def test_a_model_closed_under_its_stream(model):
    stream = model.stream()
    heard(stream, [1, 1, 1])
    model.close()
    with pytest.raises(omni.ClosedError):
        heard(stream, [1])
    stream.close()


def test_closing_the_model_frees_the_session_under_its_streams(model):
    stream, other = model.stream(), model.stream()
    heard(stream, [1, 1, 1])
    session = weakref.ref(model._runner.session)
    model.close()
    gc.collect()
    assert session() is None
    for one in (stream, other):
        with pytest.raises(omni.ClosedError):
            heard(one, [1])
    assert (stream.snapshot()["past.h"] == 3).all()


@pytest.mark.parametrize("careful", [False, True])
def test_a_step_under_way_ends_when_the_model_is_closed(model, monkeypatch, careful):
    """Be it on a run that was bound before, or on one that is bound as the model is being closed."""
    stream = model.stream()
    heard(stream, [1, 1] if careful else [1, 1, 1])
    session, whole = weakref.ref(model._runner.session), stream._turn
    monkeypatch.setattr(stream, "_turn", lambda run, feeds, now: model.close() or whole(run, feeds, now))
    if careful:
        bound, made = model._runner.bound_later_step, []

        def late(feeds):
            made.append(bound(feeds))
            model.close()
            return made.pop()

        monkeypatch.setattr(model._runner, "bound_later_step", late)
    assert heard(stream, [1]) == [3 if careful else 4]
    monkeypatch.undo()
    gc.collect()
    assert session() is None


def test_closing_calls_back(model):
    called = []
    stream = model.stream()
    stream.on_close(lambda: called.append("closed"))
    with stream:
        assert called == []
    assert called == ["closed"]
