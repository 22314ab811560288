"""Everything that does not depend on the inputs is computed now, and what nothing uses goes away.

    Exp(log_alpha), Transpose(weight), Cast(Ceil(Div(frames - 1, 1))) - frames   ->   constants

Plain constants are onnxscript's business; shape arithmetic whose result is the same for every input size, through
symbols, is ours (`symbols.py`).
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common
from onnxscript.optimizer import fold_constants, remove_unused_nodes

from omni_sdk.tools.prepare.ledger import Ledger
from omni_sdk.tools.prepare.rules.identities import remove_identities
from omni_sdk.tools.prepare.symbols import Symbols

TITLE = "constant-folding"
SHAPE_TYPES = {ir.DataType.INT64: np.int64, ir.DataType.INT32: np.int32, ir.DataType.FLOAT: np.float32}
LARGEST_FOLDED_INPUT = 1 << 16  # elements; larger weights fold only by Transpose, which does not grow them


def fold(model: ir.Model, ledger: Ledger) -> None:
    """Fold constants and symbolic shape arithmetic of the main graph, and remove dead nodes."""
    before = len(model.graph)
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    fold_shapes(model)
    fold_constants(model, onnx_shape_inference=False, input_size_limit=LARGEST_FOLDED_INPUT)
    remove_unused_nodes(model)
    remove_identities(model)
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    common.CommonSubexpressionEliminationPass()(model)
    remove_unused_nodes(model)
    if (removed := before - len(model.graph)) > 0:
        ledger.fire(TITLE, f"{removed} nodes")


def fold_shapes(model: ir.Model) -> None:
    """Replace values whose every element is one number, whatever the input size, by that number."""
    symbols, graph = Symbols(model), model.graph
    for node in list(graph):
        value = node.outputs[0] if node.outputs else None
        if value is None or value.is_graph_output() or not value.uses():
            continue
        numbers, dtype = symbols.numbers(value), value.dtype or _dtype(node)
        if numbers is None or dtype not in SHAPE_TYPES:
            continue
        tensor = ir.tensor(numbers.astype(SHAPE_TYPES[dtype]), name=value.name)
        constant = ir.Value(
            name=f"{value.name}.folded", const_value=tensor, shape=ir.Shape(numbers.shape), type=ir.TensorType(dtype)
        )
        graph.register_initializer(constant)
        value.replace_all_uses_with(constant)
    remove_unused_nodes(model)


def _dtype(node: ir.Node) -> ir.DataType | None:
    """The type of a shape computation that no shape inference has visited: that of its operator or of its inputs."""
    if node.op_type in ("Shape", "Size"):
        return ir.DataType.INT64
    if (to := node.attributes.get("to")) is not None:
        return ir.DataType(to.value)
    known = [each.dtype for each in node.inputs if each is not None and each.dtype is not None]
    return known[0] if known and node.op_type != "CastLike" else known[-1] if known else None
