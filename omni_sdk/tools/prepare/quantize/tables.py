"""Tables of embeddings as bytes, with a scale for each row.

    Gather(table, i)   ->   Cast(Gather(bytes, i)) * Gather(scales, i)

A table is most of what a decoder of codes keeps in memory beside its layers, and none of its work: as bytes it is a
quarter as large, and its rows are as quick to fetch. A scale for each row keeps rows of any loudness alike exact.
Standard operators throughout; onnxruntime.quantization knows one scale for a whole table only.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnxscript.optimizer import remove_unused_nodes

from omni_sdk.tools.prepare.quantize.selection import Group
from omni_sdk.tools.prepare.rules.base import constant
from omni_sdk.tools.prepare.symbolic_bounds import attribute_of
from omni_sdk.tools.saving import writing

SMALLEST_TABLE = 1 << 20
"""Bytes in float; smaller tables bring nothing that anyone would notice."""

SHORTEST_ROW = 16
"""Elements; in shorter rows the scale is no small part of the bytes."""

LARGEST_BYTE = 127
SCALE_BYTES = 4
PAGE_BYTES = 4096
ROWS_AT_ONCE = 4096
"""Converted together, so that a table of any size takes little memory on the way."""


def tables_of(model: ir.Model) -> list[Group]:
    """Groups of the tables that can become bytes, by size, with the `Gather` nodes that read them."""
    nodes: dict[str, list[str]] = defaultdict(list)
    saved: dict[str, int] = defaultdict(int)
    for table, readers in _tables(model):
        assert table.const_value is not None, "_reads_table() saw it"
        rows, width = table.const_value.shape.numpy()
        name = f"Gather {rows}x{width}"
        nodes[name] += [str(node.name) for node in readers]
        saved[name] += rows * (3 * width - SCALE_BYTES)
    return [Group(name, tuple(nodes[name]), saved[name]) for name in nodes]


def _tables(model: ir.Model) -> list[tuple[ir.Value, list[ir.Node]]]:
    """Tables and what reads them, in the model's order.

    Constant float32 tables of two axes, read along the first, by `Gather` nodes of the main graph and by nothing else:
    another user would keep the floats in the model, and nothing would be saved.
    """
    found: dict[ir.Value, list[ir.Node]] = defaultdict(list)
    for node in model.graph:
        if _reads_table(node) and node.inputs[0] is not None:
            found[node.inputs[0]].append(node)
    return [(table, nodes) for table, nodes in found.items() if len(table.uses()) == len(nodes)]


def _reads_table(node: ir.Node) -> bool:
    if node.op_type != "Gather" or node.domain not in ("", "ai.onnx") or not node.name:
        return False
    table = node.inputs[0]
    if table is None or table.const_value is None or table.is_graph_input() or table.is_graph_output():
        return False
    tensor = table.const_value
    return (
        attribute_of(node, "axis", 0) == 0
        and tensor.dtype == ir.DataType.FLOAT
        and len(tensor.shape) == 2
        and tensor.shape.numpy()[1] >= SHORTEST_ROW
        and tensor.nbytes >= SMALLEST_TABLE
    )


def tables_to_bytes(model: ir.Model, chosen: Collection[str], folder: Path) -> None:
    """Let the chosen `Gather` nodes read bytes.

    Parameters
    ----------
    model : onnx_ir.Model
        Changed in place.
    chosen : collection of str
        Names of nodes; those that are no `Gather` of a table are not looked at.
    folder : pathlib.Path
        Of the model's file; bytes and scales are written there, so that they need not stay in memory.
    """
    for number, (table, nodes) in enumerate(_tables(model)):
        readers = [node for node in nodes if node.name in chosen]
        if not readers:
            continue
        array = constant(table)
        assert array is not None, "_reads_table() saw it"
        parts = _externalized(row_bytes(array), str(table.name), folder, f"table-{number}.bin")
        values = [_initializer(model.graph, part) for part in parts]
        for node in readers:
            _read_bytes(model.graph, node, *values)
    remove_unused_nodes(model)


def row_bytes(table: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Bytes and the scale of each row, [rows, width] and [rows, 1].

    Symmetric: the largest magnitude of a row is 127 times its scale, so a row's error is at most half a scale. Rows of
    zeros stay zeros.
    """
    bytes_, scales = np.empty(table.shape, np.int8), np.empty((len(table), 1), np.float32)
    for start in range(0, len(table), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        largest = np.abs(table[rows]).max(axis=1, keepdims=True)
        scales[rows] = np.where(largest > 0, largest / np.float32(LARGEST_BYTE), np.float32(1))
        bytes_[rows] = np.clip(np.rint(table[rows] / scales[rows]), -LARGEST_BYTE, LARGEST_BYTE)
    return bytes_, scales


def _externalized(
    arrays: Sequence[NDArray[np.generic]], name: str, folder: Path, file: str
) -> Sequence[ir.ExternalTensor]:
    tensors = [ir.tensor(array, name=f"{name}.{part}") for array, part in zip(arrays, ("bytes", "scales"), strict=True)]
    with writing(folder / file):
        made: Sequence[ir.ExternalTensor] = ir.external_data.convert_tensors_to_external(
            tensors, folder, file, alignment=PAGE_BYTES, align_threshold=0
        )
    return made


def _initializer(graph: ir.Graph, tensor: ir.ExternalTensor) -> ir.Value:
    value = ir.Value(
        name=tensor.name, const_value=tensor, shape=ir.Shape(tensor.shape.numpy()), type=ir.TensorType(tensor.dtype)
    )
    graph.register_initializer(value)
    return value


def _read_bytes(graph: ir.Graph, node: ir.Node, packed: ir.Value, scales: ir.Value) -> None:
    indices, rows = node.inputs[1], node.outputs[0]
    fetched = ir.Node("", "Gather", [packed, indices], name=f"{node.name}.bytes")
    scale = ir.Node("", "Gather", [scales, indices], name=f"{node.name}.scales")
    cast = ir.Node("", "Cast", fetched.outputs, [ir.AttrInt64("to", ir.DataType.FLOAT)], name=f"{node.name}.cast")
    product = ir.Node("", "Mul", [cast.outputs[0], scale.outputs[0]], name=f"{node.name}.dequantized")
    graph.insert_before(node, [fetched, scale, cast, product])
    made = product.outputs[0]
    made.type, made.shape = rows.type, rows.shape
    kept = str(rows.name)
    rows.replace_all_uses_with(made, replace_graph_outputs=True)
    graph.remove(node, safe=True)
    made.name = kept
