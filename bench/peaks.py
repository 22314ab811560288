"""What one layer at a time reaches on this machine: the ceiling that a whole model is measured against."""

from __future__ import annotations

import time

import numpy as np
import onnx_ir as ir
import onnxruntime as ort

from omni_sdk.tools.prepare.symbols import Symbols

SHAPES = ((768, 2044), (384, 10000), (192, 20000))
"""Channels and columns of the convolutions that are timed; kernel 7, as in most of a vocoder's work."""

KERNEL = 7
RUNS = 5


def float_peak(threads: int | None = None) -> float:
    """FLOP per second of the fastest FP32 convolution or matrix product."""
    return max(_fastest(threads, _float_convolution, _matrix_product))


def byte_peak(threads: int | None = None) -> float:
    """Operations per second of the fastest uint8 x int8 `QLinearConv`."""
    return max(_fastest(threads, _byte_convolution))


def operations(graph: ir.Model, frames: int) -> float:
    """FLOP of a model's convolutions and products with constant weights, at one size of its named dimensions."""
    symbols, total = Symbols(graph), 0.0
    for node in graph.graph:
        if node.op_type not in ("Conv", "ConvTranspose", "MatMul") or node.inputs[1].const_value is None:
            continue
        weight = node.inputs[1].const_value.shape.numpy()
        shape = symbols.shape(node.inputs[0] if node.op_type == "ConvTranspose" else node.outputs[0]) or ()
        free = {each for size in shape for each in size.free_symbols}
        sizes = [int(size.subs({each: 1 if str(each) == "batch" else frames for each in free})) for size in shape]
        positions = np.prod(sizes[:-1]) if node.op_type == "MatMul" else sizes[0] * sizes[2]
        total += 2.0 * float(positions) * float(np.prod(weight))
    return total


def _fastest(threads, *makers):
    for maker in makers:
        for channels, columns in SHAPES:
            model, feeds = maker(channels, columns)
            options = ort.SessionOptions()
            options.intra_op_num_threads = threads or 0
            session = ort.InferenceSession(
                ir.to_proto(model).SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
            session.run(None, feeds)
            seconds = []
            for _ in range(RUNS):
                start = time.perf_counter()
                session.run(None, feeds)
                seconds.append(time.perf_counter() - start)
            work = channels * channels * (1 if maker is _matrix_product else KERNEL) * columns
            yield 2.0 * work / min(seconds)


def _float_convolution(channels: int, columns: int):
    weight = np.ones((channels, channels, KERNEL), np.float32)
    text = f"""<ir_version: 9, opset_import: ["" : 18]> agraph
        (float[1, {channels}, {columns}] x, float[{channels}, {channels}, 7] w)
        => (float[1, {channels}, L] y) {{ y = Conv <pads = [6, 0]> (x, w) }}"""
    return _with(text, w=weight), {"x": np.ones((1, channels, columns), np.float32)}


def _matrix_product(channels: int, columns: int):
    text = f"""<ir_version: 9, opset_import: ["" : 18]> agraph
        (float[{columns}, {channels}] x, float[{channels}, {channels}] w)
        => (float[{columns}, {channels}] y) {{ y = MatMul(x, w) }}"""
    return _with(text, w=np.ones((channels, channels), np.float32)), {"x": np.ones((columns, channels), np.float32)}


def _byte_convolution(channels: int, columns: int):
    text = f"""<ir_version: 9, opset_import: ["" : 18]> agraph
        (uint8[1, {channels}, {columns}] x, int8[{channels}, {channels}, 7] w, float s, uint8 z, float t, int8 o)
        => (uint8[1, {channels}, L] y) {{ y = QLinearConv <pads = [6, 0]> (x, s, z, w, t, o, s, z) }}"""
    arrays = {
        "w": np.ones((channels, channels, KERNEL), np.int8),
        "s": np.float32(1),
        "z": np.uint8(0),
        "t": np.float32(1),
        "o": np.int8(0),
    }
    return _with(text, **arrays), {"x": np.ones((1, channels, columns), np.uint8)}


def _with(text: str, **arrays: np.ndarray) -> ir.Model:
    model = ir.from_onnx_text(text)
    for name, array in arrays.items():
        value = next(value for value in model.graph.inputs if value.name == name)
        model.graph.inputs.remove(value)
        value.const_value = ir.tensor(array, name=name)
        model.graph.register_initializer(value)
    return model
