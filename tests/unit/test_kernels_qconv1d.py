"""QConv1d, run by ONNX Runtime itself, against its formula: every kernel, shape, state, epilogue, output and thread."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernels import Array, parameters, supported_variants
from onnx import helper
from qconv1d import (
    OUTPUTS,
    check_formula,
    fed,
    layer,
    output_bytes,
    past_of,
    present32,
    qconv1d,
    qconv1d_model,
    qconv1d_session,
    sums64,
)

from omni_sdk.tools.prepare.rules.qconv1d_node import offset_of, pack_bytes

FEW = [("Y",), ("sum",), ("present",), ("bytes",), ("Y", "bytes"), ("sum", "present", "bytes")]
SEVERAL = [names for count in (1, 2, 3, 4) for names in combinations(OUTPUTS, count)]


def same(a: dict[str, Array], b: dict[str, Array]) -> None:
    """Bit for bit, what both have."""
    for name in a.keys() & b.keys():
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_weights_are_packed_in_words_of_four_channels() -> None:
    weight = np.arange(-60, 60).reshape(5, 8, 3).astype(np.int8)
    packed = pack_bytes(weight)
    assert packed.shape == (3, 1, 2, 64)
    for m, c, j in np.ndindex(weight.shape):
        assert packed[j, 0, c // 4, 4 * m + c % 4] == weight[m, c, j]
    assert not packed[:, :, :, 20:].any()


@pytest.mark.parametrize("kernel", range(1, 12))
def test_every_kernel_sums_exactly(variant: str, kernel: int) -> None:
    """By a multiplier that is a power of two: no float rounds."""
    feeds, weight = layer(np.random.default_rng(kernel), (2, 90, 20), 37, kernel)
    feeds["multiplier"] = np.full(37, 0.25, np.float32)
    attributes = {"dilation": 2, "pad_begin": 3, "pad_end": kernel + 1}
    (y,) = qconv1d(feeds, weight, **attributes).values()
    sums = sums64(feeds, weight, **attributes)
    assert np.abs(sums).max() < 2**24
    np.testing.assert_array_equal(y, sums / 4)


@settings(max_examples=80)
@given(
    name=st.sampled_from(supported_variants()),
    kernel=st.integers(1, 11),
    dilation=st.sampled_from([1, 2, 3, 9]),
    words=st.one_of(st.integers(0, 9), st.sampled_from([24, 193])),
    out_channels=st.one_of(st.integers(1, 70), st.sampled_from([80, 96, 128, 200])),
    batch=st.integers(0, 3),
    time=st.one_of(st.integers(0, 40), st.integers(100, 400)),
    past=st.one_of(st.none(), st.floats(0, 1)),
    extras=st.sets(st.sampled_from(["residual", "snake"])),
    outputs=st.sampled_from(SEVERAL),
    seed=st.integers(0, 99),
)
def test_against_the_formula(
    name: str, kernel: int, dilation: int, words: int, out_channels: int, batch: int, time: int, past: float | None,
    extras: set[str], outputs: tuple[str, ...], seed: int,
) -> None:  # fmt: skip
    rng = np.random.default_rng(seed)
    span = (kernel - 1) * dilation
    feeds, weight = layer(rng, (batch, time, 4 * words), out_channels, kernel)
    length = span if past is None else round(past * span)
    columns = max(time + length + int(rng.integers(0, 3)) - span, 0)
    attributes = {"pad_begin": 0 if past is not None else span, "pad_end": columns + span - time - length}
    if past is not None:
        feeds["past"] = past_of(rng, feeds, length)
    if "residual" in extras:
        feeds["residual"] = rng.normal(size=(batch, columns, out_channels)).astype(np.float32)
    if "snake" in extras:
        feeds |= parameters(rng, out_channels)
    feeds |= output_bytes(rng)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMNI_SDK_KERNELS", name)
        got = qconv1d(feeds, weight, outputs, dilation=dilation, **attributes)
    check_formula(got, feeds, weight, dilation=dilation, **attributes)


@pytest.mark.parametrize("with_residual", [False, True], ids=["alone", "residual"])
@pytest.mark.parametrize(
    ("channels", "out_channels", "time"),
    [(96, 96, 400), (772, 40, 150), (4, 784, 140), (20, 96, 100), (100, 368, 5), (772, 330, 1), (4, 1, 900)],
    ids=str,
)
def test_blocks_of_every_kind(variant: str, channels: int, out_channels: int, time: int, with_residual: bool) -> None:
    """Long and short signals, stretches of channels, groups of panels, rows finished together or each alone."""
    rng = np.random.default_rng(1)
    feeds, weight = layer(rng, (1, time, channels), out_channels, 7)
    feeds |= parameters(rng, out_channels) | output_bytes(rng)
    if with_residual:
        feeds["residual"] = rng.normal(size=(1, time, out_channels)).astype(np.float32)
    attributes = {"dilation": 3, "pad_begin": 18}
    whole = qconv1d(feeds, weight, OUTPUTS, **attributes)
    check_formula(whole, feeds, weight, **attributes)
    same(whole, qconv1d(feeds, weight, ["bytes"], **attributes))


@pytest.mark.parametrize("extra", ["", "residual", "snake"])
@pytest.mark.parametrize(("out_channels", "time"), [(24, 150), (96, 60)])
def test_outputs_that_are_left_out_change_no_bit(variant: str, extra: str, out_channels: int, time: int) -> None:
    rng = np.random.default_rng(2)
    feeds, weight = layer(rng, (2, time, 8), out_channels, 3)
    feeds |= output_bytes(rng) | {"past": past_of(rng, feeds, 2)}
    if extra == "residual":
        feeds["residual"] = rng.normal(size=(2, time, out_channels)).astype(np.float32)
    if extra == "snake":
        feeds |= parameters(rng, out_channels)
    whole = qconv1d(feeds, weight, OUTPUTS)
    check_formula(whole, feeds, weight)
    for outputs in FEW:
        same(whole, qconv1d(feeds, weight, outputs))


@pytest.mark.parametrize("byte", [0, 255])
@pytest.mark.parametrize("extreme", [-128, 127])
@pytest.mark.parametrize(("channels", "out_channels", "time"), [(772, 20, 40), (4, 32, 200)])
def test_extreme_bytes_do_not_saturate(
    variant: str, extreme: int, byte: int, channels: int, out_channels: int, time: int
) -> None:
    """Offsets take all but a small number from the largest sums there are, so that floats hold the rest exactly."""
    feeds, _ = layer(np.random.default_rng(3), (1, time, channels), out_channels, 11)
    weight = np.full((out_channels, channels, 11), extreme, np.int8)
    small = np.arange(out_channels) - 7
    feeds["X"] = np.full_like(feeds["X"], 255)
    feeds["x_zero_point"] = np.asarray(np.uint8(byte))
    feeds["offset"] = (small - 255 * extreme * channels * 11).astype(np.int32)
    feeds["multiplier"] = np.ones(out_channels, np.float32)
    (y,) = qconv1d(feeds, weight, pad_begin=10).values()
    np.testing.assert_array_equal(y[0, 10:], np.broadcast_to(small, (time - 10, out_channels)))
    sums = sums64(feeds, weight, pad_begin=10)
    np.testing.assert_array_equal(y, sums.astype(np.float32))
    assert (sums[0, 0] == small - (255 - byte) * extreme * channels * 10).all()


@pytest.mark.parametrize("total", [2**31 - 1, -(2**31)])
def test_sums_may_take_all_of_32_bits(variant: str, total: int) -> None:
    feeds, weight = layer(np.random.default_rng(4), (1, 20, 8), 5, 2)
    feeds["X"][:], weight[:] = 255, 127 if total > 0 else -128
    feeds["offset"][:] = total - int(weight[0].astype(np.int64).sum()) * 255
    feeds["multiplier"][:] = 1
    (y,) = qconv1d(feeds, weight).values()
    np.testing.assert_array_equal(y, np.full((1, 19, 5), np.float32(total)))


@pytest.mark.parametrize("zero", [0, 3, 255])
def test_padding_is_the_zero_point(variant: str, zero: int) -> None:
    """Which an offset of `offset_of` takes back: as if zeros stood around a signal of floats; or in a past."""
    rng = np.random.default_rng(5)
    feeds, weight = layer(rng, (2, 40, 12), 24, 5)
    feeds["x_zero_point"] = np.asarray(np.uint8(zero))
    bias = rng.normal(size=24).astype(np.float32)
    feeds["multiplier"] = np.full(24, 2.0**-12, np.float32)
    offset = offset_of(weight, zero, bias, feeds["multiplier"])
    assert offset is not None
    feeds["offset"] = offset
    padded = qconv1d(feeds, weight, pad_begin=4, pad_end=2)
    x = np.pad(feeds["X"].astype(np.float64) - zero, ((0, 0), (4, 2), (0, 0)))
    expected = sum(x[:, j : j + 42] @ weight[:, :, j].T.astype(np.float64) for j in range(5))
    np.testing.assert_array_equal(padded["Y"], (expected + np.rint(bias * 2.0**12)) / 2.0**12)
    feeds["past"] = np.zeros((2, 4, 12), np.float32)
    same(padded, qconv1d(feeds, weight, pad_end=2))


@pytest.mark.parametrize("out_channels", [24, 96])
@pytest.mark.parametrize("kernel", [1, 2, 7])
@pytest.mark.parametrize("cuts", [(1, 2, 3, 0, 50, 144), (200,), (4,) * 50], ids=["uneven", "one", "fours"])
def test_a_stream_in_steps_is_the_whole(kernel: int, cuts: tuple[int, ...], out_channels: int) -> None:
    """From a past of zeros, present handed on to the next step: bit for bit, because the sums are exact."""
    rng = np.random.default_rng(6)
    feeds, weight = layer(rng, (1, 200, 20), out_channels, kernel)
    feeds |= parameters(rng, out_channels) | output_bytes(rng)
    feeds["past"] = np.zeros((1, (kernel - 1) * 3, 20), np.float32)
    whole = qconv1d(feeds, weight, OUTPUTS, dilation=3)
    check_formula(whole, feeds, weight, dilation=3)
    session = qconv1d_session(qconv1d_model(feeds, weight, OUTPUTS, dilation=3))
    steps: list[dict[str, Array]] = []
    at, state = 0, feeds["past"]
    for cut in cuts:
        step = {**fed(feeds), "X": feeds["X"][:, at : at + cut], "past": state}
        steps.append(dict(zip(OUTPUTS, session.run(list(OUTPUTS), step), strict=True)))
        state = steps[-1]["present"]
        at += cut
    np.testing.assert_array_equal(state, whole["present"])
    for name in ("Y", "sum", "bytes"):
        np.testing.assert_array_equal(np.concatenate([step[name] for step in steps], axis=1), whole[name])


@pytest.mark.parametrize("pattern", [False, True], ids=["arena", "pattern"])
@pytest.mark.parametrize(("kernel", "dilation"), [(2, 1), (3, 2), (7, 3)])
def test_a_past_may_be_shorter_than_what_is_looked_back_at(pattern: bool, kernel: int, dilation: int) -> None:
    """Also of no column at all, and whether or not ORT gives such a tensor memory.

    ORT plans memory by shape from a session's second run on, so all lengths take turns in one session.
    """
    rng = np.random.default_rng(7)
    feeds, weight = layer(rng, (2, 30, 20), 24, kernel)
    feeds |= output_bytes(rng)
    span = (kernel - 1) * dilation
    pasts = [past_of(rng, feeds, length) for length in range(span + 1)]
    asked = ["Y", "present", "bytes"]
    model = qconv1d_model({**feeds, "past": pasts[0]}, weight, asked, dilation=dilation)
    # A past computed inside the graph: what a caller feeds has memory always.
    model.graph.node[0].input[6] = "joined"
    model.graph.node.insert(0, helper.make_node("Neg", ["past"], ["joined"]))
    session = qconv1d_session(model, pattern=pattern)
    for past in pasts * 3:
        for time in (30, max(span - past.shape[1], 1)):
            x = feeds["X"][:, :time]
            got = session.run(asked, {**fed(feeds), "X": x, "past": -past})
            check_formula(
                dict(zip(asked, got, strict=True)), {**feeds, "X": x, "past": past}, weight, dilation=dilation
            )


@pytest.mark.parametrize("time", [0, 1, 5, 12, 40])
def test_past_and_present_may_be_one_memory(time: int) -> None:
    rng = np.random.default_rng(8)
    feeds, weight = layer(rng, (3, time, 8), 24, 5)
    feeds["past"] = past_of(rng, feeds, 12)
    expected = qconv1d(feeds, weight, ["Y", "present"], dilation=3)
    session = qconv1d_session(qconv1d_model(feeds, weight, ["Y", "present"], dilation=3))
    state = ort.OrtValue.ortvalue_from_numpy(feeds["past"].copy())
    binding = session.io_binding()
    for name, array in fed(feeds).items():
        if name != "past":
            binding.bind_cpu_input(name, array)
    binding.bind_ortvalue_input("past", state)
    binding.bind_ortvalue_output("present", state)
    binding.bind_output("Y")
    session.run_with_iobinding(binding)
    np.testing.assert_array_equal(binding.copy_outputs_to_cpu()[1], expected["Y"])
    np.testing.assert_array_equal(state.numpy(), present32(feeds, 12))
    np.testing.assert_array_equal(state.numpy(), expected["present"])


def test_present_keeps_the_floats_of_the_past(variant: str) -> None:
    """Zeros before them where there are fewer than a state holds, and rows of X behind, dequantized."""
    rng = np.random.default_rng(9)
    feeds, weight = layer(rng, (2, 3, 8), 5, 4)
    feeds["past"] = past_of(rng, feeds, 4)
    (present,) = qconv1d(feeds, weight, ["present"], dilation=3, pad_end=2).values()
    x = (feeds["X"] - feeds["x_zero_point"].astype(np.float32)) * feeds["x_scale"]
    np.testing.assert_array_equal(present, np.concatenate([np.zeros((2, 2, 8)), feeds["past"], x], axis=1))


@pytest.mark.parametrize("extra", ["", "snake"])
@pytest.mark.parametrize("shape", [(1, 400, 48), (2, 40, 100), (1, 1, 300)], ids=str)
@pytest.mark.parametrize(("kernel", "out_channels"), [(1, 150), (7, 150), (3, 96)])
def test_threads_change_no_bit(kernel: int, out_channels: int, shape: tuple[int, int, int], extra: str) -> None:
    rng = np.random.default_rng(10)
    feeds, weight = layer(rng, shape, out_channels, kernel)
    feeds |= output_bytes(rng) | (parameters(rng, out_channels) if extra else {})
    results = [qconv1d(feeds, weight, OUTPUTS, threads=n, pad_begin=kernel - 1) for n in (1, 2, 5)]
    check_formula(results[0], feeds, weight, pad_begin=kernel - 1)
    same(results[0], results[1])
    same(results[0], results[2])


def test_rows_and_weights_may_begin_at_any_byte(variant: str) -> None:
    rng = np.random.default_rng(11)
    feeds, weight = layer(rng, (1, 50, 12), 20, 3)
    aligned = qconv1d(feeds, weight)
    for begin in (1, 2, 3):
        room = np.zeros(feeds["X"].size + begin, np.uint8)
        room[begin:] = feeds["X"].ravel()
        same(aligned, qconv1d({**feeds, "X": room[begin:].reshape(feeds["X"].shape)}, weight))


@pytest.mark.parametrize("zero", [0, 100, 255])
def test_bytes_of_any_float(variant: str, zero: int) -> None:
    """Out of range the nearest end, NaN the lower end, halves to even."""
    values = np.array([np.nan, -np.inf, np.inf, -1e30, 1e30, -0.5, 0.5, 1.5, 2.5, -1.5, 254.5, 0.0], np.float32)
    feeds, weight = layer(np.random.default_rng(12), (1, len(values), 4), 1, 1)
    weight[:] = 0
    feeds["offset"][:] = 0
    feeds |= {"residual": values.reshape(1, -1, 1), "y_scale": np.asarray(np.float32(1))}
    feeds["y_zero_point"] = np.asarray(np.uint8(zero))
    (got,) = qconv1d(feeds, weight, ["bytes"]).values()
    lowest = np.where(np.isnan(values), -np.inf, values)
    np.testing.assert_array_equal(got.ravel(), np.clip(np.rint(lowest) + zero, 0, 255))


def test_scales_may_have_one_axis_and_zero_points_too() -> None:
    rng = np.random.default_rng(13)
    feeds, weight = layer(rng, (1, 9, 4), 5, 2)
    feeds |= output_bytes(rng)
    scalars = ("x_scale", "x_zero_point", "y_scale", "y_zero_point")
    same(
        qconv1d(feeds, weight, ["bytes"]),
        qconv1d({**feeds, **{name: feeds[name].reshape(1) for name in scalars}}, weight, ["bytes"]),
    )


CHAIN = """
    <ir_version: 10, opset_import: ["": 20, "omni": 1]>
    g (uint8[1, t, 32] X, float[1, t, 32] R, float x_scale, uint8 x_zero_point, int8[7, 2, 8, 64] W, int32[32] offset,
       float[32] multiplier, float[32] alpha, float[32] inv_beta)
        => (float[1, t, 32] B, float[1, t, 32] Z, float[1, t, 32] Y, float[1, t, 32] S) {
        A = Neg(R)
        B = omni.QConv1d<kernel = 7, out_channels = 32, pad_begin = 6>
            (X, x_scale, x_zero_point, W, offset, multiplier, , A)
        E = Neg(B)
        C, D = omni.QConv1d<kernel = 7, out_channels = 32, pad_begin = 6>
            (X, x_scale, x_zero_point, W, offset, multiplier, , E)
        Z = Sub(C, D)
        F = Neg(C)
        Y, S = omni.QConv1d<kernel = 7, out_channels = 32, pad_begin = 6>
            (X, x_scale, x_zero_point, W, offset, multiplier, , F, alpha, inv_beta)
    }
"""


@pytest.mark.parametrize("time", [60, 500])
def test_a_residual_may_be_overwritten_where_nobody_needs_it(time: int) -> None:
    """A, E and F give their memory to a result; B is an output and must keep its own."""
    rng = np.random.default_rng(14)
    feeds, weight = layer(rng, (1, time, 32), 32, 7)
    residual, snake = rng.normal(size=(1, time, 32)).astype(np.float32), parameters(rng, 32)
    session = qconv1d_session(onnx.parser.parse_model(CHAIN))
    b, z, y, total = session.run(None, {**feeds, **snake, "R": residual, "W": pack_bytes(weight)})
    check_formula({"Y": b}, {**feeds, "residual": -residual}, weight, pad_begin=6)
    (c,) = qconv1d({**feeds, "residual": -b}, weight, pad_begin=6).values()
    np.testing.assert_array_equal(z, 0)
    check_formula({"Y": y, "sum": total}, {**feeds, **snake, "residual": -c}, weight, pad_begin=6)


def shapes_of(nodes: str, *, time: str, past: str, outputs: str) -> dict[str, list[object]]:
    """Of the outputs of some nodes over X and a past P, as ORT infers them."""
    unknown = not past
    text = f"""
        <ir_version: 10, opset_import: ["": 20, "omni": 1]>
        g (uint8[n, {time}, 4] X, float s, uint8 z, int8[7, 1, 1, 64] W, int32[5] O, float[5] M,
           float[n, {past or "gone"}, 4] P) => ({outputs}) {{ {nodes} }}"""
    model = onnx.parser.parse_model(text)
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    if unknown:
        model.graph.input[6].type.tensor_type.shape.dim[1].ClearField("dim_param")
    return {output.name: output.shape for output in qconv1d_session(model).get_outputs()}


@pytest.mark.parametrize("time", ["t", "9"])
def test_shapes_are_inferred(time: str) -> None:
    """By numbers where they are known, by name where no padding changes the length; of every output that is there."""
    nodes = """
        Y, sum, present, bytes = omni.QConv1d<kernel = 7, dilation = 2, out_channels = 5>
            (X, s, z, W, O, M, P, , , , s, z)
        , , , Z = omni.QConv1d<kernel = 7, dilation = 2, out_channels = 5, pad_begin = 12, pad_end = 2>
            (X, s, z, W, O, M, , , , , s, z)
    """
    outputs = "float[a, b, c] Y, float[d, e, f] sum, float[g, h, i] present, uint8[j, k, l] bytes, uint8[m, o, p] Z"
    shapes = shapes_of(nodes, time=time, past="12", outputs=outputs)
    kept, longer = ("t", "(t)+2") if time == "t" else (9, 11)
    same_as_x = ["n", kept, 5]
    assert shapes == {
        "Y": same_as_x,
        "sum": same_as_x,
        "present": ["n", 12, 4],
        "bytes": same_as_x,
        "Z": ["n", longer, 5],
    }


@pytest.mark.parametrize(
    ("time", "past", "columns"),
    [
        ("t", "5", "(t)-7"),
        ("9", "5", 2),
        ("t", "p", "(t)+(p)-12"),
        ("9", "p", "(p)-3"),
        ("t", "", None),
        ("9", "", None),
    ],
)
def test_a_past_of_another_length_gives_another_shape(time: str, past: str, columns: object) -> None:
    node = ", , , bytes = omni.QConv1d<kernel = 7, dilation = 2, out_channels = 5>(X, s, z, W, O, M, P, , , , s, z)"
    shapes = shapes_of(node, time=time, past=past, outputs="uint8[a, b, c] bytes")
    assert shapes == {"bytes": [] if columns is None else ["n", columns, 5]}


FEEDS, WEIGHT = layer(np.random.default_rng(15), (1, 8, 4), 6, 3)
X, SIX = FEEDS["X"], np.ones(6, np.float32)
ZERO = np.asarray(np.uint8(0))
NONE, ONE, LESS, INFINITE = (np.asarray(scale, np.float32) for scale in (0, 1, -1, np.inf))
STATE = np.zeros((1, 3, 4), np.float32)


@pytest.mark.parametrize(
    ("feeds", "attributes", "message"),
    [
        ({"X": X[0]}, {}, r"Expected rank 3 \(batch, time, channels\), got shape \[8, 4\] - at omni::QConv1d, input X"),
        ({"X": X[:, :, :3]}, {}, "Expected a multiple of 4 channels, got 3 - at omni::QConv1d, input X"),
        ({"W": pack_bytes(WEIGHT)[:2]}, {}, r"Expected shape \[3, 1, 1, 64\], got \[2, 1, 1, 64\] - at .* input W"),
        ({"W": pack_bytes(WEIGHT)[..., :16]}, {}, r"Expected shape \[3, 1, 1, 64\], got \[3, 1, 1, 16\] - at .* W"),
        ({"offset": FEEDS["offset"][:5]}, {}, r"Expected shape \[6\], got \[5\] - at omni::QConv1d, input offset"),
        ({"multiplier": SIX[None]}, {}, r"Expected shape \[6\], got \[1, 6\] - at omni::QConv1d, input multiplier"),
        ({"past": STATE}, {}, r"Expected shape \[1, at most 2, 4\], got \[1, 3, 4\] - at omni::QConv1d, input past"),
        ({"past": STATE[:, :0, :3]}, {}, r"Expected shape \[1, at most 2, 4\], got \[1, 0, 3\] - at .* input past"),
        (
            {"past": STATE[:, :2]},
            {"pad_begin": 2},
            "Expected no padding at the beginning beside a past, got 2 - at omni::QConv1d, attribute pad_begin",
        ),
        ({"X": X[:, :1]}, {}, "Expected at least 2 columns with their padding, got 1 - at omni::QConv1d, input X"),
        (
            {"residual": np.zeros((1, 8, 6), np.float32)},
            {},
            r"Expected shape \[1, 6, 6\], got \[1, 8, 6\] - at omni::QConv1d, input residual",
        ),
        ({"alpha": SIX}, {}, "Expected alpha and inv_beta, got only one - at omni::QConv1d, input inv_beta"),
        ({"inv_beta": SIX}, {}, "Expected alpha and inv_beta, got only one - at omni::QConv1d, input alpha"),
        ({"alpha": SIX[:2], "inv_beta": SIX}, {}, r"Expected shape \[6\], got \[2\] - at omni::QConv1d, input alpha"),
        ({"x_scale": NONE}, {}, "Expected a positive finite scale, got 0 - at omni::QConv1d, input x_scale"),
        ({"x_scale": LESS}, {}, "Expected a positive finite scale, got -1 - at omni::QConv1d, input x_scale"),
        ({"x_scale": INFINITE}, {}, "Expected a positive finite scale"),
        ({"x_scale": SIX}, {}, r"Expected shape \[\], got \[6\] - at omni::QConv1d, input x_scale"),
        ({"y_scale": NONE}, {}, "Expected a positive finite scale, got 0 - at omni::QConv1d, input y_scale"),
        ({"y_scale": LESS}, {}, "Expected a positive finite scale, got -1 - at omni::QConv1d, input y_scale"),
        ({"y_scale": None}, {}, "Expected a scale for the output bytes, got none - at omni::QConv1d, input y_scale"),
        (
            {"y_zero_point": None},
            {},
            "Expected a zero point for the output bytes, got none - at omni::QConv1d, input y_zero_point",
        ),
        ({}, {"kernel": 12}, "Expected a value from 1 to 11, got 12 - at omni::QConv1d, attribute kernel"),
        ({}, {"kernel": None}, "Expected an integer, got none - at omni::QConv1d, attribute kernel"),
        ({}, {"out_channels": None}, "Expected an integer, got none - at omni::QConv1d, attribute out_channels"),
        ({}, {"dilation": 0}, "Expected a value from 1 to .*, got 0 - at omni::QConv1d, attribute dilation"),
        ({}, {"pad_end": -1}, "Expected a value from 0 to .*, got -1 - at omni::QConv1d, attribute pad_end"),
    ],
)
def test_wrong_inputs_are_named(
    feeds: dict[str, Array | None], attributes: dict[str, int | None], message: str
) -> None:
    given = {**FEEDS, "y_scale": ONE, "y_zero_point": ZERO, **feeds}
    kept = {name: array for name, array in given.items() if array is not None}
    model = qconv1d_model(kept, WEIGHT, ["Y", "bytes"])
    (node,) = model.graph.node
    others = [attribute for attribute in node.attribute if attribute.name not in attributes]
    del node.attribute[:]
    node.attribute.extend(others)
    node.attribute.extend(helper.make_attribute(name, value) for name, value in attributes.items() if value is not None)
    with pytest.raises(Exception, match=message):
        qconv1d_session(model).run(None, fed(kept))


@pytest.mark.parametrize("name", ["X", "x_zero_point", "x_scale"])
def test_other_types_are_refused_at_load(name: str) -> None:
    model = qconv1d_model(FEEDS, WEIGHT)
    (value,) = (value for value in model.graph.input if value.name == name)
    value.type.tensor_type.elem_type = onnx.TensorProto.INT8 if name != "x_scale" else onnx.TensorProto.DOUBLE
    with pytest.raises(Exception, match="QConv1d"):
        qconv1d_session(model)
