"""One-node models of `omni::Conv1d`, and its formula in float64."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from kernels import FLOAT, options, snake64
from onnx import helper

from omni_sdk.tools.prepare.winograd import pack

Array = np.ndarray[Any, Any]
INPUTS = ("X", "W", "past", "bias", "residual", "alpha", "inv_beta")


def conv1d_model(
    feeds: Mapping[str, Array], weight: Array, outputs: Sequence[str] = ("Y",), *, tile: int = 1, **attributes: int
) -> onnx.ModelProto:
    """A node over packed `weight` [out_channels, channels, kernel] as a constant, `feeds` inputs of free shape."""
    present = {*feeds, "W"}
    names = [name if name in present else "" for name in INPUTS]
    while not names[-1]:
        names.pop()
    wanted = {"kernel": weight.shape[2], "out_channels": weight.shape[0], "tile": tile, **attributes}
    node = helper.make_node("Conv1d", names, list(outputs), domain="omni", **wanted)
    graph = helper.make_graph(
        [node],
        "Conv1d",
        [
            helper.make_tensor_value_info(name, FLOAT, [f"{name}{i}" for i in range(array.ndim)])
            for name, array in feeds.items()
        ],
        [helper.make_tensor_value_info(name, FLOAT, None) for name in outputs if name],
        [onnx.numpy_helper.from_array(feeds["W"] if "W" in feeds else pack(weight, tile), "W")],
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 20), helper.make_opsetid("omni", 1)], ir_version=10
    )


def conv1d_session(model: onnx.ModelProto, threads: int = 2) -> ort.InferenceSession:
    return ort.InferenceSession(model.SerializeToString(), options(threads), providers=["CPUExecutionProvider"])


def conv1d(
    feeds: Mapping[str, Array],
    weight: Array,
    outputs: Sequence[str] = ("Y",),
    *,
    threads: int = 2,
    tile: int = 1,
    **attributes: int,
) -> list[Array]:
    session = conv1d_session(conv1d_model(feeds, weight, outputs, tile=tile, **attributes), threads)
    return list(session.run(None, dict(feeds)))


def conv1d64(
    feeds: Mapping[str, Array], weight: Array, *, dilation: int = 1, pad_begin: int = 0, pad_end: int = 0
) -> tuple[Array, Array, Array]:
    """Y, sum and present by the formula."""
    x = feeds["X"].astype(np.float64)
    batch, _, channels = x.shape
    taps = weight.astype(np.float64)
    past = feeds.get("past", np.zeros((batch, pad_begin, channels)))
    signal = np.concatenate([past, x], axis=1)
    padded = np.concatenate([signal, np.zeros((batch, pad_end, channels))], axis=1)
    span = (taps.shape[2] - 1) * dilation
    columns = padded.shape[1] - span
    total = np.zeros((batch, columns, taps.shape[0]))
    for j in range(taps.shape[2]):
        total += padded[:, j * dilation : j * dilation + columns] @ taps[:, :, j].T
    total = total + feeds.get("bias", 0) + feeds.get("residual", 0)
    active = total
    if "alpha" in feeds:
        active = snake64(total.transpose(0, 2, 1), feeds["alpha"], feeds["inv_beta"]).transpose(0, 2, 1)
    return active, total, signal[:, signal.shape[1] - span :]


def snr(reference: Array, got: Array) -> float:
    """In dB; infinite where nothing differs."""
    noise = ((reference - got) ** 2).sum()
    return float(10 * np.log10((reference**2).sum() / noise)) if noise else np.inf
