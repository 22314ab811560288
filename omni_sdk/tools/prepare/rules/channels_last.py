"""Operators between quantized convolutions work channels last, as ONNX Runtime's quantized convolutions do.

    omni::QSnake(x)   ->   Transpose(omni::QSnake<channels_last = 1>(Transpose(x)))

and so for `QShuffleSnake` and `QAddSnake`. ONNX Runtime computes `QLinearConv` channels last and puts a transpose on
either side; written like this they meet their inverses and both go away. The residual's float sum, which runs from
one unit to the next, is moved only where it begins in this layout, so that it is never transposed on the way.
"""

from __future__ import annotations

import onnx_ir as ir

from omni_sdk.tools.prepare.ledger import Ledger
from omni_sdk.tools.prepare.rules.base import label, made_by
from omni_sdk.tools.prepare.rules.transposes import declare, swapped, transpose

TITLE = "channels-last"
SIGNALS = {"QSnake": (0,), "QShuffleSnake": (0,), "QAddSnake": (0, 3)}
"""Which inputs of an operator are signals."""


def to_channels_last(model: ir.Model, ledger: Ledger) -> None:
    """Turn the quantized operators of the main graph to channels last, between transposes."""
    for node in list(model.graph):
        if node.domain != "omni" or node.op_type not in SIGNALS or node.attributes["channels_last"].as_int():
            continue
        if node.op_type == "QAddSnake" and not _begins_channels_last(node.inputs[3]):
            ledger.refuse(
                TITLE, label(node.outputs[0]), f"The residual of {label(node.outputs[0])} lies channels first."
            )
            continue
        _turn(model.graph, node)
        ledger.fire(TITLE, label(node.outputs[0]))


def _begins_channels_last(residual: ir.Value | None) -> bool:
    transpose = made_by(residual, "Transpose")
    source = transpose.inputs[0].producer() if transpose is not None and transpose.inputs[0] is not None else None
    return source is not None and source.domain == "omni" and source.op_type in SIGNALS


def _turn(graph: ir.Graph, node: ir.Node) -> None:
    for index in SIGNALS[node.op_type]:
        source = node.inputs[index]
        assert source is not None, "the operators' signals are not optional"
        node.replace_input_with(index, transpose(graph, source, before=node))
    node.attributes["channels_last"] = ir.AttrInt64("channels_last", 1)
    for value in node.outputs:
        outside = transpose(graph, value, after=node)
        declare(outside, value, value.shape)
        value.shape = swapped(value.shape)
        for user, index in list(value.uses()):
            if user is not outside.producer():
                user.replace_input_with(index, outside)
        if value.is_graph_output():
            outside.name, value.name = value.name, f"{value.name}.channels_last"
            graph.outputs[graph.outputs.index(value)] = outside
