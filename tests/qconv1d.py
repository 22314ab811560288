"""One-node models of `omni::QConv1d`, and its formula: exact sums, and what follows in float64."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from kernels import FLOAT, SINE_ERROR, UINT8, options, random_bytes, rounding, snake64
from onnx import helper

from omni_sdk.tools.prepare.rules.qconv1d_node import pack_bytes

Array = np.ndarray[Any, Any]
INPUTS = (
    *("X", "x_scale", "x_zero_point", "W", "offset", "multiplier", "past", "residual", "alpha", "inv_beta"),
    *("y_scale", "y_zero_point"),
)
OUTPUTS = ("Y", "sum", "present", "bytes")
CONSTANTS = ("W", "offset", "multiplier")


def qconv1d_model(
    feeds: Mapping[str, Array], weight: Array, outputs: Collection[str] = ("Y",), **attributes: int
) -> onnx.ModelProto:
    """A node over packed `weight` [out_channels, channels, kernel] as a constant, `feeds` inputs of free shape."""
    present = {**feeds, "W": feeds["W"] if "W" in feeds else pack_bytes(weight)}
    names = [name if name in present else "" for name in INPUTS]
    written = [name if name in outputs else "" for name in OUTPUTS]
    for each in (names, written):
        while not each[-1]:
            each.pop()
    wanted = {"kernel": weight.shape[2], "out_channels": weight.shape[0], **attributes}
    graph = helper.make_graph(
        [helper.make_node("QConv1d", names, written, domain="omni", **wanted)],
        "QConv1d",
        [
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(array.dtype), [f"{name}{i}" for i in range(array.ndim)]
            )
            for name, array in feeds.items()
            if name not in CONSTANTS
        ],
        [
            helper.make_tensor_value_info(name, UINT8 if name == "bytes" else FLOAT, None)
            for name in OUTPUTS
            if name in outputs
        ],
        [onnx.numpy_helper.from_array(present[name], name) for name in CONSTANTS],
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 20), helper.make_opsetid("omni", 1)], ir_version=10
    )


def qconv1d_session(model: onnx.ModelProto, threads: int = 2, *, pattern: bool = True) -> ort.InferenceSession:
    settings = options(threads)
    settings.enable_mem_pattern = pattern
    return ort.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])


def fed(feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Those that are no constants of the model."""
    return {name: array for name, array in feeds.items() if name not in CONSTANTS}


def qconv1d(
    feeds: Mapping[str, Array],
    weight: Array,
    outputs: Collection[str] = ("Y",),
    *,
    threads: int = 2,
    **attributes: int,
) -> dict[str, Array]:
    """The outputs that are asked for, by name."""
    session = qconv1d_session(qconv1d_model(feeds, weight, outputs, **attributes), threads)
    asked = [name for name in OUTPUTS if name in outputs]
    return dict(zip(asked, session.run(asked, fed(feeds)), strict=True))


def quantized64(values: Array, scale: Array, zero_point: Array) -> Array:
    return np.clip(np.rint(values / float(scale)) + int(zero_point), 0, 255)


def padded_bytes(feeds: Mapping[str, Array], pad_begin: int = 0, pad_end: int = 0) -> Array:
    """V, as float64."""
    batch, _, channels = feeds["X"].shape
    zero = float(feeds["x_zero_point"])
    before = np.full((batch, pad_begin, channels), zero)
    if "past" in feeds:
        before = quantized64(feeds["past"].astype(np.float64), feeds["x_scale"], feeds["x_zero_point"])
    return np.concatenate([before, feeds["X"].astype(np.float64), np.full((batch, pad_end, channels), zero)], axis=1)


def sums64(
    feeds: Mapping[str, Array], weight: Array, *, dilation: int = 1, pad_begin: int = 0, pad_end: int = 0
) -> Array:
    """Of products and offset, exactly: integers this small are exact in float64, as are their sums in any order."""
    signal = padded_bytes(feeds, pad_begin, pad_end)
    taps = weight.astype(np.float64)
    columns = signal.shape[1] - (taps.shape[2] - 1) * dilation
    total = np.zeros((signal.shape[0], columns, taps.shape[0]))
    for j in range(taps.shape[2]):
        total += signal[:, j * dilation : j * dilation + columns] @ taps[:, :, j].T
    return total.astype(np.int64) + feeds["offset"]


def present32(feeds: Mapping[str, Array], span: int, pad_begin: int = 0) -> Array:
    """The state that comes out, bit for bit: rows of X dequantized in float32, behind the past's own, behind zeros."""
    batch, _, channels = feeds["X"].shape
    x = (feeds["X"].astype(np.float32) - np.float32(feeds["x_zero_point"])) * feeds["x_scale"]
    past = feeds.get("past", np.zeros((batch, pad_begin, channels), np.float32))
    signal = np.concatenate([np.zeros((batch, span, channels), np.float32), past, x], axis=1)
    return signal[:, signal.shape[1] - span :]


def check_formula(
    got: Mapping[str, Array], feeds: Mapping[str, Array], weight: Array, *, dilation: int = 1, pad_begin: int = 0,
    pad_end: int = 0,
) -> None:  # fmt: skip
    """Floats to within the roundings that they have, bytes wherever the exact quotient is not next to a half."""
    sums = sums64(feeds, weight, dilation=dilation, pad_begin=pad_begin, pad_end=pad_end)
    products = sums * feeds["multiplier"].astype(np.float64)
    total = products + feeds.get("residual", np.float32(0)).astype(np.float64)
    error = rounding(products) + rounding(total)
    y, y_error = total, error
    if "alpha" in feeds:
        alpha, inv_beta = (feeds[name].astype(np.float64) for name in ("alpha", "inv_beta"))
        y = snake64(total.transpose(0, 2, 1), feeds["alpha"], feeds["inv_beta"]).transpose(0, 2, 1)
        y_error = error * (1 + alpha * inv_beta) + SINE_ERROR * inv_beta + rounding(y)
    expected = {"sum": (total, error), "Y": (y, y_error)}
    for name in ("sum", "Y"):
        if name in got:
            reference, allowed = expected[name]
            assert got[name].shape == reference.shape
            assert (np.abs(got[name] - reference) <= allowed).all()
    if "present" in got:
        np.testing.assert_array_equal(got["present"], present32(feeds, (weight.shape[2] - 1) * dilation, pad_begin))
    if "bytes" in got:
        check_bytes(got["bytes"], y, feeds)
    if {"bytes", "Y"} <= got.keys():
        steps = got["Y"] * (np.float32(1) / feeds["y_scale"])
        np.testing.assert_array_equal(got["bytes"], np.clip(np.rint(steps) + int(feeds["y_zero_point"]), 0, 255))


def check_bytes(got: Array, y: Array, feeds: Mapping[str, Array]) -> None:
    quotient = y / float(feeds["y_scale"])
    expected = quantized64(y, feeds["y_scale"], feeds["y_zero_point"])
    off = np.abs(got - expected)
    assert got.shape == y.shape
    assert not off[np.abs(np.abs(quotient - np.rint(quotient)) - 0.5) > 1e-3].any()
    assert off.max(initial=0) <= 1


def same(a: Mapping[str, Array], b: Mapping[str, Array]) -> None:
    """Bit for bit, what both have."""
    for name in a.keys() & b.keys():
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def layer(
    rng: np.random.Generator, shape: Sequence[int], out_channels: int, kernel: int
) -> tuple[dict[str, Array], Array]:
    """X of `shape` and the inputs that every node has, for results of some units; and weights."""
    batch, time, channels = shape
    weight = rng.integers(-128, 128, (out_channels, channels, kernel)).astype(np.int8)
    unit = 1 / (127 * 74 * np.sqrt(max(channels, 1) * kernel))
    feeds = {
        "X": random_bytes(rng, UINT8, (batch, time, channels)),
        "x_scale": np.float32(rng.uniform(0.5, 2) / 127),
        "x_zero_point": np.uint8(rng.integers(0, 256)),
        "offset": rng.integers(-(10**5), 10**5, out_channels).astype(np.int32),
        "multiplier": (unit * rng.uniform(0.5, 2, out_channels)).astype(np.float32),
    }
    return {name: np.asarray(array) for name, array in feeds.items()}, weight


def output_bytes(rng: np.random.Generator, step: float = 0.03) -> dict[str, Array]:
    scale, zero = np.float32(step * rng.uniform(0.5, 2)), np.uint8(rng.integers(0, 256))
    return {"y_scale": np.asarray(scale), "y_zero_point": np.asarray(zero)}


def past_of(rng: np.random.Generator, feeds: Mapping[str, Array], length: int) -> Array:
    """Floats somewhere between two bytes, but next to no half; some beyond the range of bytes."""
    batch, _, channels = feeds["X"].shape
    steps = rng.integers(-20, 276, (batch, length, channels)) + rng.uniform(-0.49, 0.49, (batch, length, channels))
    return ((steps - int(feeds["x_zero_point"])) * float(feeds["x_scale"])).astype(np.float32)
