"""AddSnake, ShuffleSnake and the quantized operators against their formulas in float64."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from kernels import BYTES, FLOAT, INT8, LAYOUTS, UINT8, laid, options, parameters, random_bytes, run, shuffled, snake64
from onnx import helper


@LAYOUTS
@pytest.mark.parametrize("wants_sum", [True, False], ids=["with-sum", "without-sum"])
def test_add_snake(variant: str, channels_last: int, wants_sum: bool) -> None:
    rng = np.random.default_rng(8)
    values = parameters(rng, 6)
    a, b = rng.normal(size=(2, 2, 6, 3001)).astype(np.float32)
    outputs = [("Y", FLOAT), ("sum", FLOAT)][: 2 if wants_sum else 1]
    feeds = {"A": laid(a, channels_last), "B": laid(b, channels_last), **values}
    y, *rest = run("AddSnake", feeds, outputs, channels_last=channels_last)
    reference = snake64(a + b, values["alpha"], values["inv_beta"])
    assert np.abs(laid(y, channels_last) - reference).max() < 5e-6
    assert len(rest) == wants_sum
    for total in rest:
        np.testing.assert_array_equal(laid(total, channels_last), a + b)


@LAYOUTS
@pytest.mark.parametrize("trims", [(0, 0), (2, 3), (7, 0)], ids=str)
@pytest.mark.parametrize("stride", [1, 3, 8])
@pytest.mark.parametrize("biased", [True, False], ids=["bias", "no-bias"])
def test_shuffle_snake(variant: str, channels_last: int, stride: int, trims: tuple[int, int], biased: bool) -> None:
    rng = np.random.default_rng(9)
    values = parameters(rng, 5)
    bias = {"bias": rng.normal(size=5).astype(np.float32)} if biased else {}
    x = rng.normal(size=(2, 5 * stride, 911)).astype(np.float32)
    y, middle = run(
        "ShuffleSnake",
        {"X": laid(x, channels_last), **values, **bias},
        [("Y", FLOAT), ("shuffled", FLOAT)],
        channels_last=channels_last,
        stride=stride,
        trim_begin=trims[0],
        trim_end=trims[1],
    )
    expected = shuffled(x, stride, *trims) + (bias["bias"][:, None] if biased else np.float32(0))
    np.testing.assert_array_equal(laid(middle, channels_last), expected)
    assert np.abs(laid(y, channels_last) - snake64(expected, values["alpha"], values["inv_beta"])).max() < 5e-6


def test_everything_may_be_trimmed_away() -> None:
    values = parameters(np.random.default_rng(0), 2)
    x = np.zeros((1, 6, 2), np.float32)
    (y,) = run("ShuffleSnake", {"X": x, **values}, stride=3, trim_begin=4, trim_end=2)
    assert y.shape == (1, 2, 0)


@LAYOUTS
@BYTES
@pytest.mark.parametrize("shape", [(1, 1, 300), (2, 5, 4001), (1, 200, 700)], ids=str)
def test_qsnake_looks_up(channels_last: int, element: int, shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(10)
    x = random_bytes(rng, element, shape)
    table = random_bytes(rng, element, (shape[1], 256))
    (y,) = run("QSnake", {"X": laid(x, channels_last), "table": table}, [("Y", element)], channels_last=channels_last)
    entries = x.astype(int) - np.iinfo(x.dtype).min
    expected = table[np.arange(shape[1])[None, :, None], entries]
    np.testing.assert_array_equal(laid(y, channels_last), expected)


@BYTES
@pytest.mark.parametrize("dims", ["n, 3, t", "n, c, t", "?, ?, ?"])
def test_types_and_shapes_are_inferred_through_a_chain(element: int, dims: str) -> None:
    """Nothing but the graph's inputs has a declared type here."""
    kind = {UINT8: "uint8", INT8: "int8"}[element]
    made = onnx.parser.parse_model(
        f"""
        <ir_version: 10, opset_import: ["": 20, "omni": 1]>
        g ({kind}[{dims}] X, {kind}[3, 256] table, float[] scale, {kind}[] zero, float[{dims}] R, float[3] alpha,
           float[3] inv_beta) => (float[n, 3, t2] Z) {{
            A = omni.QSnake(X, table)
            B, total = omni.QAddSnake(A, scale, zero, R, alpha, inv_beta, scale, zero)
            C, values = omni.QShuffleSnake<trim_begin = 1>(B, scale, zero, table)
            D = omni.QSnake(C, table)
            E = DequantizeLinear(D, scale, zero)
            Z = Add(E, values)
        }}
        """
    )
    rng = np.random.default_rng(6)
    x = random_bytes(rng, element, (1, 3, 6))
    table = random_bytes(rng, element, (3, 256))
    ones = np.ones(3, np.float32)
    feeds = {
        "X": x,
        "table": table,
        "scale": np.array(0.5, np.float32),
        "zero": np.array(0, x.dtype),
        "R": np.zeros((1, 3, 6), np.float32),
    }
    session = ort.InferenceSession(made.SerializeToString(), options(), providers=["CPUExecutionProvider"])
    (z,) = session.run(None, {**feeds, "alpha": ones * 0, "inv_beta": ones})
    first = np.iinfo(x.dtype).min
    each = np.arange(3)[None, :, None]
    a = table[each, x.astype(int) - first]
    c = table[each, a.astype(int) - first][:, :, 1:]
    np.testing.assert_array_equal(z, (table[each, c.astype(int) - first] * 0.5 + a[:, :, 1:] * 0.5).astype(np.float32))


@LAYOUTS
@BYTES
@pytest.mark.parametrize("wants_sum", [True, False], ids=["with-sum", "without-sum"])
def test_qadd_snake(variant: str, channels_last: int, element: int, wants_sum: bool) -> None:
    rng = np.random.default_rng(12)
    values = parameters(rng, 7)
    x = random_bytes(rng, element, (2, 7, 2003))
    zeros = random_bytes(rng, element, (2,))
    residual = rng.normal(size=x.shape).astype(np.float32) * 2
    residual[0, 0, :4] = [np.nan, 1e30, -1e30, 1e6]
    y_scale = 0.03
    feeds = {
        "X": laid(x, channels_last),
        "x_scale": np.array(0.02, np.float32),
        "x_zero_point": zeros[:1],
        "residual": laid(residual, channels_last),
        **values,
        "y_scale": np.array([y_scale], np.float32),
        "y_zero_point": np.array(zeros[1]),
    }
    outputs = [("Y", element), ("sum", FLOAT)][: 2 if wants_sum else 1]
    y, *rest = run("QAddSnake", feeds, outputs, channels_last=channels_last)
    total = (x.astype(np.float32) - np.float32(zeros[0])) * np.float32(0.02) + residual
    for got in rest:
        np.testing.assert_allclose(laid(got, channels_last), total, rtol=0, atol=1e-6)
    steps = snake64(total, values["alpha"], values["inv_beta"]) / np.float64(np.float32(y_scale))
    limits = np.iinfo(x.dtype)
    expected = np.clip(np.rint(steps) + zeros[1], limits.min, limits.max)
    off = laid(y, channels_last).astype(int) - expected
    assert laid(y, channels_last)[0, 0, 0] == limits.min  # NaN
    off[0, 0, 0] = 0
    near_a_half = np.abs(np.abs(steps - np.floor(steps)) - 0.5) < 1e-3
    assert np.all(off[~near_a_half] == 0)
    assert np.abs(off[near_a_half]).max(initial=0) <= 1


@BYTES
def test_quantizing_rounds_halves_to_even_and_saturates(variant: str, element: int) -> None:
    """alpha of 0 makes Snake the identity, so that Y is the sum, quantized."""
    dtype = helper.tensor_dtype_to_np_dtype(element)
    limits = np.iinfo(dtype)
    residual = np.arange(-300, 300, 0.5, dtype=np.float32).reshape(1, 1, -1)
    zero, zero_point = np.zeros(1, np.float32), np.array(3, dtype)
    one = np.array(1, np.float32)
    feeds = {
        "X": np.full(residual.shape, zero_point, dtype),
        "x_scale": one,
        "x_zero_point": zero_point,
        "residual": residual,
        "alpha": zero,
        "inv_beta": zero,
        "y_scale": one,
        "y_zero_point": zero_point,
    }
    (y,) = run("QAddSnake", feeds, [("Y", element)])
    np.testing.assert_array_equal(y, np.clip(np.rint(residual) + 3, limits.min, limits.max))


@LAYOUTS
@BYTES
@pytest.mark.parametrize("trims", [(0, 0), (2, 3)], ids=str)
@pytest.mark.parametrize("stride", [1, 5])
def test_qshuffle_snake(channels_last: int, element: int, stride: int, trims: tuple[int, int], variant: str) -> None:
    rng = np.random.default_rng(13)
    x = random_bytes(rng, element, (2, 70 * stride, 331))
    table = random_bytes(rng, element, (70, 256))
    zero_point = random_bytes(rng, element, (1,))
    y, values = run(
        "QShuffleSnake",
        {
            "X": laid(x, channels_last),
            "x_scale": np.array(0.25, np.float32),
            "x_zero_point": zero_point,
            "table": table,
        },
        [("Y", element), ("shuffled", FLOAT)],
        channels_last=channels_last,
        stride=stride,
        trim_begin=trims[0],
        trim_end=trims[1],
    )
    expected = shuffled(x, stride, *trims)
    entries = expected.astype(int) - np.iinfo(x.dtype).min
    np.testing.assert_array_equal(laid(y, channels_last), table[np.arange(70)[None, :, None], entries])
    np.testing.assert_array_equal(laid(values, channels_last), (expected.astype(np.float32) - zero_point) * 0.25)
