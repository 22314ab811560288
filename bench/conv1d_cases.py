"""Layers of the reference decoder for the bench of `omni::Conv1d`: ours and ONNX Runtime's own, bound and ready."""

from __future__ import annotations

import importlib.machinery
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

import omni_sdk
from omni_sdk.tools.prepare.winograd import pack

LIBRARY = Path(omni_sdk.__file__).parent / f"_kernels{importlib.machinery.EXTENSION_SUFFIXES[0]}"
THREADS = len(os.sched_getaffinity(0))

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Layer:
    """A causal convolution, or a matrix product where `kernel` is 1."""

    channels: int
    out_channels: int
    columns: int
    kernel: int
    dilation: int = 1

    @property
    def flop(self) -> float:
        """Of the direct algorithm."""
        return 2.0 * self.channels * self.out_channels * self.kernel * self.columns

    def data(self) -> tuple[Array, Array]:
        """X [1, columns, channels] and weights [out_channels, channels, kernel], both of unit variance."""
        rng = np.random.default_rng(1)
        x = rng.standard_normal((1, self.columns, self.channels), np.float32)
        return x, rng.standard_normal((self.out_channels, self.channels, self.kernel), np.float32)

    def exact(self, x: Array, weight: Array, rows: Array) -> Array:
        """Some columns of the result in float64, [rows, out_channels]."""
        total = np.zeros((len(rows), self.out_channels))
        for j in range(self.kernel):
            at = rows - (self.kernel - 1 - j) * self.dilation
            taken = np.where(at[:, None] >= 0, x[0, at.clip(0)], 0).astype(np.float64)
            total += taken @ weight[:, :, j].T.astype(np.float64)
        return total


def ours(layer: Layer, x: Array, weight: Array, tile: int) -> tuple[Callable[[], None], ort.OrtValue]:
    """Runs `omni::Conv1d`; its result [1, columns, out_channels] lies in the value."""
    node = helper.make_node(
        "Conv1d", ["X", "w"], ["Y"], domain="omni", kernel=layer.kernel, tile=tile, dilation=layer.dilation,
        out_channels=layer.out_channels, pad_begin=(layer.kernel - 1) * layer.dilation,
    )  # fmt: skip
    return _bound(node, x, pack(weight, tile), (1, layer.columns, layer.out_channels))


def theirs(layer: Layer, x: Array, weight: Array) -> tuple[Callable[[], None], ort.OrtValue]:
    """Runs ONNX Runtime's `Conv`, channels first as it wants them, or its `MatMul` where the kernel is 1."""
    if layer.kernel == 1:
        node = helper.make_node("MatMul", ["X", "w"], ["Y"])
        return _bound(node, x, np.ascontiguousarray(weight[:, :, 0].T), (1, layer.columns, layer.out_channels))
    pads = [(layer.kernel - 1) * layer.dilation, 0]
    node = helper.make_node("Conv", ["X", "w"], ["Y"], pads=pads, dilations=[layer.dilation])
    return _bound(node, np.ascontiguousarray(x.transpose(0, 2, 1)), weight, (1, layer.out_channels, layer.columns))


def _bound(node: onnx.NodeProto, x: Array, w: Array, shape: tuple[int, ...]) -> tuple[Callable[[], None], ort.OrtValue]:
    graph = helper.make_graph(
        [node],
        node.op_type,
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("Y", TensorProto.FLOAT, shape)],
        [onnx.numpy_helper.from_array(w, "w")],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("omni", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    options = ort.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.register_custom_ops_library(str(LIBRARY))
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    result = ort.OrtValue.ortvalue_from_shape_and_type(shape, np.float32)
    binding.bind_ortvalue_input("X", ort.OrtValue.ortvalue_from_numpy(x))
    binding.bind_ortvalue_output("Y", result)
    return lambda: session.run_with_iobinding(binding), result
