"""A residual addition before a Snake becomes part of it.

    s = a + b;  y = omni::Snake(s)   ->   y, s = omni::AddSnake(a, b)

The sum is still an output where something else needs it, as the next residual does; it is written in the same pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from omni_sdk.tools.prepare.rules.base import Rule


@dataclass(frozen=True, slots=True)
class Residual:
    """A sum that a Snake reads."""

    a: ir.Value
    b: ir.Value
    total: ir.Value
    snake: ir.Node


class AddSnake(Rule[Residual]):
    title = "add-snake"

    def pattern(self, op: Any, a: Any, b: Any, alpha: Any, inv_beta: Any) -> Any:
        return op.Snake(op.Add(a, b, _outputs=["total"]), alpha, inv_beta, _domain="omni", _outputs=["root"])

    def plan(self, a: ir.Value, b: ir.Value, total: ir.Value, root: ir.Value, **_: ir.Value) -> Residual | None:
        snake = root.producer()
        broadcasts = not (self.symbols.same_shape(a, b) and self.symbols.same_shape(a, total))
        return None if snake is None or broadcasts else Residual(a, b, total, snake)

    def replace(self, op: Any, plan: Residual) -> Any:
        y, total = op.AddSnake(
            plan.a,
            plan.b,
            *plan.snake.inputs[1:],
            channels_last=plan.snake.attributes["channels_last"],
            _domain="omni",
            _version=1,
            _outputs=2,
        )
        return self.with_second(y, plan.total, total)
