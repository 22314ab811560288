"""The end of a residual unit between two quantized layers, in one pass.

    s = DequantizeLinear(x) + residual;  y = QuantizeLinear(Snake(s))   ->   y, s = omni::QAddSnake(x, residual)

The float sum is written only where the next residual needs it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from omni_sdk.tools.prepare.rules.base import Rule, made_by
from omni_sdk.tools.prepare.rules.quantized_snake import Quantization, quantization_of
from omni_sdk.tools.prepare.symbolic_bounds import attribute_of


@dataclass(frozen=True, slots=True)
class ResidualEnd:
    """An `AddSnake` of a dequantized and a float value whose result is quantized."""

    data: ir.Value
    residual: ir.Value
    node: ir.Node
    before: Quantization
    after: Quantization


class QuantizedAddSnake(Rule[ResidualEnd]):
    title = "quantized-add-snake"

    def pattern(self, op: Any, activated: Any) -> Any:
        return op.QuantizeLinear(activated, _allow_other_inputs=True, _outputs=["root"])

    def plan(self, activated: ir.Value, root: ir.Value) -> ResidualEnd | None:
        node, after = activated.producer(), quantization_of(root)
        if node is None or node.op_type != "AddSnake" or activated is not node.outputs[0] or after is None:
            return None
        if len(activated.uses()) > 1:
            return None
        for first, second in ((0, 1), (1, 0)):
            value, residual = node.inputs[first], node.inputs[second]
            dequantize = made_by(value, "DequantizeLinear")
            before = quantization_of(value) if value is not None and dequantize is not None else None
            if before is None or dequantize is None or dequantize.inputs[0] is None or residual is None:
                continue
            if before.dtype == after.dtype:
                return ResidualEnd(dequantize.inputs[0], residual, node, before, after)
        return None

    def replace(self, op: Any, plan: ResidualEnd) -> Any:
        y, total = op.QAddSnake(
            plan.data,
            *plan.before.values,
            plan.residual,
            *plan.node.inputs[2:],
            *plan.after.values,
            channels_last=attribute_of(plan.node, "channels_last", 0),
            _domain="omni",
            _version=1,
            _outputs=2,
        )
        return self.with_second_output(y, plan.node, total)
