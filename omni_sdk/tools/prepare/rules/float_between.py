"""Where no layer on bytes reads a quantized tensor, its floats are read as they were before.

    v;  d = DequantizeLinear(QuantizeLinear(v));  f(d)   ->   f(v)

onnxruntime.quantization puts bytes behind every quantized layer, since ONNX Runtime's quantized layers give bytes.
`omni::QConv1d` gives floats, so a Snake or a sum behind it loses nothing to rounding. Where v comes from a layer that
ONNX Runtime will compute on bytes it stays, since that layer is recognised by it.
"""

from __future__ import annotations

import onnx_ir as ir
from onnxscript.optimizer import remove_unused_nodes

from omni_sdk.tools.prepare.ledger import Ledger
from omni_sdk.tools.prepare.rules.base import label, made_by

TITLE = "float-between"


def float_between(model: ir.Model, ledger: Ledger) -> None:
    """Let everything in the main graph but quantized layers read floats."""
    for node in list(model.graph):
        quantize = made_by(node.inputs[0], "QuantizeLinear") if node.op_type == "DequantizeLinear" else None
        source = quantize.inputs[0] if quantize is not None else None
        if source is None or _is_on_bytes(source.producer()):
            continue
        output, changed = node.outputs[0], 0
        for user, index in list(output.uses()):
            if not _is_on_bytes(user):
                user.replace_input_with(index, source)
                changed += 1
        if output.is_graph_output() and source.producer() is not None and not source.is_graph_output():
            output.name, source.name = f"{output.name}.bytes", output.name
            model.graph.outputs[model.graph.outputs.index(output)] = source
            changed += 1
        if changed:
            ledger.fire(TITLE, label(source))
    remove_unused_nodes(model)


def _is_on_bytes(node: ir.Node | None) -> bool:
    """Whether ONNX Runtime makes a quantized layer of a node and what stands around it."""
    return (
        node is not None
        and node.op_type in ("Conv", "MatMul")
        and any(made_by(each, "DequantizeLinear") is not None for each in node.inputs[1:2])
    )
