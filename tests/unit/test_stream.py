"""Streams that carry state: exact, without copies, unharmed by failures, and independent of each other."""

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

import omni_sdk as omni
from omni_sdk import ranges
from omni_sdk.stream import BOUND_SHAPES, CarriedStream, Stream, _States

# A running sum, so that each step depends on all before it; `i` picks, and an index beyond the end fails the run.
SUMS = """g (float[B, 4] x, int64[1] i, float[B, 4] "past.h") => (float[B, 1] y, float[B, 4] "present.h") {
    "present.h" = Add (x, "past.h")
    y = Gather <axis = 1> ("present.h", i)
}"""
# State that grows with each step, as a key-value cache does.
GROWS = """g (float[1, T] x, float[1, P] "past.k") => (float[1, 1] y, float[1, Q] "present.k") {
    "present.k" = Concat <axis = 1> ("past.k", x)
    y = ReduceSum ("present.k")
}"""
TWO = """g (float[N] x, float[N] "past.a", float[N] "past.b")
    => (float[N] y, float[N] "present.a", float[N] "present.b") {
    "present.a" = Add (x, "past.a")
    "present.b" = Identity ("past.a")
    y = Sub ("present.a", "past.b")
}"""
FIRST = np.zeros(1, np.int64)


@pytest.fixture
def model():
    with graphs.load(SUMS, intra_op_num_threads=1) as model:
        yield model


def ones(value=1.0, batch=1):
    return np.full((batch, 4), value, np.float32)


def heard(stream, values):
    return [float(stream.step(x=ones(value), i=FIRST)["y"][0, 0]) for value in values]


def test_a_stream_is_what_passing_the_state_by_hand_is(model):
    rng = np.random.default_rng(0)
    state = np.zeros((2, 4), np.float32)
    with model.stream() as stream:
        for _ in range(12):
            x, i = rng.standard_normal((2, 4)).astype(np.float32), rng.integers(0, 4, 1)
            want = model.infer({"x": x, "i": i, "past.h": state})
            got = stream.step(x=x, i=i)
            assert got.keys() == {"y"}
            np.testing.assert_array_equal(got["y"], want["y"])
            np.testing.assert_array_equal(stream.snapshot()["past.h"], want["present.h"])
            state = want["present.h"]


def test_nothing_is_copied_and_nothing_allocated_anew(model):
    with model.stream() as stream:
        heard(stream, range(4))
        before = model.stats()
        heard(stream, range(50))
        after = model.stats()
    assert after.runs - before.runs == 50
    assert after.bytes_copied == 0
    assert (after.bytes_in_use, after.bytes_peak) == (before.bytes_in_use, before.bytes_peak)


def test_new_samples_that_never_lie_where_some_lay_are_copied_in_the_end_and_the_state_never():
    windows = [ones(value) for value in range(60)]
    with graphs.load(SUMS, intra_op_num_threads=1) as model, model.stream() as stream:
        for number, window in enumerate(windows):
            assert stream.step(x=window, i=FIRST)["y"][0, 0] == number * (number + 1) / 2
        # one step unbound, one that learns, then 16 that lie in places never seen before
        assert model.stats().bytes_copied == (60 - 2 - 16) * windows[0].nbytes


def test_the_state_swaps_between_two_buffers(model):
    with model.stream() as stream:
        places = []
        for _ in range(8):
            heard(stream, [1])
            places.append(stream._now.feeds["past.h"].ctypes.data)
    assert set(places[2::2]).isdisjoint(places[3::2])
    assert len(set(places[2:])) == 2


def test_results_are_never_written_again(model):
    with model.stream() as stream:
        held = [stream.step(x=ones(), i=FIRST)["y"] for _ in range(20)]
    assert [float(y[0, 0]) for y in held] == list(range(1, 21))


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


def test_a_state_that_grows():
    rng = np.random.default_rng(1)
    with graphs.load(GROWS) as model, model.stream() as stream:
        taken = np.zeros((1, 0), np.float32)
        for size in (3, 1, 1, 1, 5, 0, 2):
            x = rng.integers(-9, 9, (1, size)).astype(np.float32)
            taken = np.concatenate([taken, x], axis=1)
            assert stream.step(x=x)["y"] == taken.sum()
            np.testing.assert_array_equal(stream.snapshot()["past.k"], taken)
        assert model.stats().bytes_copied == 0


def test_two_states_keep_their_own():
    with graphs.load(TWO) as model, model.stream() as stream:
        got = [float(stream.step(x=np.full(3, value, np.float32))["y"][0]) for value in (1, 2, 4, 8, 16)]
    sums = [1, 3, 7, 15, 31]
    before_last = [0, 0, 1, 3, 7]
    assert got == [now - old for now, old in zip(sums, before_last, strict=True)]


def test_reset_begins_again(model):
    with model.stream() as stream:
        assert heard(stream, [1, 2, 3]) == [1, 3, 6]
        stream.reset()
        assert stream.snapshot() == {}
        assert heard(stream, [1, 2, 3]) == [1, 3, 6]


@pytest.mark.parametrize("steps", [0, 1, 2, 5])
def test_a_snapshot_is_a_copy_to_go_on_from_anywhere(model, steps):
    with model.stream() as stream, model.stream() as other:
        heard(stream, [1] * steps)
        snapshot = stream.snapshot()
        onward = heard(stream, [5, 6])
        heard(other, [100, 200, 300])
        for target in (other, stream):
            target.restore(snapshot)
            assert heard(target, [5, 6]) == onward
        assert all((array == steps).all() for array in snapshot.values())


def test_a_snapshot_of_another_kind(model):
    with model.stream() as stream:
        assert heard(stream, [1]) == [1]
        with pytest.raises(omni.StreamError, match=r"past\.h, got h"):
            stream.restore({"h": ones()})
        with pytest.raises(omni.InputError, match=r"past\.h"):
            stream.restore({"past.h": np.zeros((1, 5), np.float32)})
        for junk in (5, None, [ones()], {5: ones()}):
            with pytest.raises(omni.StreamError, match="at restore"):
                stream.restore(junk)
        assert heard(stream, [1]) == [2]
        snapshot = stream.snapshot()
    with pytest.raises(omni.StreamError, match=r"closed one - at Stream\.restore"):
        stream.restore(snapshot)


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


def test_what_a_stream_begins_with_is_its_own():
    mine, rate = np.full((1, 4), 5, np.float32), np.array([0], np.int64)
    with graphs.load(SUMS, intra_op_num_threads=1) as model, model.stream(initial={"past.h": mine}, i=rate) as stream:
        first = stream.step(x=ones())["y"]
        mine.fill(99)
        rate.fill(9)
        stream.reset()
        assert np.array_equal(stream.step(x=ones())["y"], first)


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


def test_interleaved_streams_do_not_hear_each_other(model):
    streams = [model.stream() for _ in range(5)]
    heard_by = [[] for _ in streams]
    rng = np.random.default_rng(2)
    for _ in range(200):
        number = int(rng.integers(0, 5))
        heard_by[number] += heard(streams[number], [number + 1])
    for number, values in enumerate(heard_by):
        assert values == [(number + 1) * step for step in range(1, len(values) + 1)]
        streams[number].close()
    assert model.stats().bytes_in_use == 0


def test_streams_on_threads_of_their_own(model):
    def work(number):
        with model.stream() as stream:
            return heard(stream, [number] * 300)

    with ThreadPoolExecutor(6) as threads:
        for number, values in enumerate(threads.map(work, range(6))):
            assert values == [number * step for step in range(1, 301)]
    assert model.stats().bytes_in_use == 0


def test_batches_take_turns_from_the_same_beginning(model):
    for batch in (1, 3, 2, 1):
        with model.stream() as stream:
            for step in range(1, 5):
                y = stream.step(x=ones(1, batch), i=FIRST)["y"]
                np.testing.assert_array_equal(y, np.full((batch, 1), step))


@pytest.mark.parametrize("steps", [1, 2, 3, 9])
def test_the_users_first_state_is_read_and_never_written(model, steps):
    mine = ones(10)
    with model.stream(initial={"past.h": mine}) as stream:
        for _ in range(2):
            assert heard(stream, [1] * steps) == [10 + step for step in range(1, steps + 1)]
            stream.reset()
    assert (mine == 10).all()


def test_a_first_state_that_cannot_be_bound_is_copied_once(model):
    mine = np.full((1, 8), 10, np.float32)[:, ::2]
    with model.stream(initial={"past.h": mine}) as stream:
        assert heard(stream, [1, 1, 1, 1]) == [11, 12, 13, 14]
    assert model.stats().bytes_copied_in == 16


def test_constants_are_given_once(model):
    with model.stream(i=np.array([2])) as stream:
        for step in range(1, 6):
            assert stream.step(x=ones())["y"] == step
        with pytest.raises(omni.InputError):
            stream.step(x=ones(), i=FIRST)


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


def test_a_pair_whose_shapes_part_is_told_and_the_stream_goes_on():
    text = """g (float[N] x, float[2] "past.h") => (float[N] y, float[M] "present.h") {
        y = Identity (x)
        "present.h" = Concat <axis = 0> (x, x)
    }"""
    with graphs.load(text) as model, model.stream() as stream:
        stream.step(x=np.ones(1, np.float32))
        for _ in range(3):
            with pytest.raises(omni.StreamError, match=r"past\.h.*\(6,\)(.|\n)*no pair"):
                stream.step(x=np.ones(3, np.float32))
        assert (stream.snapshot()["past.h"] == 1).all()
        stream.step(x=np.full(1, 2, np.float32))
        assert (stream.snapshot()["past.h"] == 2).all()


def test_run_goes_through_chunks(model):
    with model.stream() as stream:
        chunks = ({"x": ones(value), "i": FIRST} for value in (1, 2, 3))
        assert [float(result["y"][0, 0]) for result in stream.run(chunks)] == [1, 3, 6]
        assert stream.flush() is None


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


def test_in_a_steady_state_nothing_is_bound_anew(model):
    x = ones()
    with model.stream() as stream:
        for _ in range(6):
            stream.step(x=x, i=FIRST)
        (run,) = stream._bound.values()
        before = run.bound
        for _ in range(6):
            stream.step(x=x, i=FIRST)
        assert run.bound == before


SHORT_AT_FIRST = """g (float[N] x, int64[1] "past.steps") => (float[M] y, int64[1] "present.steps") {
    one = Constant <value: tensor = int64[1] {1}> ()
    end = Constant <value: tensor = int64[1] {1000}> ()
    begun = Min("past.steps", one)
    begin = Sub(one, begun)
    y = Slice(x, begin, end)
    "present.steps" = Add("past.steps", one)
}"""


def test_a_first_step_that_gives_less_is_learned_apart():
    with graphs.load(SHORT_AT_FIRST) as model, model.stream() as stream:
        for _ in range(3):
            sizes = [stream.step(x=np.ones(5, np.float32))["y"].size for _ in range(4)]
            assert sizes == [4, 5, 5, 5]
            stream.reset()
        assert not model._runner.data_dependent


def test_few_shapes_stay_bound():
    with graphs.load(SHORT_AT_FIRST) as model, model.stream() as stream:
        for size in (1, 2, 3, 4, 5, 3, 4, 5):
            for _ in range(3):
                stream.step(x=np.ones(size, np.float32))
        assert len(stream._bound) == BOUND_SHAPES == 2
        assert [shapes[0] for shapes in stream._bound] == [(4,), (5,)]


# State that gets shorter with each step.
SHRINKS = """g (float[1, 1] x, float[1, P] "past.k") => (float[1, 1] y, float[1, Q] "present.k") {
    one = Constant <value: tensor = int64[1] {1}> ()
    end = Constant <value: tensor = int64[1] {1000}> ()
    "present.k" = Slice ("past.k", one, end, one)
    total = ReduceSum ("past.k")
    y = Add (x, total)
}"""


def test_a_state_that_shrinks():
    first = {"past.k": np.arange(6, dtype=np.float32)[np.newaxis]}
    with graphs.load(SHRINKS) as model, model.stream(initial=first) as stream:
        for _ in range(3):
            found = [stream.step(x=np.ones((1, 1), np.float32))["y"].item() for _ in range(5)]
            assert found == [16, 16, 15, 13, 10]
            stream.reset()


def test_sets_of_buffers_are_alike_where_every_shape_is():
    def of(*sizes):
        return _States({}, {str(index): np.zeros((2, size)) for index, size in enumerate(sizes)}, ours=True)

    assert of(3, 4).alike(of(3, 4))
    assert not any(of(3, 4).alike(of(*other)) for other in ((3, 5), (3, 3), (2, 4), (4, 4)))


def test_seconds_of_each_step_are_recorded(model):
    with model.stream() as stream:
        heard(stream, range(5))
    assert len(model._caller.latencies) == 5
    assert all(0 < seconds < 0.9 for seconds in model._caller.latencies)


def test_only_a_whole_stream_can_be_made():
    assert Stream.__abstractmethods__ == {"reset", "snapshot", "_restore", "_step"}
    assert CarriedStream.__abstractmethods__ == {"reset", "snapshot", "_step", "_go_on_from"}


def test_steps_of_one_shape_go_the_quick_way(model, monkeypatch):
    careful = []
    with model.stream() as stream:
        monkeypatch.setattr(
            stream, "_careful_step", lambda feeds: careful.append(1) or type(stream)._careful_step(stream, feeds)
        )
        heard(stream, range(10))
        assert len(careful) == 3, "the first, the first to be learned, the first to be bound"
        assert stream.step(x=ones(), i=[0])["y"] == 46  # a list is made an array, with care
        assert len(careful) == 4


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
