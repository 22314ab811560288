"""Root-mean-square normalization becomes ONNX Runtime's own operator.

    x * Reciprocal(Sqrt(ReduceMean(x^2, -1) + epsilon)) * scale     ->   SimplifiedLayerNormalization(x, scale)
    x / Sqrt(ReduceMean(x^2, -1) + epsilon) * scale                 ->   the same

The division is a form that ONNX Runtime fuses by itself; the reciprocal, which newer exporters write, is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from omni_sdk.tools.prepare.rules.base import Refused, Rule, constant, label, made_by
from omni_sdk.tools.prepare.rules.snake import is_number
from omni_sdk.tools.prepare.symbolic_bounds import attribute_of, integers


@dataclass(frozen=True, slots=True)
class Normalization:
    """What is normalized, over its last axis."""

    data: ir.Value
    scale: ir.Value
    epsilon: float


class RMSNorm(Rule[Normalization]):
    title = "rms-norm"

    def pattern(self, op: Any, one: Any, other: Any) -> Any:
        return op.Mul(one, other, _outputs=["root"])

    def plan(self, one: ir.Value, other: ir.Value, root: ir.Value) -> Normalization | None:
        for normalized, scale in ((one, other), (other, one)):
            data, mean_square = _normalized(normalized)
            if data is None or mean_square is None or constant(scale) is None:
                continue
            epsilon, mean = self._mean(mean_square)
            if epsilon is None or mean is None or not _is_square_of(mean.inputs[0], data):
                continue
            if self._axes(mean, data) != [-1]:
                raise Refused(f"{label(root)} normalizes over other axes than the last.")
            if data.dtype not in (ir.DataType.FLOAT, None):
                raise Refused(f"{label(root)} is in {data.dtype}; this rule knows float32.")
            # A scale of another length would broadcast, and make the signal itself longer.
            if scale.shape is None or tuple(scale.shape) != (self.symbols.dimension(data, -1),):
                raise Refused(f"{label(root)} has a scale that is not known to be one number a channel.")
            return Normalization(data, scale, epsilon)
        return None

    @staticmethod
    def _mean(value: ir.Value) -> tuple[float | None, ir.Node | None]:
        """Epsilon and the `ReduceMean` of a sum of both."""
        added = made_by(value, "Add")
        if added is None:
            return None, None
        for mean, epsilon in ((0, 1), (1, 0)):
            array, node = constant(added.inputs[epsilon]), made_by(added.inputs[mean], "ReduceMean")
            if array is not None and array.size == 1 and node is not None and attribute_of(node, "keepdims", 1):
                return float(array.item()), node
        return None, None

    def _axes(self, mean: ir.Node, data: ir.Value) -> list[int] | None:
        axes, shape = integers(mean, "axes", 1, self.symbols), self.symbols.shape(data)
        if axes is None:
            return None
        return [axis - len(shape) if shape is not None and axis >= 0 else axis for axis in axes]

    def replace(self, op: Any, plan: Normalization) -> Any:
        return op.SimplifiedLayerNormalization(plan.data, plan.scale, axis=-1, epsilon=plan.epsilon, stash_type=1)


def _normalized(value: ir.Value) -> tuple[ir.Value | None, ir.Value | None]:
    """For x / sqrt(m) in either form: x and m."""
    if (quotient := made_by(value, "Div")) is not None:
        root = made_by(quotient.inputs[1], "Sqrt")
        return (quotient.inputs[0], root.inputs[0]) if root is not None else (None, None)
    product = made_by(value, "Mul")
    if product is None:
        return None, None
    for data, factor in ((0, 1), (1, 0)):
        inverse = made_by(product.inputs[factor], "Reciprocal")
        root = made_by(inverse.inputs[0], "Sqrt") if inverse is not None else None
        if root is not None:
            return product.inputs[data], root.inputs[0]
    return None, None


def _is_square_of(value: ir.Value | None, data: ir.Value) -> bool:
    if (power := made_by(value, "Pow")) is not None:
        return power.inputs[0] is data and is_number(power.inputs[1], 2.0)
    product = made_by(value, "Mul")
    return product is not None and product.inputs[0] is data and product.inputs[1] is data
