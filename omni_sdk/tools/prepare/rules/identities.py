"""`Identity` nodes of the main graph go away; branches of control flow keep theirs, which may name an outer value.

y = Identity(x)   ->   x
"""

from __future__ import annotations

import onnx_ir as ir


def remove_identities(model: ir.Model) -> None:
    """Let users of each identity's output read its input; a graph output keeps its name."""
    for node in list(model.graph):
        if node.op_type != "Identity" or node.domain not in ("", "ai.onnx") or node.inputs[0] is None:
            continue
        source, output = node.inputs[0], node.outputs[0]
        if output.is_graph_output():
            maker = source.producer()
            if maker is None or maker.graph is not model.graph or source.is_graph_output():
                continue
            output.name, source.name = f"{output.name}.identity", output.name
            source.shape = source.shape or output.shape
        output.replace_all_uses_with(source, replace_graph_outputs=True)
        model.graph.remove(node, safe=True)
