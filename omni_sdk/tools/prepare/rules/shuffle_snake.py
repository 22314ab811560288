"""Pixel shuffle, trim and Snake become one operator.

    z = Reshape(Transpose(Reshape(x, [0, s, C, -1]), (0, 2, 3, 1)), [0, C, -1])     pixel shuffle, phase-major
    z = z[:, :, a : -b]                                                             where there is a trim
    y = omni::Snake(z)
    ->  y, z = omni::ShuffleSnake(x, stride=s, trim_begin=a, trim_end=b)

`Transpose` gathers with large strides on one thread; the operator shuffles while it computes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from omni_sdk.tools.prepare.rules.base import Rule, made_by
from omni_sdk.tools.prepare.symbolic_bounds import attribute_of, spans_of
from omni_sdk.tools.prepare.symbols import Symbols


@dataclass(frozen=True, slots=True)
class Shuffled:
    """A Snake over shuffled and trimmed channels."""

    data: ir.Value  # [batch, stride * channels, columns]
    shuffled: ir.Value  # [batch, channels, stride * columns - trims]
    snake: ir.Node
    stride: int
    trims: tuple[int, int]


class ShuffleSnake(Rule[Shuffled]):
    title = "shuffle-snake"

    def pattern(self, op: Any, shuffled: Any, alpha: Any, inv_beta: Any) -> Any:
        return op.Snake(shuffled, alpha, inv_beta, _domain="omni", _outputs=["root"])

    def plan(self, shuffled: ir.Value, root: ir.Value, **_: ir.Value) -> Shuffled | None:
        snake, whole, trims = root.producer(), shuffled, (0, 0)
        if snake is None or attribute_of(snake, "channels_last", 0):
            return None
        if (cut := made_by(shuffled, "Slice")) is not None and cut.inputs[0] is not None:
            whole, length, spans = cut.inputs[0], self.symbols.shape(cut.inputs[0]), spans_of(cut, self.symbols)
            if length is None or spans is None or list(spans) != [2]:
                return None
            start, behind = spans[2][0], length[2] - spans[2][1]
            if not (start.is_Integer and behind.is_Integer):
                return None
            trims = (int(start), int(behind))
        found = pixel_shuffle(whole, self.symbols)
        return None if found is None else Shuffled(found[0], shuffled, snake, found[1], trims)

    def replace(self, op: Any, plan: Shuffled) -> Any:
        y, shuffled = op.ShuffleSnake(
            plan.data,
            *plan.snake.inputs[1:],
            stride=plan.stride,
            trim_begin=plan.trims[0],
            trim_end=plan.trims[1],
            _domain="omni",
            _version=1,
            _outputs=2,
        )
        return self.with_second(y, plan.shuffled, shuffled)


def pixel_shuffle(value: ir.Value, symbols: Symbols) -> tuple[ir.Value, int] | None:
    """Input and stride of a phase-major pixel shuffle that ends in `value`."""
    joined = made_by(value, "Reshape")
    inner = made_by(joined.inputs[0], "Transpose") if joined is not None else None
    apart = made_by(inner.inputs[0], "Reshape") if inner is not None else None
    if joined is None or inner is None or apart is None or apart.inputs[0] is None:
        return None
    before, phases, after = (symbols.shape(each) for each in (apart.inputs[0], apart.outputs[0], value))
    if before is None or phases is None or after is None or (len(before), len(phases), len(after)) != (3, 4, 3):
        return None
    splits = before[0] == phases[0] and before[2] == phases[3] and before[1] == phases[1] * phases[2]
    joins = after[0] == phases[0] and after[1] == phases[2]
    if list(attribute_of(inner, "perm", [])) != [0, 2, 3, 1] or not (splits and joins and phases[1].is_Integer):
        return None
    return apart.inputs[0], int(phases[1])
