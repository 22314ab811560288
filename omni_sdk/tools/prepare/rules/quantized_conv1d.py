"""A quantized convolution or product becomes `omni::QConv1d`, channels last.

    Conv(DequantizeLinear(x), DequantizeLinear(w), bias)   ->   Transpose(omni::QConv1d(Transpose(x), packed w))
    MatMul(DequantizeLinear(x), DequantizeLinear(w))       ->   omni::QConv1d(x, packed w)

Its products are summed as ONNX Runtime's `QLinearConv` sums them, but what follows stays float until it is quantized
again: `float-between` takes the bytes between away, and `conv1d-epilogue` takes activation and quantization in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from omni_sdk.tools.prepare.rules.base import Refused, Rule, constant, label, made_by
from omni_sdk.tools.prepare.rules.conv1d import check_geometry
from omni_sdk.tools.prepare.rules.qconv1d_node import WORD, Bytes, offset_of, packed_bytes
from omni_sdk.tools.prepare.rules.quantized_snake import quantization_of
from omni_sdk.tools.prepare.rules.transposes import SWAP
from omni_sdk.tools.prepare.symbolic_bounds import attribute_of


@dataclass(frozen=True, slots=True)
class QuantizedLayer:
    """A layer on bytes that the operator can do."""

    data: ir.Value  # bytes
    scale: ir.Value
    zero_point: ir.Value
    source: ir.Value  # the weights as the model has them
    weight: Bytes  # [outputs, inputs, kernel]
    offset: NDArray[np.int32]
    multiplier: NDArray[np.float32]
    dilation: int = 1
    pads: tuple[int, int] = (0, 0)


class QuantizedConv(Rule[QuantizedLayer]):
    title = "quantized-conv1d"

    def pattern(self, op: Any, x: Any, w: Any) -> Any:
        return op.Conv(x, op.DequantizeLinear(w, _allow_other_inputs=True), _allow_other_inputs=True, _outputs=["root"])

    def plan(self, x: ir.Value, w: ir.Value, root: ir.Value) -> QuantizedLayer | None:
        node = root.producer()
        array = constant(w)
        if node is None or array is None:
            return None
        check_geometry(root, node, array.shape)
        bias = None
        if len(node.inputs) > 2 and node.inputs[2] is not None:
            bias = _floats(node.inputs[2])
            if bias is None:
                raise Refused(f"{label(root)} has a bias that is computed at run time.")
        dilation, pads = attribute_of(node, "dilations", [1])[0], attribute_of(node, "pads", [0, 0])
        return _layer(root, node, array, bias, dilation, (pads[0], pads[1]))

    def replace(self, op: Any, plan: QuantizedLayer) -> Any:
        return op.Transpose(self.convolution(op, plan, op.Transpose(plan.data, perm=SWAP)), perm=SWAP)

    def convolution(self, op: Any, plan: QuantizedLayer, signal: Any) -> Any:
        """The node, over a signal that lies channels last."""
        outputs, inputs, kernel = plan.weight.shape
        weight = self.lazy_initializer(
            op, plan.source, lambda name: packed_bytes(lambda: plan.weight, (outputs, inputs, kernel), name)
        )
        return op.QConv1d(
            signal,
            plan.scale,
            plan.zero_point,
            weight,
            self.initializer(op, plan.source, plan.offset),
            self.initializer(op, plan.source, plan.multiplier),
            kernel=kernel,
            dilation=plan.dilation,
            out_channels=outputs,
            pad_begin=plan.pads[0],
            pad_end=plan.pads[1],
            _domain="omni",
            _version=1,
        )


class QuantizedMatMul(QuantizedConv):
    def pattern(self, op: Any, x: Any, w: Any) -> Any:
        return op.MatMul(x, op.DequantizeLinear(w, _allow_other_inputs=True), _outputs=["root"])

    def plan(self, x: ir.Value, w: ir.Value, root: ir.Value) -> QuantizedLayer | None:
        node, array, data = root.producer(), constant(w), self.symbols.shape(x)
        if node is None or array is None:
            return None
        if array.ndim != 2 or data is None or len(data) != 3:
            raise Refused(f"{label(root)} is no product of a rank-3 tensor and a matrix.")
        return _layer(root, node, array.T[:, :, None], None, 1, (0, 0))

    def replace(self, op: Any, plan: QuantizedLayer) -> Any:
        return self.convolution(op, plan, plan.data)


def _layer(
    root: ir.Value, node: ir.Node, weight: Bytes, bias: NDArray[np.float32] | None, dilation: int, pads: tuple[int, int]
) -> QuantizedLayer:
    data, dequantize = made_by(node.inputs[0], "DequantizeLinear"), made_by(node.inputs[1], "DequantizeLinear")
    before = quantization_of(node.inputs[0]) if data is not None and node.inputs[0] is not None else None
    if data is None or dequantize is None or before is None or data.inputs[0] is None:
        raise Refused(f"{label(root)} reads a signal that has no single scale.")
    if before.dtype != np.uint8 or weight.dtype != np.int8:
        raise Refused(f"{label(root)} is {before.dtype} x {weight.dtype}; the operator multiplies uint8 x int8.")
    if weight.shape[1] % WORD:
        raise Refused(f"{label(root)} has {weight.shape[1]} channels; the operator takes a multiple of {WORD}.")
    scales = constant(dequantize.inputs[1])
    zeros = constant(dequantize.inputs[2]) if len(dequantize.inputs) > 2 else None
    of_outputs = attribute_of(dequantize, "axis", 1) in ((1, -1) if node.op_type == "MatMul" else (0, -3))
    if (
        scales is None
        or (scales.size != 1 and (scales.size != len(weight) or not of_outputs))
        or (zeros is not None and np.any(zeros))
    ):
        raise Refused(f"{label(root)} has weights with a zero point, or with scales along another axis.")
    product = before.scale * scales.reshape(-1).astype(np.float64)
    multiplier = np.broadcast_to(product, (len(weight),)).astype(np.float32)
    if not np.all(multiplier > 0):
        raise Refused(f"{label(root)} has products too small for float32.")
    offset = offset_of(weight, before.zero_point, bias, multiplier)
    if offset is None:
        raise Refused(f"{label(root)} has sums that 32 bits do not hold.")
    source = dequantize.inputs[0]
    assert source is not None, "matched by the pattern"
    return QuantizedLayer(data.inputs[0], *before.values, source, weight, offset, multiplier, dilation, pads)


def _floats(value: ir.Value) -> NDArray[np.float32] | None:
    """A constant, dequantized where it is of integers."""
    node = made_by(value, "DequantizeLinear")
    if node is None:
        return constant(value)
    integers, scale = constant(node.inputs[0]), constant(node.inputs[1])
    zeros = constant(node.inputs[2]) if len(node.inputs) > 2 else None
    if integers is None or scale is None or (zeros is not None and np.any(zeros)):
        return None
    return np.asarray(integers * scale.astype(np.float64), np.float32)
