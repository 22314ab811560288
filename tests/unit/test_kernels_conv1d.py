"""Conv1d, run by ONNX Runtime itself, against its formula in float64: every tile, shape, state, epilogue and thread."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from conv1d import Array, conv1d, conv1d64, conv1d_model, conv1d_session, snr
from hypothesis import given, settings
from hypothesis import strategies as st
from kernels import lengths_of_past, needs_shapes, options, parameters

from omni_sdk.tools.prepare.winograd import amplification, pack

PAIRS = [(kernel, tile) for tile in (1, 2, 4, 6) for kernel in range(1 if tile == 1 else 2, 12)]


def least_snr(kernel: int, tile: int) -> float:
    """What every layer keeps, in dB: 120 less the amplification of its transforms."""
    return 120.0 - (0.0 if tile == 1 else 10 * np.log10(amplification(tile, kernel)))


def made(
    rng: np.random.Generator, shape: tuple[int, int, int], out_channels: int, kernel: int
) -> tuple[dict[str, Array], Array]:
    """X of `shape`, and weights."""
    weight = rng.normal(size=(out_channels, shape[2], kernel)).astype(np.float32)
    return {"X": rng.normal(size=shape).astype(np.float32)}, weight


@pytest.mark.parametrize(("kernel", "tile"), PAIRS)
def test_every_kernel_and_tile(variant: str, kernel: int, tile: int) -> None:
    feeds, weight = made(np.random.default_rng(kernel), (2, 210, 19), 37, kernel)
    (y,) = conv1d(feeds, weight, tile=tile, dilation=2, pad_begin=3, pad_end=kernel)
    reference, _, _ = conv1d64(feeds, weight, dilation=2, pad_begin=3, pad_end=kernel)
    assert y.shape == reference.shape
    assert snr(reference, y) > least_snr(kernel, tile)


@settings(max_examples=60)
@given(
    pair=st.sampled_from(PAIRS),
    dilation=st.sampled_from([1, 2, 3, 9]),
    channels=st.integers(1, 70),
    out_channels=st.integers(1, 70),
    batch=st.integers(0, 3),
    time=st.one_of(st.integers(0, 40), st.integers(200, 900)),
    with_past=st.booleans(),
    extras=st.sets(st.sampled_from(["bias", "residual", "snake", "sum", "present"])),
    seed=st.integers(0, 99),
)
def test_against_the_formula(
    pair: tuple[int, int], dilation: int, channels: int, out_channels: int, batch: int, time: int, with_past: bool,
    extras: set[str], seed: int,
) -> None:  # fmt: skip
    kernel, tile = pair
    rng = np.random.default_rng(seed)
    span = (kernel - 1) * dilation
    feeds, weight = made(rng, (batch, time, channels), out_channels, kernel)
    pads = {"pad_begin": 0 if with_past else span, "pad_end": int(rng.integers(0, 3))}
    if with_past:
        feeds["past"] = rng.normal(size=(batch, span, channels)).astype(np.float32)
    if "bias" in extras:
        feeds["bias"] = rng.normal(size=out_channels).astype(np.float32)
    if "residual" in extras:
        feeds["residual"] = rng.normal(size=(batch, time + pads["pad_end"], out_channels)).astype(np.float32)
    if "snake" in extras:
        feeds |= parameters(rng, out_channels)
    outputs = ["Y", *(name if name in extras else "" for name in ("sum", "present"))]
    got = conv1d(feeds, weight, outputs, tile=tile, dilation=dilation, **pads)
    expected = conv1d64(feeds, weight, dilation=dilation, **pads)
    wanted = [reference for name, reference in zip(outputs, expected, strict=True) if name]
    for array, reference in zip(got, wanted, strict=True):
        assert array.shape == reference.shape
        assert not array.size or snr(reference, array) > least_snr(kernel, tile) - 14  # Snake has slope 3 at most here
    if "present" in extras:
        np.testing.assert_array_equal(got[-1], expected[2].astype(np.float32))


@pytest.mark.parametrize("tile", [1, 2, 4, 6])
@pytest.mark.parametrize(
    ("channels", "out_channels", "time"),
    [(96, 96, 1500), (400, 256, 300), (768, 16, 700), (33, 330, 130), (1000, 64, 1), (130, 64, 4)],
    ids=str,
)
def test_blocks_of_every_kind(variant: str, tile: int, channels: int, out_channels: int, time: int) -> None:
    """Long and short signals, stretches of channels, groups of panels."""
    rng = np.random.default_rng(1)
    feeds, weight = made(rng, (1, time, channels), out_channels, 7)
    feeds["bias"] = rng.normal(size=out_channels).astype(np.float32)
    (y,) = conv1d(feeds, weight, tile=tile, dilation=3, pad_begin=18)
    reference, _, _ = conv1d64(feeds, weight, dilation=3, pad_begin=18)
    assert snr(reference, y) > least_snr(7, tile)


@pytest.mark.parametrize(("kernel", "tile"), [(1, 1), (2, 1), (2, 4), (7, 1), (7, 4), (11, 6)])
@pytest.mark.parametrize("cuts", [(1, 2, 3, 0, 50, 144), (200,), (4,) * 50], ids=["uneven", "one", "fours"])
def test_a_stream_in_steps_is_the_whole(kernel: int, tile: int, cuts: tuple[int, ...]) -> None:
    """From a past of zeros, present handed on to the next step: what the whole gives, but for rounding."""
    rng = np.random.default_rng(3)
    feeds, weight = made(rng, (1, 200, 20), 24, kernel)
    feeds |= parameters(rng, 24)
    state = np.zeros((1, (kernel - 1) * 3, 20), np.float32)
    whole, end = conv1d({**feeds, "past": state}, weight, ["Y", "", "present"], tile=tile, dilation=3)
    model = conv1d_model({**feeds, "past": state}, weight, ["Y", "", "present"], tile=tile, dilation=3)
    session = conv1d_session(model)
    steps, at = [], 0
    for cut in cuts:
        y, state = session.run(None, {**feeds, "X": feeds["X"][:, at : at + cut], "past": state})
        steps.append(y)
        at += cut
    np.testing.assert_array_equal(state, end)
    assert snr(whole.astype(np.float64), np.concatenate(steps, axis=1)) > least_snr(kernel, tile) - 14


@pytest.mark.parametrize("pattern", [False, True], ids=["arena", "pattern"])
@pytest.mark.parametrize(("kernel", "tile", "dilation"), [(2, 1, 1), (3, 1, 2), (7, 4, 3)])
def test_a_past_may_be_shorter_than_what_is_looked_back_at(
    pattern: bool, kernel: int, tile: int, dilation: int
) -> None:
    """Also of no column at all, and whether or not ORT gives such a tensor memory.

    ORT plans memory by shape from a session's second run on, so all lengths take turns in one session.
    """
    rng = np.random.default_rng(9)
    feeds, weight = made(rng, (2, 30, 20), 24, kernel)
    span = (kernel - 1) * dilation
    pasts = [rng.normal(size=(2, length, 20)).astype(np.float32) for length in range(span + 1)]
    model = conv1d_model({**feeds, "past": pasts[0]}, weight, ["Y", "", "present"], tile=tile, dilation=dilation)
    # A past computed inside the graph: what a caller feeds has memory always.
    model.graph.node[0].input[2] = "joined"
    model.graph.node.insert(0, onnx.helper.make_node("Neg", ["past"], ["joined"]))
    settings = options(2)
    settings.enable_mem_pattern = pattern
    session = ort.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    for past in pasts * 3:
        for time in (30, max(span - past.shape[1], 1)):
            x = feeds["X"][:, :time]
            y, present = session.run(None, {"X": x, "past": past})
            expected, _, _ = conv1d64({"X": x, "past": -past}, weight, dilation=dilation)
            assert y.shape == expected.shape
            assert not y.size or snr(expected, y) > least_snr(kernel, tile)
            signal = np.concatenate([np.zeros((2, span, 20), np.float32), -past, x], axis=1)
            np.testing.assert_array_equal(present, signal[:, signal.shape[1] - span :])


@pytest.mark.parametrize("tile", [1, 2, 4, 6])
@pytest.mark.parametrize("kind", ["structured", "huge", "tiny", "constant"])
def test_other_signals_keep_the_error_bound(variant: str, kind: str, tile: int) -> None:
    """The bound holds against the sum of magnitudes, which cancellation does not shrink."""
    rng = np.random.default_rng(4)
    feeds, weight = made(rng, (1, 300, 64), 32, 7)
    time = np.arange(300)[:, None]
    feeds["X"] = {
        "structured": np.sin(0.01 * time * (1 + np.arange(64))) * np.exp(-time / 90),
        "huge": 1e4 * rng.normal(size=(300, 64)),
        "tiny": 1e-30 * rng.normal(size=(300, 64)),
        "constant": np.ones((300, 64)),
    }[kind].astype(np.float32)[None]
    (y,) = conv1d(feeds, weight, tile=tile, pad_begin=6)
    reference, _, _ = conv1d64(feeds, weight, pad_begin=6)
    magnitudes, _, _ = conv1d64({"X": np.abs(feeds["X"])}, np.abs(weight), pad_begin=6)
    error = np.sqrt(((y - reference) ** 2).mean())
    scale = np.sqrt((magnitudes**2).mean()) / np.sqrt(64 * 7)
    assert 20 * np.log10(scale / error) > least_snr(7, tile) - 14


@pytest.mark.parametrize("tile", [1, 2, 4, 6])
def test_denormal_inputs_count(variant: str, tile: int) -> None:
    """They give what they would in exact arithmetic, to within some spacings of the denormals."""
    rng = np.random.default_rng(5)
    feeds = {"X": (1e-40 * rng.normal(size=(1, 60, 8))).astype(np.float32)}
    weight = rng.normal(size=(8, 8, 7)).astype(np.float32)
    (y,) = conv1d(feeds, weight, tile=tile, pad_begin=6)
    reference, _, _ = conv1d64(feeds, weight, pad_begin=6)
    assert np.abs(reference).max() > 1e-40
    assert np.abs(y - reference).max() < 1.4e-45 * 8 * 7 * 40


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dilation", [1, 3])
@pytest.mark.parametrize("tile", [1, 2, 4, 6])
def test_nan_and_infinity_stay_within_their_tiles(variant: str, tile: int, dilation: int, bad: float) -> None:
    """Every output that reads the value is not finite; those of tiles that do not are as without it, bit for bit."""
    rng = np.random.default_rng(6)
    feeds, weight = made(rng, (1, 200, 5), 4, 7)
    attributes = {"tile": tile, "dilation": dilation, "pad_begin": 6 * dilation}
    (clean,) = conv1d(feeds, weight, **attributes)
    feeds["X"][0, 100, 2] = bad
    (y,) = conv1d(feeds, weight, **attributes)
    reads = {100 + j * dilation for j in range(7)}
    turn = tile * dilation
    tiles = {(t // turn, t % dilation) for t in reads}
    touched = np.array([(t // turn, t % dilation) in tiles for t in range(200)])
    assert not np.isfinite(y[0, sorted(reads)]).any()
    np.testing.assert_array_equal(y[0, ~touched], clean[0, ~touched])


@pytest.mark.parametrize("shape", [(1, 3000, 48), (2, 40, 200), (1, 1, 300), (5, 700, 9)], ids=str)
@pytest.mark.parametrize(("kernel", "tile"), [(1, 1), (7, 1), (7, 2), (7, 6)])
def test_threads_change_no_bit(kernel: int, tile: int, shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(7)
    feeds, weight = made(rng, shape, 150, kernel)
    feeds |= parameters(rng, 150)
    results = [conv1d(feeds, weight, threads=n, tile=tile, pad_begin=kernel - 1)[0] for n in (1, 2, 5)]
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


CHAIN = """
    <ir_version: 10, opset_import: ["": 20, "omni": 1]>
    g (float[1, t, 32] X, float[10, 2, 32, 16] W) => (float[1, t, 32] B, float[1, t, 32] Z, float[1, t, 32] Y) {
        A = Neg(X)
        B = omni.Conv1d<kernel = 7, tile = 4, out_channels = 32, pad_begin = 6>(X, W, , , A)
        E = Abs(B)
        C, D = omni.Conv1d<kernel = 7, tile = 4, out_channels = 32, pad_begin = 6>(X, W, , , E)
        Z = Sub(C, D)
        Y = omni.Conv1d<kernel = 7, tile = 4, out_channels = 32, pad_begin = 6>(C, W, , , Z)
    }
"""


def test_a_residual_may_be_overwritten_where_nobody_needs_it() -> None:
    """A and E give their memory to a result; B is an output and must keep its own."""
    rng = np.random.default_rng(8)
    feeds, weight = made(rng, (1, 500, 32), 32, 7)
    session = conv1d_session(onnx.parser.parse_model(CHAIN))
    b, z, y = session.run(None, {"X": feeds["X"], "W": pack(weight, 4)})
    convolved, _, _ = conv1d64(feeds, weight, pad_begin=6)
    again, _, _ = conv1d64({"X": convolved + np.abs(convolved - feeds["X"])}, weight, pad_begin=6)
    assert snr(convolved - feeds["X"], b) > least_snr(7, 4)
    np.testing.assert_array_equal(z, 0)
    assert snr(again, y) > least_snr(7, 4) - 14


@needs_shapes
@pytest.mark.parametrize("time", ["t", "9"])
def test_shapes_are_inferred(time: str) -> None:
    """By numbers where they are known, by name where no padding changes the length; ORT then warns of any other."""
    text = f"""
        <ir_version: 10, opset_import: ["": 20, "omni": 1]>
        g (float[n, {time}, 3] X, float[7, 1, 3, 16] W, float[n, 12, 3] P)
            => (float[a, b, c] Y, float[a2, b2, c2] present, float[a3, b3, c3] Z) {{
            Y, , present = omni.Conv1d<kernel = 7, dilation = 2, out_channels = 5>(X, W, P)
            Z = omni.Conv1d<kernel = 7, dilation = 2, out_channels = 5, pad_begin = 12, pad_end = 2>(X, W)
        }}"""
    model = onnx.parser.parse_model(text)
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    session = conv1d_session(model)
    shapes = [output.shape for output in session.get_outputs()]
    longer = "(t)+2" if time == "t" else 11
    kept = "t" if time == "t" else 9
    assert shapes == [["n", kept, 5], ["n", 12, 3], ["n", longer, 5]]


@needs_shapes
@lengths_of_past
def test_a_past_of_another_length_gives_another_shape(time: str, past: str, columns: object) -> None:
    text = f"""
        <ir_version: 10, opset_import: ["": 20, "omni": 1]>
        g (float[n, {time}, 3] X, float[7, 1, 3, 16] W, float[n, {past or "gone"}, 3] P) => (float[a, b, c] Y) {{
            Y = omni.Conv1d<kernel = 7, dilation = 2, out_channels = 5>(X, W, P)
        }}"""
    model = onnx.parser.parse_model(text)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    if not past:
        model.graph.input[2].type.tensor_type.shape.dim[1].ClearField("dim_param")
    (output,) = conv1d_session(model).get_outputs()
    assert output.shape == ([] if columns is None else ["n", columns, 5])


X = np.zeros((1, 8, 4), np.float32)
WEIGHT = np.zeros((6, 4, 3), np.float32)
SIX = np.ones(6, np.float32)


@pytest.mark.parametrize(
    ("feeds", "attributes", "message"),
    [
        ({"X": X[0]}, {}, r"Expected rank 3 \(batch, time, channels\), got shape \[8, 4\] - at omni::Conv1d, input X"),
        ({"X": X[:, :, :3]}, {}, r"Expected shape \[3, 1, 3, 16\], got \[3, 1, 4, 16\] - at omni::Conv1d, input W"),
        ({"X": X, "past": X[:, :3]}, {}, r"Expected shape \[1, at most 2, 4\], got \[1, 3, 4\] - at .* past"),
        ({"X": X, "past": X[:, :0, :3]}, {}, r"Expected shape \[1, at most 2, 4\], got \[1, 0, 3\] - at .* past"),
        ({"X": X, "past": X[:, :0]}, {"pad_begin": 2}, "Expected no padding at the beginning beside a past, got 2"),
        (
            {"X": X, "past": X[:, :2]},
            {"pad_begin": 2},
            "Expected no padding at the beginning beside a past, got 2 - at omni::Conv1d, attribute pad_begin",
        ),
        ({"X": X[:, :1]}, {}, "Expected at least 2 columns with their padding, got 1 - at omni::Conv1d, input X"),
        ({"X": X, "bias": SIX[:5]}, {}, r"Expected shape \[6\], got \[5\] - at omni::Conv1d, input bias"),
        (
            {"X": X, "residual": np.zeros((1, 8, 6), np.float32)},
            {},
            r"Expected shape \[1, 6, 6\], got \[1, 8, 6\] - at omni::Conv1d, input residual",
        ),
        (
            {"X": X, "inv_beta": SIX},
            {},
            "Expected alpha and inv_beta, got only one - at omni::Conv1d, input alpha",
        ),
        ({"X": X}, {"kernel": 12}, "Expected a value from 1 to 11, got 12 - at omni::Conv1d, attribute kernel"),
        ({"X": X}, {"kernel": None}, "Expected an integer, got none - at omni::Conv1d, attribute kernel"),
        ({"X": X}, {"out_channels": None}, "Expected an integer, got none - at omni::Conv1d, attribute out_channels"),
        ({"X": X}, {"tile": 3}, "Expected 1, 2, 4 or 6, got 3 - at omni::Conv1d, attribute tile"),
        (
            {"X": X},
            {"tile": 2, "kernel": 1},
            "Expected a tile of 1 for a kernel of 1, got 2 - at omni::Conv1d, attribute tile",
        ),
        ({"X": X}, {"dilation": 0}, "Expected a value from 1 to .*, got 0 - at omni::Conv1d, attribute dilation"),
    ],
)
def test_wrong_inputs_are_named(feeds: dict[str, Array], attributes: dict[str, int | None], message: str) -> None:
    model = conv1d_model({**feeds}, WEIGHT)
    (node,) = model.graph.node
    kept = [attribute for attribute in node.attribute if attribute.name not in attributes]
    del node.attribute[:]
    node.attribute.extend(kept)
    node.attribute.extend(
        onnx.helper.make_attribute(name, value) for name, value in attributes.items() if value is not None
    )
    with pytest.raises(Exception, match=message):
        conv1d_session(model).run(None, feeds)


def test_other_types_are_refused_at_load() -> None:
    model = conv1d_model({"X": X}, WEIGHT)
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    with pytest.raises(Exception, match="Conv1d"):
        conv1d_session(model)
