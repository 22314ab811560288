"""States of a stream: of every shape, swapped and never copied, given, taken and begun again."""

from __future__ import annotations

import graphs
import numpy as np
import pytest
from summing import SUMS, heard, ones

import omni_sdk as omni
from omni_sdk.stream import _States

# State that grows with each step, as a key-value cache does.
GROWS = """g (float[1, T] x, float[1, P] "past.k") => (float[1, 1] y, float[1, Q] "present.k") {
    "present.k" = Concat <axis = 1> ("past.k", x)
    y = ReduceSum ("present.k")
}"""
# State that gets shorter with each step.
SHRINKS = """g (float[1, 1] x, float[1, P] "past.k") => (float[1, 1] y, float[1, Q] "present.k") {
    one = Constant <value: tensor = int64[1] {1}> ()
    end = Constant <value: tensor = int64[1] {1000}> ()
    "present.k" = Slice ("past.k", one, end, one)
    total = ReduceSum ("past.k")
    y = Add (x, total)
}"""
TWO = """g (float[N] x, float[N] "past.a", float[N] "past.b")
    => (float[N] y, float[N] "present.a", float[N] "present.b") {
    "present.a" = Add (x, "past.a")
    "present.b" = Identity ("past.a")
    y = Sub ("present.a", "past.b")
}"""


def test_the_state_swaps_between_two_buffers(model):
    with model.stream() as stream:
        places = []
        for _ in range(8):
            heard(stream, [1])
            places.append(stream._now.feeds["past.h"].ctypes.data)
    assert set(places[2::2]).isdisjoint(places[3::2])
    assert len(set(places[2:])) == 2


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


def test_a_state_that_shrinks():
    first = {"past.k": np.arange(6, dtype=np.float32)[np.newaxis]}
    with graphs.load(SHRINKS) as model, model.stream(initial=first) as stream:
        for _ in range(3):
            found = [stream.step(x=np.ones((1, 1), np.float32))["y"].item() for _ in range(5)]
            assert found == [16, 16, 15, 13, 10]
            stream.reset()


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


def test_what_a_stream_begins_with_is_its_own():
    mine, rate = np.full((1, 4), 5, np.float32), np.array([0], np.int64)
    with graphs.load(SUMS, intra_op_num_threads=1) as model, model.stream(initial={"past.h": mine}, i=rate) as stream:
        first = stream.step(x=ones())["y"]
        mine.fill(99)
        rate.fill(9)
        stream.reset()
        assert np.array_equal(stream.step(x=ones())["y"], first)


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


def test_sets_of_buffers_are_alike_where_every_shape_is():
    def of(*sizes):
        return _States({}, {str(index): np.zeros((2, size)) for index, size in enumerate(sizes)}, ours=True)

    assert of(3, 4).alike(of(3, 4))
    assert not any(of(3, 4).alike(of(*other)) for other in ((3, 5), (3, 3), (2, 4), (4, 4)))
