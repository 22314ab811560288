"""What stands behind a convolution becomes part of it, computed while its outputs are in registers.

    y = omni::Conv1d(x, w);  a = y + bias         ->   a = omni::Conv1d(x, w, bias=bias)
    y = omni::Conv1d(x, w);  a = y + residual     ->   a = omni::Conv1d(x, w, residual=residual)
    y = omni::Conv1d(x, w);  a = omni::Snake(y)   ->   a, y = omni::Conv1d(x, w, alpha, inv_beta)
    y = omni::QConv1d(x, w);  q = QuantizeLinear(y)   ->   q = omni::QConv1d(x, w, y_scale, y_zero_point)

`AddSnake` is a residual and a Snake. A pixel shuffle that is a view stands aside: Snake before it has its parameters
repeated for each phase. The sum before Snake is an output where something else needs it, and so is what is quantized.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common
from onnxscript.optimizer import remove_unused_nodes

from omni_sdk.tools.prepare.ledger import Ledger
from omni_sdk.tools.prepare.rules.base import constant, label, stand_in
from omni_sdk.tools.prepare.rules.channels_last_forms import Hand
from omni_sdk.tools.prepare.rules.conv1d_node import (
    BIAS,
    BYTES,
    SUM,
    Y,
    is_conv1d,
    is_convolution,
    number,
    optional_input,
    output,
    places,
    set_input,
)
from omni_sdk.tools.prepare.rules.qconv1d_node import OFFSET, Y_SCALE, Y_ZERO_POINT, offset_with
from omni_sdk.tools.prepare.rules.quantized_snake import quantization_of
from omni_sdk.tools.prepare.symbolic_bounds import attribute_of
from omni_sdk.tools.prepare.symbols import Symbols

TITLE = "conv1d-epilogue"


def fuse_epilogues(model: ir.Model, ledger: Ledger) -> None:
    """Take additions and activations behind the convolutions of the main graph into them."""
    symbols = Symbols(model)
    for node in [each for each in model.graph if is_convolution(each)]:
        for step in (_bias, _residual, _add_snake, _snake, _shuffled_snake, _quantize):
            if step(model.graph, node, symbols):
                ledger.fire(TITLE, label(node.outputs[Y]))
    remove_unused_nodes(model)
    common.TopologicalSortPass()(model)


def _lone_user(value: ir.Value, *op_types: str) -> ir.Node | None:
    """The only node that reads a value, if it is one of `op_types` and reads it once."""
    users = list(value.uses())
    if len(users) != 1 or value.is_graph_output() or users[0][0].op_type not in op_types:
        return None
    return users[0][0]


def _other(node: ir.Node, value: ir.Value) -> ir.Value | None:
    first, second = node.inputs[:2]
    return second if first is value else first


def _has_residual(node: ir.Node) -> bool:
    return optional_input(node, places(node).residual) is not None


def _has_snake(node: ir.Node) -> bool:
    return optional_input(node, places(node).alpha) is not None


def _bias(graph: ir.Graph, node: ir.Node, symbols: Symbols) -> bool:
    y = node.outputs[Y]
    add = _lone_user(y, "Add")
    array = constant(_other(add, y)) if add is not None else None
    channels = number(node, "out_channels")
    if add is None or array is None or _has_residual(node) or _has_snake(node):
        return False
    if array.dtype != np.float32 or array.size != channels or array.shape[-1:] != (channels,) or array.ndim > 3:
        return False
    bias, hand = array.reshape(channels), Hand(graph, node, symbols)
    if is_conv1d(node):
        set_input(node, BIAS, hand.initializer(bias))
    elif (offset := offset_with(node, bias)) is not None:
        set_input(node, OFFSET, hand.initializer(offset))
    else:
        return False
    _replace(add, y)
    return True


def _residual(graph: ir.Graph, node: ir.Node, symbols: Symbols) -> bool:
    y = node.outputs[Y]
    add = _lone_user(y, "Add")
    residual = _other(add, y) if add is not None else None
    if add is None or residual is None or _has_residual(node) or _has_snake(node):
        return False
    if not symbols.same_shape(y, residual):
        return False
    set_input(node, places(node).residual, residual)
    _replace(add, y)
    return True


def _add_snake(graph: ir.Graph, node: ir.Node, symbols: Symbols) -> bool:
    y = node.outputs[Y]
    both = _lone_user(y, "AddSnake")
    residual = _other(both, y) if both is not None else None
    if both is None or residual is None or _has_residual(node) or _has_snake(node) or not _is_last(both):
        return False
    set_input(node, places(node).residual, residual)
    _set_snake(node, both.inputs[2], both.inputs[3])
    if len(both.outputs) > 1 and (both.outputs[1].uses() or both.outputs[1].is_graph_output()):
        stand_in(output(node, SUM), both.outputs[1])
    _replace(both, y)
    return True


def _snake(graph: ir.Graph, node: ir.Node, symbols: Symbols) -> bool:
    y = node.outputs[Y]
    snake = next((user for user, _ in y.uses() if user.op_type == "Snake" and _is_last(user)), None)
    if snake is None or _has_snake(node):
        return False
    _set_snake(node, snake.inputs[1], snake.inputs[2])
    if len(y.uses()) > 1 or y.is_graph_output():
        stand_in(output(node, SUM), y)
    _replace(snake, y)
    return True


def _shuffled_snake(graph: ir.Graph, node: ir.Node, symbols: Symbols) -> bool:
    y = node.outputs[Y]
    view = _lone_user(y, "Reshape")
    shuffled = view.outputs[0] if view is not None else None
    snake = (
        next((user for user, _ in shuffled.uses() if user.op_type == "Snake" and _is_last(user)), None)
        if shuffled is not None
        else None
    )
    if view is None or shuffled is None or snake is None or _has_snake(node):
        return False
    parameters = [constant(each) for each in snake.inputs[1:3]]
    stride = number(node, "out_channels") // len(parameters[0]) if parameters[0] is not None else 0
    if parameters[0] is None or parameters[1] is None or stride * len(parameters[0]) != number(node, "out_channels"):
        return False
    hand = Hand(graph, node, symbols)
    _set_snake(node, *(hand.initializer(np.tile(each, stride)) for each in parameters if each is not None))
    if len(shuffled.uses()) > 1 or shuffled.is_graph_output():
        beside = Hand(graph, view, symbols).op("Reshape", output(node, SUM), view.inputs[1])
        stand_in(beside, shuffled)
    activated = Hand(graph, view, symbols).op("Reshape", y, view.inputs[1])
    _replace(snake, activated)
    graph.remove(view, safe=True)
    return True


def _quantize(graph: ir.Graph, node: ir.Node, symbols: Symbols) -> bool:
    """What moves the signal about before it is quantized moves its bytes instead."""
    if is_conv1d(node) or optional_input(node, Y_SCALE) is not None:
        return False
    moves, value = [], node.outputs[Y]
    while (quantize := _quantizer(value)) is None:
        move = _lone_user(value, "Reshape", "Slice")
        if move is None or move.inputs[0] is not value:
            return False
        moves.append(move)
        value = move.outputs[0]
    set_input(node, Y_SCALE, _given(quantize.inputs[1]))
    set_input(node, Y_ZERO_POINT, _given(quantize.inputs[2]))
    moved = output(node, BYTES)
    for move in moves:
        moved = Hand(graph, move, symbols).op(move.op_type, moved, *move.inputs[1:], like=move)
    _replace(quantize, moved)
    for made in reversed([node, *moves]):
        if made.outputs[0].uses() or made.outputs[0].is_graph_output():
            break
        if made is node:
            made.outputs[Y].name = ""
        else:
            graph.remove(made, safe=True)
    return True


def _quantizer(value: ir.Value) -> ir.Node | None:
    """What makes unsigned bytes of a value, all channels alike."""
    for user, _ in value.uses():
        quantization = quantization_of(user.outputs[0]) if user.op_type == "QuantizeLinear" else None
        if quantization is not None and quantization.dtype == np.uint8:
            return user
    return None


def _given(value: ir.Value | None) -> ir.Value:
    assert value is not None, "a quantization that is known has both"
    return value


def _replace(node: ir.Node, value: ir.Value) -> None:
    """Let a value stand in for a node's first output, and take the node out at once: it counts as a user no more."""
    assert node.graph is not None, "nodes of the main graph"
    stand_in(value, node.outputs[0])
    node.graph.remove(node, safe=True)


def _is_last(node: ir.Node) -> bool:
    return node.domain == "omni" and bool(attribute_of(node, "channels_last", 0))


def _set_snake(node: ir.Node, alpha: ir.Value | None, inv_beta: ir.Value | None) -> None:
    assert alpha is not None and inv_beta is not None, "Snake's parameters are not optional"
    set_input(node, places(node).alpha, alpha)
    set_input(node, places(node).inv_beta, inv_beta)
