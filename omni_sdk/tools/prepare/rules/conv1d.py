"""A convolution over time becomes `omni::Conv1d`, channels last.

    Conv(x [N, C, T], w [M, C, k], bias)   ->   Transpose(omni::Conv1d(Transpose(x), packed w, bias))

The operator computes by Winograd tiles where that is chosen later; here every layer is direct. The transposes meet
their inverses in `sink-transposes`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from omni_sdk.tools.prepare.rules.base import Refused, Rule, constant, label
from omni_sdk.tools.prepare.rules.conv1d_node import packed
from omni_sdk.tools.prepare.rules.transposes import SWAP
from omni_sdk.tools.prepare.symbolic_bounds import attribute_of

LARGEST_KERNEL = 11


@dataclass(frozen=True, slots=True)
class Layer:
    """A convolution that the operator can do."""

    data: ir.Value
    weight: ir.Value
    shape: tuple[int, int, int]  # outputs, inputs, kernel
    bias: ir.Value | None
    dilation: int
    pads: tuple[int, int]


class ConvAsConv1d(Rule[Layer]):
    title = "conv1d"

    def pattern(self, op: Any, x: Any, w: Any) -> Any:
        return op.Conv(x, w, _allow_other_inputs=True, _outputs=["root"])

    def plan(self, x: ir.Value, w: ir.Value, root: ir.Value) -> Layer | None:
        node = root.producer()
        if node is None:
            return None
        shape = check_weight(root, x, w)
        check_geometry(root, node, shape)
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        if bias is not None and constant(bias) is None:
            raise Refused(f"{label(root)} has a bias that is computed at run time.")
        begin, end = attribute_of(node, "pads", [0, 0])
        dilation = attribute_of(node, "dilations", [1])[0]
        return Layer(x, w, (shape[0], shape[1], shape[2]), bias, dilation, (begin, end))

    def replace(self, op: Any, plan: Layer) -> Any:
        source = plan.weight.const_value
        assert source is not None, "checked by the plan"
        weight = self.lazy_initializer(
            op, plan.weight, lambda name: packed(lambda: np.asarray(source.numpy()), plan.shape, 1, name)
        )
        y = op.Conv1d(
            op.Transpose(plan.data, perm=SWAP),
            weight,
            *([] if plan.bias is None else [None, plan.bias]),
            kernel=plan.shape[2],
            tile=1,
            dilation=plan.dilation,
            out_channels=plan.shape[0],
            pad_begin=plan.pads[0],
            pad_end=plan.pads[1],
            _domain="omni",
            _version=1,
        )
        return op.Transpose(y, perm=SWAP)


def check_geometry(root: ir.Value, node: ir.Node, shape: tuple[int, ...]) -> None:
    """Hold a `Conv` of weights of a shape against what the operator can do.

    Raises
    ------
    Refused
        Where it cannot.
    """
    if len(shape) != 3:
        raise Refused(f"{label(root)} has {len(shape) - 2} spatial dimensions; the operator knows one.")
    if (groups := attribute_of(node, "group", 1)) != 1:
        raise Refused(f"{label(root)} has {groups} groups.")
    if (stride := attribute_of(node, "strides", [1])[0]) != 1:
        raise Refused(f"{label(root)} has stride {stride}; the operator knows 1.")
    if shape[2] > LARGEST_KERNEL:
        raise Refused(f"{label(root)} has a kernel of {shape[2]}; the operator goes to {LARGEST_KERNEL}.")
    if attribute_of(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise Refused(f"{label(root)} computes its own padding (auto_pad).")


def check_weight(root: ir.Value, data: ir.Value, weight: ir.Value) -> tuple[int, ...]:
    """Shape of a layer's constant float32 weights.

    Raises
    ------
    Refused
        Where weights are computed at run time, or anything is not float32.
    """
    tensor = weight.const_value
    if tensor is None or weight.is_graph_input():
        raise Refused(f"{label(root)} has weights that are computed at run time.")
    for value in (data.dtype, tensor.dtype):
        if value not in (ir.DataType.FLOAT, None):
            raise Refused(f"{label(root)} is in {value}; the operator computes in float32.")
    return tuple(int(size) for size in tensor.shape.numpy())
