"""Transposes between layouts move towards the outputs until they meet their inverses, and both go away.

    f(Transpose(x))                           ->   Transpose(f(x)),  f computed for each element
    Add(Transpose(a), Transpose(b))           ->   Transpose(Add(a, b))
    Slice(Transpose(x), axes=[2])             ->   Transpose(Slice(x, axes=[1])),  and so for Concat and Pad
    pixel shuffle of Transpose(x) by s, to C  ->   Transpose(Reshape(x, [0, -1, C])):  a view, phases lie in order
    Transpose(Transpose(x))                   ->   x
    Transpose(f(x))                           ->   f(Transpose(x)),  first of all, where nothing else reads f(x):
                                                   a sum with x beside it then finds x transposed already

What is left stands at the borders of the part that lies channels last, and around operators that know only the other
layout, such as depthwise convolutions. Between a single channel and a single column nothing moves: such a transpose
becomes a `Reshape`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common
from onnxscript.optimizer import remove_unused_nodes

from omni_sdk.tools.prepare.ledger import Ledger
from omni_sdk.tools.prepare.rules.base import label, stand_in
from omni_sdk.tools.prepare.rules.channels_last_forms import ELEMENTWISE, FORMS, SCALED, Hand, has_one_scale
from omni_sdk.tools.prepare.rules.transposes import declare, swapped, transpose, turned
from omni_sdk.tools.prepare.symbolic_bounds import attribute_of
from omni_sdk.tools.prepare.symbols import Symbols

TITLE = "sink-transposes"
LIFTED = frozenset((*ELEMENTWISE, "Snake", *SCALED))


def sink_transposes(model: ir.Model, ledger: Ledger) -> None:
    """Move the transposes of the main graph as far down as they go, and take out those that cancel."""
    graph = model.graph
    for node in reversed(list(graph)):
        if node.outputs and turned(node.outputs[0]) is not None:
            _lift(graph, node)
    common.CommonSubexpressionEliminationPass()(model)
    symbols = Symbols(model)
    for node in list(graph):
        if node.domain not in ("", "ai.onnx", "omni") or not node.outputs:
            continue
        if (inner := turned(node.outputs[0])) is not None and (source := turned(inner)) is not None:
            _bypass(node.outputs[0], source)
        elif (form := FORMS.get(node.op_type)) is not None:
            hand = Hand(graph, node, symbols)
            if (made := form(hand, node)) is not None:
                _stand_in_transposed(graph, node, made)
                ledger.fire(TITLE, label(node.outputs[0]))
    remove_unused_nodes(model)
    common.TopologicalSortPass()(model)
    common.CommonSubexpressionEliminationPass()(model)
    _view_what_is_thin(graph, Symbols(model))
    remove_unused_nodes(model)
    common.TopologicalSortPass()(model)


def _lift(graph: ir.Graph, node: ir.Node) -> None:
    """Move a transpose above the elementwise operator before it, so that others may share it."""
    inner = node.inputs[0]
    maker = inner.producer() if inner is not None else None
    if inner is None or maker is None or maker.op_type not in LIFTED or attribute_of(maker, "channels_last", 0):
        return
    if len(inner.uses()) > 1 or inner.is_graph_output() or maker.inputs[0] is None:
        return
    if maker.op_type in SCALED and not has_one_scale(maker):
        return
    before = transpose(graph, maker.inputs[0], before=maker)
    maker.replace_input_with(0, before)
    if maker.op_type == "Snake":
        maker.attributes["channels_last"] = ir.AttrInt64("channels_last", 1)
    inner.shape = swapped(inner.shape)
    stand_in(inner, node.outputs[0])
    graph.remove(node, safe=True)
    above = before.producer()
    assert above is not None, "just made"
    _lift(graph, above)


def _bypass(value: ir.Value, source: ir.Value) -> None:
    """Let users of a value read an equal one; an output of the graph gives its name to what it equals."""
    if value.is_graph_output() and source.producer() is not None and not source.is_graph_output():
        stand_in(source, value)
    for user, index in list(value.uses()):
        user.replace_input_with(index, source)


def _stand_in_transposed(graph: ir.Graph, node: ir.Node, made: Sequence[ir.Value]) -> None:
    for old, new in zip(node.outputs, made, strict=True):
        declare(new, old, None)
        if old.uses() or old.is_graph_output():
            stand_in(transpose(graph, new, before=node), old)


def _view_what_is_thin(graph: ir.Graph, symbols: Symbols) -> None:
    """A transpose of one channel or one column moves nothing: it is a reshape, which copies nothing either."""
    for node in list(graph):
        source = turned(node.outputs[0]) if node.outputs else None
        if source is None:
            continue
        for axis, target in ((1, [0, -1, 1]), (2, [0, 1, -1])):
            if symbols.dimension(source, axis) == 1:
                view = Hand(graph, node, symbols).op("Reshape", source, np.array(target, np.int64))
                declare(view, node.outputs[0], None)
                stand_in(view, node.outputs[0])
                break
