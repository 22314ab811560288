"""Slice bounds and reshape targets become constants that hold for every input size.

    Slice(x, [8], [Shape(x)[2] - 8], axes=[2])          ->  Slice(x, [8], [-8], axes=[2])
    Slice(x, [0], [2 * frames], axes=[2]), x as long    ->  Slice(x, [0], [to the end], axes=[2])
    Reshape(x, [1, frames, 16, 64])                     ->  Reshape(x, [1, -1, 16, 64])
    Reshape(x, [1, frames, heads, width]), x [1, frames, ..]  ->  Reshape(x, [0, 0, heads, width])

What remains of the shape arithmetic behind them is then unused and goes away with the dead code.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import sympy
from numpy.typing import NDArray

from omni_sdk.tools.prepare.rules.base import Rule, constant
from omni_sdk.tools.prepare.symbolic_bounds import spans_of

TO_THE_END = np.iinfo(np.int64).max


class StaticSlice(Rule[tuple[ir.Value, list[NDArray[np.int64]]]]):
    """Slices whose start is fixed and whose end is fixed from one side or the other."""

    title = "static-slice-bounds"

    def pattern(self, op: Any, x: Any, starts: Any, ends: Any) -> Any:
        return op.Slice(x, starts, ends, _allow_other_inputs=True, _outputs=["root"])

    def plan(
        self, x: ir.Value, starts: ir.Value, ends: ir.Value, root: ir.Value
    ) -> tuple[ir.Value, list[NDArray[np.int64]]] | None:
        node, shape = root.producer(), self.symbols.shape(x)
        if node is None or all(constant(each) is not None for each in node.inputs[1:]):
            return None
        spans = spans_of(node, self.symbols)
        if spans is None or shape is None:
            return None
        first, last = [], []
        for axis, (start, end) in spans.items():
            from_end = sympy.expand(end - shape[axis])
            if not start.is_Integer or not (from_end.is_Integer or end.is_Integer):
                return None
            first.append(int(start))
            last.append(int(end) if not from_end.is_Integer else int(from_end) if from_end != 0 else TO_THE_END)
        return x, [np.array(first, np.int64), np.array(last, np.int64), np.array(list(spans), np.int64)]

    def replace(self, op: Any, plan: tuple[ir.Value, list[NDArray[np.int64]]]) -> Any:
        data, bounds = plan
        return op.Slice(data, *(self.initializer(op, data, bound) for bound in bounds))


class StaticReshape(Rule[tuple[ir.Value, NDArray[np.int64]]]):
    """Reshapes of which at most one dimension cannot be named by a number or taken from the input."""

    title = "static-reshape"

    def pattern(self, op: Any, x: Any, target: Any) -> Any:
        return op.Reshape(x, target, _outputs=["root"])

    def plan(self, x: ir.Value, target: ir.Value, root: ir.Value) -> tuple[ir.Value, NDArray[np.int64]] | None:
        before, after = self.symbols.shape(x), self.symbols.shape(root)
        if constant(target) is not None or after is None or self.symbols.content(target) is None:
            return None
        sizes: list[int | None] = [int(size) if size.is_Integer else None for size in after]
        if 0 in sizes:
            return None
        for axis, size in enumerate(after):
            if sizes.count(None) > 1 and sizes[axis] is None and before is not None and axis < len(before):
                sizes[axis] = 0 if sympy.expand(before[axis] - size) == 0 else None
        if sizes.count(None) > 1:
            return None
        return x, np.array([-1 if size is None else size for size in sizes], np.int64)

    def replace(self, op: Any, plan: tuple[ir.Value, NDArray[np.int64]]) -> Any:
        data, target = plan
        return op.Reshape(data, self.initializer(op, data, target))
