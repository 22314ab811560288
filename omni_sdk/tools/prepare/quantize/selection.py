"""Which layers are INT8: groups of alike layers, and the quantized model with some of them left in float.

onnxruntime.quantization quantizes everything once; here layers are given their floats back, which is a matter of
wiring, so that many selections can be measured without quantizing anew.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir
from onnx_ir.passes import common
from onnxscript.optimizer import remove_unused_nodes

from omni_sdk.tools.prepare.quantize.qdq import QUANTIZABLE
from omni_sdk.tools.prepare.rules.base import constant
from omni_sdk.tools.prepare.symbolic_bounds import attribute_of


@dataclass(frozen=True, slots=True)
class Group:
    """Layers of one operator and one shape of weights; they have one cost and, mostly, one place in the model.

    A table of embeddings is a group of its own: it saves bytes, not time.
    """

    name: str
    nodes: tuple[str, ...]
    saved_bytes: int = 0  # of a table; a layer is chosen by the time it saves


def groups_of(model: ir.Model) -> list[Group]:
    """Groups of the layers that can be quantized, in the model's order."""
    found: dict[str, list[str]] = defaultdict(list)
    for node in model.graph:
        if node.domain not in ("", "ai.onnx") or node.op_type not in QUANTIZABLE or not node.name:
            continue
        weight = constant(node.inputs[1])
        if weight is None or weight.ndim < 2 or (node.op_type == "Conv" and weight.ndim != 3):
            continue
        shape = "x".join(map(str, weight.shape))
        groups = attribute_of(node, "group", 1)
        found[f"{node.op_type} {shape}" + (f" groups {groups}" if groups > 1 else "")].append(node.name)
    return [Group(name, tuple(nodes)) for name, nodes in found.items()]


def select(quantized: Path, original: Path, chosen: Collection[str]) -> ir.Model:
    """The quantized model with every layer that is not among `chosen` in float again.

    Parameters
    ----------
    quantized : pathlib.Path
        The model with all layers quantized.
    original : pathlib.Path
        The FP32 model, for the weights.
    chosen : collection of str
        Names of the nodes to keep quantized.

    Returns
    -------
    onnx_ir.Model
    """
    model, floats = ir.load(quantized), ir.load(original)
    before = {node.name: node for node in floats.graph}
    layers = [node for node in model.graph if node.op_type in QUANTIZABLE and node.domain in ("", "ai.onnx")]
    for node in layers:
        if node.name in before and node.name not in chosen:
            _restore_parameters(model, node, before[node.name])
    kept = {id(node) for node in layers if node.name in chosen}
    for node in list(model.graph):
        if node.op_type == "DequantizeLinear" and node.inputs[0] is not None:
            _bypass_unless_needed(node, kept)
    remove_unused_nodes(model)
    common.RemoveUnusedOpsetsPass()(model)
    return model


def _restore_parameters(model: ir.Model, node: ir.Node, before: ir.Node) -> None:
    for index, parameter in enumerate(before.inputs):
        if index == 0 or parameter is None or parameter.const_value is None:
            continue
        name = f"{parameter.name}.float"
        value = model.graph.initializers.get(name)
        if value is None:
            value = ir.Value(
                name=name,
                const_value=parameter.const_value,
                shape=ir.Shape(parameter.const_value.shape.numpy()),
                type=parameter.type,
            )
            model.graph.register_initializer(value)
        node.replace_input_with(index, value)


def _bypass_unless_needed(dequantize: ir.Node, kept: set[int]) -> None:
    """Take a quantize-dequantize pair out where no quantized layer makes the tensor and none reads it."""
    source, output = dequantize.inputs[0], dequantize.outputs[0]
    quantize = source.producer() if source is not None else None
    if quantize is None or quantize.op_type != "QuantizeLinear" or quantize.inputs[0] is None:
        return
    value = quantize.inputs[0]
    producer = value.producer()
    touched = [user for user, _ in output.uses()] + ([producer] if producer is not None else [])
    if any(id(node) in kept for node in touched):
        return
    if output.is_graph_output():
        output.name, value.name = f"{output.name}.bypassed", output.name
    output.replace_all_uses_with(value, replace_graph_outputs=True)
