"""Operators that change nothing, whatever the input size, go away.

    y = Slice(x, 0, length of x)      y = Pad(x, zeros)      y = Expand(x, shape of x)
    y = Reshape(x, shape of x)        y = Transpose(x) in the same order        y = Cast(x, type of x)
    ->  y = x

Exporters keep them because at export time the sizes are symbols; see `symbols.py` for how sameness is proved.
"""

from __future__ import annotations

from typing import Any, ClassVar

import onnx_ir as ir

from omni_sdk.tools.prepare.rules.base import Rule
from omni_sdk.tools.prepare.symbolic_bounds import attribute_of, pads_of, spans_of


class NoOp(Rule[ir.Value]):
    """Replaces one kind of operator by its input where `changes_nothing` says so."""

    title: ClassVar[str] = "no-ops"
    op_type: ClassVar[str]

    def pattern(self, op: Any, x: Any) -> Any:
        return getattr(op, self.op_type)(x, _allow_other_inputs=True, _outputs=["root"])

    def changes_nothing(self, node: ir.Node) -> bool:
        source = node.inputs[0]
        return source is not None and self.symbols.same_shape(source, node.outputs[0])

    def plan(self, x: ir.Value, root: ir.Value) -> ir.Value | None:
        node = root.producer()
        return x if node is not None and self.changes_nothing(node) else None

    def replace(self, op: Any, plan: ir.Value) -> Any:
        return op.Identity(plan)


class NoOpSlice(NoOp):
    op_type = "Slice"

    def changes_nothing(self, node: ir.Node) -> bool:
        return spans_of(node, self.symbols) is not None and super().changes_nothing(node)


class NoOpPad(NoOp):
    op_type = "Pad"

    def changes_nothing(self, node: ir.Node) -> bool:
        pads = pads_of(node, self.symbols)
        return pads is not None and all(begin == 0 and end == 0 for begin, end in pads)


class NoOpExpand(NoOp):
    op_type = "Expand"


class NoOpReshape(NoOp):
    op_type = "Reshape"


class NoOpTranspose(NoOp):
    op_type = "Transpose"

    def changes_nothing(self, node: ir.Node) -> bool:
        perm = attribute_of(node, "perm", None)
        return perm is not None and list(perm) == sorted(perm)


class NoOpCast(NoOp):
    op_type = "Cast"

    def changes_nothing(self, node: ir.Node) -> bool:
        source = node.inputs[0]
        return source is not None and source.dtype is not None and source.dtype == attribute_of(node, "to", None)


NO_OPS = (NoOpSlice, NoOpPad, NoOpExpand, NoOpReshape, NoOpTranspose, NoOpCast)
