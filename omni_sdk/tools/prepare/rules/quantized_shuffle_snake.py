"""Pixel shuffle, trim and Snake between two quantized layers, on bytes.

z = shuffled DequantizeLinear(x);  y = QuantizeLinear(Snake(z))   ->   y, z = omni::QShuffleSnake(x, table)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from omni_sdk.tools.prepare.rules.base import Rule, constant, made_by
from omni_sdk.tools.prepare.rules.quantized_snake import Quantization, quantization_of, snake_table
from omni_sdk.tools.prepare.symbolic_bounds import attribute_of


@dataclass(frozen=True, slots=True)
class ShuffledBytes:
    """A `ShuffleSnake` of a dequantized value whose result is quantized."""

    data: ir.Value
    node: ir.Node
    before: Quantization
    after: Quantization


class QuantizedShuffleSnake(Rule[ShuffledBytes]):
    title = "quantized-shuffle-snake"

    def pattern(self, op: Any, activated: Any) -> Any:
        return op.QuantizeLinear(activated, _allow_other_inputs=True, _outputs=["root"])

    def plan(self, activated: ir.Value, root: ir.Value) -> ShuffledBytes | None:
        node, after = activated.producer(), quantization_of(root)
        if node is None or node.op_type != "ShuffleSnake" or activated is not node.outputs[0] or after is None:
            return None
        if len(activated.uses()) > 1 or len(node.inputs) > 3 or node.inputs[0] is None:
            return None
        dequantize, before = made_by(node.inputs[0], "DequantizeLinear"), quantization_of(node.inputs[0])
        parameters = [constant(each) for each in node.inputs[1:3]]
        if dequantize is None or dequantize.inputs[0] is None or before is None or before.dtype != after.dtype:
            return None
        return (
            None
            if any(each is None for each in parameters)
            else ShuffledBytes(dequantize.inputs[0], node, before, after)
        )

    def replace(self, op: Any, plan: ShuffledBytes) -> Any:
        alpha, inv_beta = (constant(each) for each in plan.node.inputs[1:3])
        assert alpha is not None and inv_beta is not None, "plan() saw both"
        table = self.initializer(op, plan.data, snake_table(plan.before, plan.after, alpha, inv_beta))
        kept = {
            name: attribute_of(plan.node, name, 0) for name in ("stride", "trim_begin", "trim_end", "channels_last")
        }
        y, shuffled = op.QShuffleSnake(
            plan.data, *plan.before.values, table, **kept, _domain="omni", _version=1, _outputs=2
        )
        return self.with_second_output(y, plan.node, shuffled)
