"""Transposes between the two layouts of a signal: [batch, channels, time] and [batch, time, channels]."""

from __future__ import annotations

import onnx_ir as ir

from omni_sdk.tools.prepare.rules.base import made_by
from omni_sdk.tools.prepare.symbolic_bounds import attribute_of

SWAP = (0, 2, 1)


def turned(value: ir.Value | None) -> ir.Value | None:
    """What `value` is the transpose of; None where it is none between layouts."""
    node = made_by(value, "Transpose")
    return node.inputs[0] if node is not None and tuple(attribute_of(node, "perm", ())) == SWAP else None


def transpose(
    graph: ir.Graph, source: ir.Value, *, before: ir.Node | None = None, after: ir.Node | None = None
) -> ir.Value:
    """A new transpose of `source`, before one node or after another."""
    node = ir.Node("", "Transpose", [source], [ir.AttrInt64s("perm", SWAP)])
    if before is not None:
        graph.insert_before(before, node)
    else:
        assert after is not None, "a place is given"
        graph.insert_after(after, node)
    declare(node.outputs[0], source, swapped(source.shape))
    return node.outputs[0]


def declare(value: ir.Value, like: ir.Value, shape: ir.Shape | None) -> None:
    """Type and shape, where the type is known: a shape without a type cannot be written."""
    if like.dtype is not None:
        value.dtype, value.shape = like.dtype, shape


def swapped(shape: ir.Shape | None) -> ir.Shape | None:
    """A shape in the other layout."""
    return None if shape is None or len(shape) != 3 else ir.Shape([shape[axis] for axis in SWAP])
