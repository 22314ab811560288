"""What a stream says: what passing the state by hand says, without copies, whatever other streams do."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import graphs
import numpy as np
import pytest
from summing import FIRST, SUMS, heard, ones

import omni_sdk as omni
from omni_sdk.stream import BOUND_SHAPES, CarriedStream, Stream


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


def test_results_are_never_written_again(model):
    with model.stream() as stream:
        held = [stream.step(x=ones(), i=FIRST)["y"] for _ in range(20)]
    assert [float(y[0, 0]) for y in held] == list(range(1, 21))


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


def test_constants_are_given_once(model):
    with model.stream(i=np.array([2])) as stream:
        for step in range(1, 6):
            assert stream.step(x=ones())["y"] == step
        with pytest.raises(omni.InputError):
            stream.step(x=ones(), i=FIRST)


def test_run_goes_through_chunks(model):
    with model.stream() as stream:
        chunks = ({"x": ones(value), "i": FIRST} for value in (1, 2, 3))
        assert [float(result["y"][0, 0]) for result in stream.run(chunks)] == [1, 3, 6]
        assert stream.flush() is None


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
