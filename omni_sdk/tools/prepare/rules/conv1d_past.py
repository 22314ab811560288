"""The columns before a chunk become an input of the convolution, and the state for the next chunk an output.

    j = Concat(past [N, C, L], x);  y = omni::Conv1d(Transpose(j), w);  present = j[:, :, -L:]
    ->  y, present = omni::Conv1d(Transpose(x), w, past=Transpose(past));  present = Transpose(present)

with L = (kernel - 1) * dilation, the columns that the convolution looks back; the copy of the whole signal that
`Concat` makes goes away, the transposes are of L columns. A past that is certainly no longer is taken as well, for the
operator takes any length up to L, none included: a transposed convolution's drops its column at the beginning of a
stream. The state of such a one comes from elsewhere.

A `QConv1d` has its signal quantized after `Concat`, and takes the past as floats; what it gives as the state is the
quantized signal's floats, which quantize to the same bytes in the next step.
"""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import common
from onnxscript.optimizer import remove_unused_nodes

from omni_sdk.tools.prepare.ledger import Ledger
from omni_sdk.tools.prepare.rules.base import label, made_by, stand_in
from omni_sdk.tools.prepare.rules.conv1d_node import (
    PRESENT,
    is_convolution,
    number,
    optional_input,
    output,
    places,
    reach,
    set_input,
)
from omni_sdk.tools.prepare.rules.transposes import declare, transpose, turned
from omni_sdk.tools.prepare.symbolic_bounds import attribute_of, spans_of
from omni_sdk.tools.prepare.symbols import Symbols

TITLE = "conv1d-past"
TIME = 2


def take_past(model: ir.Model, ledger: Ledger) -> None:
    """Give every convolution of the main graph that follows a `Concat` with its past that past as an input."""
    symbols = Symbols(model)
    for node in list(model.graph):
        if is_convolution(node) and optional_input(node, places(node).past) is None and not number(node, "pad_begin"):
            _take(model.graph, node, symbols, ledger)
    remove_unused_nodes(model)
    common.TopologicalSortPass()(model)


def _take(graph: ir.Graph, node: ir.Node, symbols: Symbols, ledger: Ledger) -> None:
    read = turned(node.inputs[0])
    quantize = made_by(read, "QuantizeLinear")
    joined = read if quantize is None else quantize.inputs[0]
    concat = made_by(joined, "Concat")
    if joined is None or concat is None or len(concat.inputs) != 2 or attribute_of(concat, "axis", 0) % 3 != TIME:
        return
    past, signal = concat.inputs
    length = reach(node)
    if past is None or signal is None or length == 0:
        return
    if (longest := _longest(past, symbols)) is None or longest > length:
        ledger.refuse(
            TITLE,
            label(node.outputs[0]),
            f"{label(joined)} puts more columns before its signal than the {length} that are looked back at, or may.",
        )
        return
    state = _state(joined, length, symbols) if symbols.dimension(past, TIME) == length else None
    if quantize is not None:
        again = ir.Node("", "QuantizeLinear", [signal, *quantize.inputs[1:]], list(quantize.attributes.values()))
        graph.insert_before(node, again)
        signal = again.outputs[0]
    node.replace_input_with(0, transpose(graph, signal, before=node))
    set_input(node, places(node).past, transpose(graph, past, before=node))
    if state is not None:
        present = output(node, PRESENT)
        declare(present, past, None)
        stand_in(transpose(graph, present, after=node), state)
    ledger.fire(TITLE, label(node.outputs[0]))


def _longest(past: ir.Value, symbols: Symbols) -> int | None:
    """The most columns that a value can have: its own, or those of what it is cut from."""
    cut = made_by(past, "Slice")
    own = symbols.dimension(past, TIME)
    return own if own is not None or cut is None or cut.inputs[0] is None else symbols.dimension(cut.inputs[0], TIME)


def _state(joined: ir.Value, length: int, symbols: Symbols) -> ir.Value | None:
    """The last `length` columns of a signal, where the graph has them."""
    shape = symbols.shape(joined)
    for user, index in joined.uses():
        if index != 0 or made_by(user.outputs[0], "Slice") is None or shape is None:
            continue
        spans = spans_of(user, symbols)
        if spans is not None and list(spans) == [TIME] and spans[TIME] == (shape[TIME] - length, shape[TIME]):
            return user.outputs[0]
    return None
