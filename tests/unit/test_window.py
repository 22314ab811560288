"""Windowed streams: exact where the window covers what a frame looks at, and told where it does not."""

from __future__ import annotations

import graphs
import numpy as np
import pytest

import omni_sdk as omni
from omni_sdk.window import WindowCheck

# Looks at 3 frames before and the frame itself, and gives two samples a frame.
CAUSAL = """g (float[1, 1, T] x) => (float[1, 1, S] y) <float[1, 1, 4] w = {1, 2, 3, 4}, float[1, 1, 2] up = {1, -1}> {
    c = Conv <pads = [3, 0]> (x, w)
    y = ConvTranspose <strides = [2]> (c, up)
}"""
# Looks at 2 frames on either side.
BOTH = """g (float[1, 1, T] x) => (float[1, 1, T] y) <float[1, 1, 5] w = {1, 2, 3, 4, 5}> {
    y = Conv <pads = [2, 2]> (x, w)
}"""
SCALED = "g (float[1, 1, T] x, float[1] k) => (float[1, 1, T] y, float[1, 1, T] z) { y = Mul (x, k)\n z = Neg (y) }"


@pytest.fixture(scope="module")
def causal():
    with graphs.load(CAUSAL, intra_op_num_threads=1) as model:
        yield model


@pytest.fixture(scope="module")
def both():
    with graphs.load(BOTH, intra_op_num_threads=1) as model:
        yield model


def signal(frames, seed=0):
    return np.random.default_rng(seed).integers(-9, 9, (1, 1, frames)).astype(np.float32)


def streamed(stream, x, sizes):
    """The whole output of a stream that `x` is given to in pieces of these sizes, over and over."""
    cuts, start = [], 0
    while start < x.shape[2]:
        size = sizes[len(cuts) % len(sizes)]
        cuts.append({"x": x[:, :, start : start + size]})
        start += size
    return np.concatenate([part["y"] for part in stream.run(cuts)], axis=2)


@pytest.mark.parametrize("sizes", [[1], [2], [7], [1, 5, 3], [40]])
@pytest.mark.parametrize("hop", [None, 1, 4, 100])
@pytest.mark.parametrize("left", [3, 5])
def test_enough_context_is_exact(causal, left, hop, sizes):
    x = signal(37)
    with causal.stream(window=omni.Window(left=left, hop=hop)) as stream:
        np.testing.assert_array_equal(streamed(stream, x, sizes), causal.infer(x=x)["y"])


@pytest.mark.parametrize("sizes", [[1], [2], [7], [1, 5, 3]])
@pytest.mark.parametrize("hop", [None, 1, 4])
def test_what_a_frame_sees_ahead_is_waited_for(both, hop, sizes):
    x = signal(29)
    with both.stream(window=omni.Window(left=2, right=2, hop=hop)) as stream:
        np.testing.assert_array_equal(streamed(stream, x, sizes), both.infer(x=x)["y"])


def test_the_output_lags_by_the_right_context_and_flush_gives_the_rest(both):
    x = signal(12)
    want = both.infer(x=x)["y"]
    with both.stream(window=omni.Window(left=2, right=2)) as stream:
        first = stream.step(x=x[:, :, :6])["y"]
        np.testing.assert_array_equal(first, want[:, :, :4])
        np.testing.assert_array_equal(stream.step(x=x[:, :, 6:])["y"], want[:, :, 4:10])
        np.testing.assert_array_equal(stream.flush()["y"], want[:, :, 10:])
        assert stream.flush() is None


def test_a_hop_holds_frames_back(causal):
    x = signal(10)
    want = causal.infer(x=x)["y"]
    with causal.stream(window=omni.Window(left=3, hop=4)) as stream:
        assert stream.step(x=x[:, :, :3])["y"].size == 0
        np.testing.assert_array_equal(stream.step(x=x[:, :, 3:5])["y"], want[:, :, :8])
        np.testing.assert_array_equal(stream.step(x=x[:, :, 5:])["y"], want[:, :, 8:16])
        np.testing.assert_array_equal(stream.flush()["y"], want[:, :, 16:])


@pytest.mark.parametrize(
    ("window", "equal"),
    [
        (omni.Window(left=3), True),
        (omni.Window(left=3, hop=2), True),
        (omni.Window(left=2), False),
        (omni.Window(left=0, hop=5), False),
    ],
)
def test_check_says_whether_the_window_is_enough(causal, window, equal):
    x = signal(31)
    with causal.stream(window=window) as stream:
        found = stream.check({"x": x}, frames=4)
    assert found.equal == equal
    assert (found.max_abs_error > 0) != equal
    assert (found.expected_samples, found.samples) == (62, 62)
    assert ("NOT" in str(found)) != equal


def test_check_says_so_of_the_right_context_too(both):
    with both.stream(window=omni.Window(left=2, right=1)) as stream:
        assert not stream.check({"x": signal(20)}, frames=3).equal
    with both.stream(window=omni.Window(left=2, right=2)) as stream:
        assert stream.check({"x": signal(20)}, frames=3).equal


def test_check_leaves_the_stream_where_it_was(causal):
    x = signal(20)
    want = causal.infer(x=x)["y"]
    with causal.stream(window=omni.Window(left=3)) as stream:
        stream.step(x=x[:, :, :9])
        stream.check({"x": signal(15, seed=4)})
        np.testing.assert_array_equal(stream.step(x=x[:, :, 9:])["y"], want[:, :, 18:])


def test_a_step_that_only_waits_gives_outputs_without_samples():
    halves = "g (float16[1, T] x) => (float16[1, T] y) { y = Neg (x) }"
    with graphs.load(halves, intra_op_num_threads=1) as model, model.stream(window=omni.Window(0, hop=4)) as stream:
        pieces = [stream.step(x=np.ones((1, 3), np.float16))["y"] for _ in range(5)]
        assert [piece.shape for piece in pieces] == [(1, 0), (1, 4), (1, 4), (1, 4), (1, 0)]
        assert {piece.dtype for piece in pieces} == {np.dtype(np.float16)}
        assert np.concatenate(pieces, axis=1).shape == (1, 12)


def test_a_snapshot_that_cannot_be_one_is_refused_and_harms_nothing(causal):
    x = signal(10)
    with causal.stream(window=omni.Window(left=3)) as stream:
        stream.step(x=x)
        before = stream.snapshot()
        junk = [
            {"frames": x, "counters": [1, 2]},
            {"frames": x, "counters": [10, 11, 0]},
            {"frames": x, "counters": [-1, 0, 0]},
            {"frames": x[:, :, :1], "counters": [10, 0, 0]},
            {"frames": x[0], "counters": [10, 10, 0]},
            {"frames": x, "counters": "abc"},
            {5: x},
            5,
        ]
        for snapshot in junk:
            with pytest.raises(omni.StreamError, match="at restore"):
                stream.restore(snapshot)
        assert all(np.array_equal(before[key], value) for key, value in stream.snapshot().items())
    with pytest.raises(omni.StreamError, match=r"closed one - at Stream\.restore"):
        stream.restore(before)


def test_what_a_window_refuses(causal):
    with causal.stream(window=omni.Window(3)) as stream, pytest.raises(omni.InputError, match="'x', which is missing"):
        stream.check({})
    with pytest.raises(omni.StreamError, match=r"closed one - at Stream\.flush"):
        stream.flush()
    stream = causal.stream(window=omni.Window(left=3, output_axis=5))
    with stream, pytest.raises(omni.StreamError, match=r"axis 5, got \(1, 1, .*'y' - at Window"):
        stream.step(x=signal(4))


@pytest.mark.parametrize("taken", [0, 1, 5, 9])
def test_a_snapshot_is_a_copy_to_go_on_from(causal, taken):
    x, window = signal(21), omni.Window(left=3, hop=2)
    with causal.stream(window=window) as stream, causal.stream(window=window) as other:
        streamed_so_far = [stream.step(x=x[:, :, :taken])["y"].reshape(1, 1, -1)] if taken else []
        snapshot = stream.snapshot()
        stream.step(x=signal(8, seed=5))
        other.step(x=signal(3, seed=6))
        for target in (other, stream):
            target.restore(snapshot)
            rest = streamed(target, x[:, :, taken:], [3])
            np.testing.assert_array_equal(np.concatenate([*streamed_so_far, rest], axis=2), causal.infer(x=x)["y"])
        with pytest.raises(omni.StreamError, match="snapshot, got h"):
            stream.restore({"h": x})


def test_reset_begins_again(causal):
    x = signal(15)
    with causal.stream(window=omni.Window(left=3)) as stream:
        stream.step(x=signal(9, seed=7))
        stream.reset()
        assert stream.snapshot() == {}
        np.testing.assert_array_equal(streamed(stream, x, [4]), causal.infer(x=x)["y"])


def test_a_step_that_fails_leaves_the_stream_as_it_was(causal, monkeypatch):
    x = signal(20)
    want = causal.infer(x=x)["y"]
    with causal.stream(window=omni.Window(left=3, hop=2)) as stream:
        stream.step(x=x[:, :, :5])
        with pytest.raises(omni.StreamError, match="the input 'x'"):
            stream.step(z=x)
        with pytest.raises(omni.InputError):
            stream.step(x=x.astype(np.float64))
        calls = []

        def failing(feeds):
            calls.append(feeds)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return causal.infer(feeds)

        with monkeypatch.context() as patch:
            patch.setattr(stream, "_infer", failing)
            with pytest.raises(KeyboardInterrupt):
                stream.step(x=x[:, :, 5:])
        assert len(calls) == 2
        np.testing.assert_array_equal(stream.step(x=x[:, :, 5:])["y"], want[:, :, 8:])


def test_other_inputs_are_constants_and_every_output_is_cut():
    with graphs.load(SCALED) as model:
        with model.stream(window=omni.Window(left=0), k=np.array([3], np.float32)) as stream:
            for seed in range(4):
                x = signal(5, seed)
                results = stream.step(x=x)
                np.testing.assert_array_equal(results["y"], 3 * x)
                np.testing.assert_array_equal(results["z"], -3 * x)
        with pytest.raises(omni.StreamError, match=r"one input to cut, got x, k(.|\n)*constants"):
            model.stream(window=omni.Window(left=0))
        with pytest.raises(omni.StreamError, match="one input"):
            model.stream(window=omni.Window(left=0, input="k"))


@pytest.mark.parametrize("k", ["nonsense", np.ones(2, np.float32), np.ones(1), None])
def test_constants_are_checked_before_the_first_step(k):
    with graphs.load(SCALED) as model, pytest.raises(omni.InputError, match="input 'k'"):
        model.stream(window=omni.Window(left=0), constants={"k": k})


TOLD = """g (float[T] x, int4[1] a, string[1] b, seq(float[1]) c) => (float[T] y, float[1] d, string[1] e) {
    y = Neg (x)
    d = Cast <to = 1> (a)
    e = Identity (b)
}"""


def test_constants_of_every_kind_are_the_streams_own():
    given = {"a": np.array([-8], np.int8), "b": np.array(["b"], object), "c": [np.ones(1, np.float32)]}
    window = omni.Window(left=0, ratio=1)
    with graphs.load(TOLD) as model:
        with pytest.raises(omni.InputError, match="strings, got float64 - at input 'b'"):
            model.stream(window=window, constants={**given, "b": np.ones(1)})
        with model.stream(window=window, constants=given) as stream:
            given["a"].fill(3)
            given["b"][0] = "changed"
            results = stream.step(x=np.ones(1, np.float32))
    assert (results["d"], results["e"]) == ([-8], ["b"])


def test_other_axes():
    with graphs.load("g (float[T, 2] x) => (float[T, 2] y) { y = Neg (x) }") as model:
        x = signal(14).reshape(7, 2)
        with model.stream(window=omni.Window(left=1, input_axis=0, output_axis=0)) as stream:
            parts = [stream.step(x=x[start : start + 3])["y"] for start in (0, 3, 6)]
        np.testing.assert_array_equal(np.concatenate(parts), -x)


def test_outputs_that_do_not_grow():
    text = "g (float[1, 1, T] x) => (float[1, 1, 1] y) { a = Constant <value_ints = [2]> ()\n y = ReduceSum (x, a) }"
    with graphs.load(text) as model, model.stream(window=omni.Window(left=1)) as stream:
        for _ in range(2):
            with pytest.raises(omni.StreamError, match=r"grow with the input(.|\n)*output_axis"):
                stream.step(x=signal(4))


@pytest.mark.parametrize(
    ("fields", "at"),
    [
        ({"left": -1}, "left"),
        ({"left": 1.5}, "left"),
        ({"left": 1, "right": -2}, "right"),
        ({"left": 1, "hop": 0}, "hop"),
        ({"left": 1, "ratio": 0}, "ratio"),
        ({"left": 1, "input_axis": "x"}, "input_axis"),
        ({"left": 1, "output_axis": 0.5}, "output_axis"),
    ],
)
def test_windows_that_cannot_be(fields, at):
    with pytest.raises(omni.StreamError, match=rf"at Window\.{at}"):
        omni.Window(**fields)


def test_a_check_of_another_length_is_not_equal():
    assert "of 5 samples" in str(WindowCheck(False, 0.0, 5, 3))


@pytest.mark.parametrize(
    "frames", [1.0, np.float32(1), [[1.0, 2.0]], np.ones((2, 2, 4, 4), np.float32), [[[1.0], [1.0, 2.0]]]]
)
def test_frames_that_cannot_be_cut(frames):
    with graphs.load(CAUSAL) as model, model.stream(window=omni.Window(left=3)) as stream:
        with pytest.raises(omni.InputError, match="input 'x'"):
            stream.step(x=frames)
        with pytest.raises(omni.InputError, match="input 'x'"):
            stream.check({"x": frames})
        assert stream.step(x=signal(4))["y"].shape == (1, 1, 8)


def test_frames_that_cannot_follow_those_before():
    text = "g (float[B, T] x) => (float[B, T] y) { y = Neg(x) }"
    with graphs.load(text) as model, model.stream(window=omni.Window(left=1)) as stream:
        stream.step(x=np.ones((2, 3), np.float32))
        with pytest.raises(omni.InputError, match=r"shape \(2, 1\), got \(3, 3\)"):
            stream.step(x=np.ones((3, 3), np.float32))
        assert stream.check({"x": np.ones((3, 3), np.float32)}).equal
        assert stream.step(x=np.ones((2, 2), np.float32))["y"].shape == (2, 2)


@pytest.mark.parametrize("axis", [1, -2])
def test_an_axis_that_frames_do_not_have(axis):
    with (
        graphs.load(graphs.DOUBLE) as model,
        model.stream(window=omni.Window(left=1, input_axis=axis)) as stream,
        pytest.raises(omni.InputError, match=f"along axis {axis}"),
    ):
        stream.step(x=np.ones(2, np.float32))
