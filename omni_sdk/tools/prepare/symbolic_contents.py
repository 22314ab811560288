"""Contents of small tensors, shapes above all, as expressions in the input dimensions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir
import sympy

from omni_sdk.tools.prepare.symbolic_bounds import attribute_of, integers, spans_of

if TYPE_CHECKING:
    from omni_sdk.tools.prepare.symbols import Content, Symbols

INTEGER_TYPES = frozenset(
    (ir.DataType.INT64, ir.DataType.INT32, ir.DataType.INT16, ir.DataType.INT8, ir.DataType.UINT8)
)


def contents_of(node: ir.Node, value: ir.Value, symbols: Symbols) -> Content | None:
    """Elements of one of `node`'s outputs, or None where the operator or its inputs are not understood."""
    if value is not node.outputs[0] or node.domain not in ("", "ai.onnx"):
        return None
    if node.op_type == "Shape":
        return _shape(node, symbols)
    if node.op_type == "Size":
        shape = symbols.shape(node.inputs[0])
        return None if shape is None else np.array(sympy.Mul(*shape), dtype=object)
    inputs = [symbols.content(each) for each in node.inputs]
    if node.op_type in ARITHMETIC:
        return None if any(each is None for each in inputs) else _each(ARITHMETIC[node.op_type], inputs)
    rule = CONTENTS.get(node.op_type)
    return rule(node, inputs, symbols) if rule is not None and inputs and inputs[0] is not None else None


def _each(function: Callable[..., sympy.Expr | None], inputs: list[Content | None]) -> Content | None:
    arrays = np.broadcast_arrays(*(each for each in inputs if each is not None))
    result = np.empty(arrays[0].shape, dtype=object)
    for index in np.ndindex(*result.shape):
        element = function(*(array[index] for array in arrays))
        if element is None:
            return None
        result[index] = element
    return result


def _shape(node: ir.Node, symbols: Symbols) -> Content | None:
    data = symbols.shape(node.inputs[0])
    if data is None:
        return None
    chosen = data[attribute_of(node, "start", 0) : attribute_of(node, "end", None)]
    result = np.empty(len(chosen), dtype=object)
    result[:] = chosen
    return result


def _divide(numerator: sympy.Expr, denominator: sympy.Expr) -> sympy.Expr | None:
    """Division whose result is certain: exact, or of plain numbers (truncated, as integer `Div` is)."""
    if denominator == 0:
        return None
    ratio = sympy.cancel(numerator / denominator)
    if ratio.is_integer or ratio.has(sympy.Float):
        return ratio
    return ratio if ratio.is_Rational else None


def _modulo(numerator: sympy.Expr, denominator: sympy.Expr) -> sympy.Expr | None:
    result = sympy.Mod(numerator, denominator) if denominator != 0 else None
    return result if result is not None and result.is_Integer else None


ARITHMETIC: dict[str, Callable[..., sympy.Expr | None]] = {
    "Add": lambda a, b: sympy.expand(a + b),
    "Sub": lambda a, b: sympy.expand(a - b),
    "Mul": lambda a, b: sympy.expand(a * b),
    "Mod": _modulo,
    "Neg": lambda a: -a,
    "Ceil": sympy.ceiling,
    "Floor": sympy.floor,
    "Max": sympy.Max,
    "Min": sympy.Min,
}


def _division(node: ir.Node, inputs: list[Content | None], symbols: Symbols) -> Content | None:
    if inputs[1] is None:
        return None
    ratio = _each(_divide, inputs)
    types = {value.dtype for value in (*node.inputs, *node.outputs) if value is not None}
    if ratio is None or not types & INTEGER_TYPES:
        return ratio
    return _each(
        lambda each: sympy.Integer(int(each)) if each.is_number else each if each.is_integer else None, [ratio]
    )


def _cast(node: ir.Node, inputs: list[Content | None], symbols: Symbols) -> Content | None:
    to = node.attributes.get("to")
    like = node.inputs[1] if len(node.inputs) > 1 else None
    target = ir.DataType(to.value) if to is not None else like.dtype if like is not None else None
    if target in INTEGER_TYPES:
        return _each(
            lambda each: each if each.is_integer else sympy.Integer(int(each)) if each.is_number else None, inputs[:1]
        )
    return inputs[0] if target in (ir.DataType.FLOAT, ir.DataType.DOUBLE) else None


def _gather(node: ir.Node, inputs: list[Content | None], symbols: Symbols) -> Content | None:
    index = symbols.numbers(node.inputs[1])
    return None if index is None or inputs[0] is None else np.take(inputs[0], index, axis=attribute_of(node, "axis", 0))


def _concat(node: ir.Node, inputs: list[Content | None], symbols: Symbols) -> Content | None:
    known = [each for each in inputs if each is not None]
    return np.concatenate(known, axis=attribute_of(node, "axis", 0)) if len(known) == len(inputs) else None


def _slice(node: ir.Node, inputs: list[Content | None], symbols: Symbols) -> Content | None:
    spans = spans_of(node, symbols)
    if spans is None or inputs[0] is None or not all(a.is_Integer and b.is_Integer for a, b in spans.values()):
        return None
    index = [slice(None)] * inputs[0].ndim
    for axis, (start, end) in spans.items():
        index[axis] = slice(int(start), int(end))
    return inputs[0][tuple(index)]


def _reshaped(node: ir.Node, inputs: list[Content | None], symbols: Symbols) -> Content | None:
    shape = symbols.shape(node.outputs[0])
    if inputs[0] is None or shape is None or not all(size.is_Integer for size in shape):
        return None
    return inputs[0].reshape([int(size) for size in shape])


def _expanded(node: ir.Node, inputs: list[Content | None], symbols: Symbols) -> Content | None:
    shape = symbols.shape(node.outputs[0])
    if inputs[0] is None or shape is None or not all(size.is_Integer and size <= 64 for size in shape):
        return None
    return np.broadcast_to(inputs[0], [int(size) for size in shape])


def _squeezed(node: ir.Node, inputs: list[Content | None], symbols: Symbols) -> Content | None:
    axes = integers(node, "axes", 1, symbols)
    return None if inputs[0] is None else np.squeeze(inputs[0], axis=None if axes is None else tuple(axes))


CONTENTS: dict[str, Callable[[ir.Node, list[Content | None], Symbols], Content | None]] = {
    "Cast": _cast,
    "CastLike": _cast,
    "Concat": _concat,
    "Div": _division,
    "Expand": _expanded,
    "Gather": _gather,
    "Identity": lambda node, inputs, symbols: inputs[0],
    "Reshape": _reshaped,
    "Slice": _slice,
    "Squeeze": _squeezed,
    "Unsqueeze": _reshaped,
}
