"""QConv1d, run by ONNX Runtime itself, against its formula: every kernel, shape, epilogue, output and thread."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernels import parameters, supported_variants
from qconv1d import OUTPUTS, check_formula, layer, output_bytes, past_of, qconv1d, qconv1d_session, same, sums64

from omni_sdk.tools.prepare.rules.qconv1d_node import offset_of, pack_bytes

FEW = [("Y",), ("sum",), ("present",), ("bytes",), ("Y", "bytes"), ("sum", "present", "bytes")]
SEVERAL = [names for count in (1, 2, 3, 4) for names in combinations(OUTPUTS, count)]


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
