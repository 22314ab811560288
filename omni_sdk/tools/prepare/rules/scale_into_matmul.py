"""A constant scale per channel after a matrix product folds into the matrix.

    gamma * (MatMul(x, w) + b)   ->   MatMul(x, w * gamma) + b * gamma
    gamma * MatMul(x, w)         ->   MatMul(x, w * gamma)

Layer scale and ConvNeXt's gamma, which exporters keep apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from omni_sdk.tools.prepare.rules.base import Refused, Rule, constant, label, made_by


@dataclass(frozen=True, slots=True)
class Scaled:
    """A product to build anew with scaled constants."""

    data: ir.Value
    weight: ir.Value
    scaled_weight: NDArray[np.float32]
    scaled_bias: NDArray[np.float32] | None


class ScaleIntoMatMul(Rule[Scaled]):
    title = "scale-into-matmul"

    def pattern(self, op: Any, one: Any, other: Any) -> Any:
        return op.Mul(one, other, _outputs=["root"])

    def plan(self, one: ir.Value, other: ir.Value, root: ir.Value) -> Scaled | None:
        for scale, value in ((constant(one), other), (constant(other), one)):
            if scale is None or scale.ndim > 1 or scale.dtype != np.float32:
                continue
            bias, product = _linear(value)
            weight = constant(product.inputs[1]) if product is not None else None
            if product is None or weight is None or product.inputs[0] is None or product.inputs[1] is None:
                continue
            if weight.ndim != 2 or scale.size not in (1, weight.shape[1]) or (bias is not None and bias.ndim != 1):
                continue
            shared = [each for each in (value, product.outputs[0]) if len(each.uses()) > 1 or each.is_graph_output()]
            if shared:
                raise Refused(f"{label(shared[0])} is also used unscaled.")
            scaled_bias = None if bias is None else (bias * scale).astype(np.float32)
            return Scaled(product.inputs[0], product.inputs[1], (weight * scale).astype(np.float32), scaled_bias)
        return None

    def replace(self, op: Any, plan: Scaled) -> Any:
        y = op.MatMul(plan.data, self.initializer(op, plan.weight, plan.scaled_weight))
        return y if plan.scaled_bias is None else op.Add(y, self.initializer(op, plan.weight, plan.scaled_bias))


def _linear(value: ir.Value) -> tuple[NDArray[Any] | None, ir.Node | None]:
    """Bias and `MatMul` of a linear layer; no bias where there is none."""
    added = made_by(value, "Add")
    if added is None:
        return None, made_by(value, "MatMul")
    for bias, product in ((0, 1), (1, 0)):
        array = constant(added.inputs[bias])
        if array is not None:
            return array, made_by(added.inputs[product], "MatMul")
    return None, None
