"""Between two quantized layers, Snake works on bytes.

    QuantizeLinear(omni::Snake(DequantizeLinear(x)))    ->   omni::QSnake(x, table)

A byte has 256 values, so dequantize, Snake, quantize is exactly a table of 256 entries for each channel. Other users
of the dequantized value keep their own `DequantizeLinear`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from omni_sdk.tools.prepare.rules.base import Rule, constant, made_by
from omni_sdk.tools.prepare.symbolic_bounds import attribute_of


@dataclass(frozen=True, slots=True)
class Quantization:
    """One scale and zero point for a whole tensor."""

    scale: float
    zero_point: int
    dtype: np.dtype[Any]
    values: tuple[ir.Value, ir.Value]  # where the model holds both


@dataclass(frozen=True, slots=True)
class Tabled:
    """A Snake between bytes."""

    data: ir.Value
    table: NDArray[Any]  # [channels, 256]
    channels_last: int


class QuantizedSnake(Rule[Tabled]):
    title = "quantized-snake"

    def pattern(self, op: Any, x: Any, alpha: Any, inv_beta: Any) -> Any:
        snake = op.Snake(
            op.DequantizeLinear(x, _allow_other_inputs=True, _outputs=["dequantized"]),
            alpha,
            inv_beta,
            _domain="omni",
            _outputs=["activated"],
        )
        return op.QuantizeLinear(snake, _allow_other_inputs=True, _outputs=["root"])

    def plan(
        self,
        x: ir.Value,
        alpha: ir.Value,
        inv_beta: ir.Value,
        dequantized: ir.Value,
        activated: ir.Value,
        root: ir.Value,
    ) -> Tabled | None:
        before, after = quantization_of(dequantized), quantization_of(root)
        snake = activated.producer()
        if before is None or after is None or snake is None or before.dtype != after.dtype or len(activated.uses()) > 1:
            return None
        first, second = constant(alpha), constant(inv_beta)
        if first is None or second is None:
            return None
        return Tabled(x, snake_table(before, after, first, second), attribute_of(snake, "channels_last", 0))

    def replace(self, op: Any, plan: Tabled) -> Any:
        table = self.initializer(op, plan.data, plan.table)
        return op.QSnake(plan.data, table, channels_last=plan.channels_last, _domain="omni", _version=1)


def quantization_of(value: ir.Value) -> Quantization | None:
    """Constants of the `QuantizeLinear` or `DequantizeLinear` that makes `value`, where they are one for the tensor."""
    node = made_by(value, "QuantizeLinear", "DequantizeLinear")
    if node is None or len(node.inputs) < 3 or node.inputs[1] is None or node.inputs[2] is None:
        return None
    scale, zero_point = constant(node.inputs[1]), constant(node.inputs[2])
    if scale is None or zero_point is None or scale.size != 1 or zero_point.dtype not in (np.uint8, np.int8):
        return None
    return Quantization(float(scale.item()), int(zero_point.item()), zero_point.dtype, (node.inputs[1], node.inputs[2]))


def snake_table(before: Quantization, after: Quantization, alpha: NDArray[Any], inv_beta: NDArray[Any]) -> NDArray[Any]:
    """Snake of every byte of every channel, [channels, 256], in the order of the bytes' values."""
    limits = np.iinfo(before.dtype)
    x = (np.arange(limits.min, limits.max + 1, dtype=np.float64) - before.zero_point) * before.scale
    y = x + inv_beta.astype(np.float64)[:, None] * np.sin(alpha.astype(np.float64)[:, None] * x) ** 2
    table: NDArray[Any] = np.clip(np.rint(y / after.scale) + after.zero_point, limits.min, limits.max).astype(
        before.dtype
    )
    return table
