"""Paddings, slice bounds and other integers of a node, as numbers or expressions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx_ir as ir
import sympy

if TYPE_CHECKING:
    from omni_sdk.tools.prepare.symbols import Symbols


def attribute_of(node: ir.Node, name: str, default: Any) -> Any:
    """A node's attribute as a Python value, or `default` where it is absent."""
    found = node.attributes.get(name)
    return default if found is None else found.value


def integers(node: ir.Node, name: str, index: int | None, symbols: Symbols) -> list[int] | None:
    """Plain integers given as an attribute, or in newer operator versions as an input."""
    found = node.attributes.get(name)
    if found is not None:
        return [int(each) for each in (found.value if isinstance(found.value, (list, tuple)) else [found.value])]
    if index is None or index >= len(node.inputs) or node.inputs[index] is None:
        return None
    numbers = symbols.numbers(node.inputs[index])
    return None if numbers is None else [int(each) for each in numbers.ravel()]


def pads_of(node: ir.Node, symbols: Symbols) -> list[tuple[sympy.Expr, sympy.Expr]] | None:
    """Begin and end padding of each axis of a `Pad` node, as expressions."""
    data = symbols.shape(node.inputs[0])
    if data is None:
        return None
    if len(node.inputs) < 2:
        amounts: list[sympy.Expr] = [sympy.Integer(each) for each in attribute_of(node, "pads", [])]
    else:
        content = symbols.content(node.inputs[1])
        if content is None:
            return None
        amounts = list(content.ravel())
    axes: list[int] | None = list(range(len(data)))
    if len(node.inputs) > 3 and node.inputs[3] is not None:
        axes = integers(node, "axes", 3, symbols)
    if axes is None or len(amounts) != 2 * len(axes):
        return None
    result = [(sympy.Integer(0), sympy.Integer(0))] * len(data)
    for place, axis in enumerate(axes):
        result[axis % len(data)] = (amounts[place], amounts[place + len(axes)])
    return result


def spans_of(node: ir.Node, symbols: Symbols) -> dict[int, tuple[sympy.Expr, sympy.Expr]] | None:
    """First and one-past-last index of each sliced axis, for slices of step 1 whose bounds are certain."""
    data = symbols.shape(node.inputs[0])
    if data is None or len(node.inputs) < 3:
        return None
    starts, ends = symbols.content(node.inputs[1]), symbols.content(node.inputs[2])
    if starts is None or ends is None:
        return None
    axes = list(range(starts.size))
    if len(node.inputs) > 3 and node.inputs[3] is not None:
        given = integers(node, "axes", 3, symbols)
        if given is None:
            return None
        axes = [axis % len(data) for axis in given]
    if len(node.inputs) > 4 and node.inputs[4] is not None:
        steps = integers(node, "steps", 4, symbols)
        if steps is None or any(step != 1 for step in steps):
            return None
    spans = {}
    for axis, start, end in zip(axes, starts.ravel(), ends.ravel(), strict=True):
        first, last = _bound(start, data[axis]), _bound(end, data[axis])
        if first is None or last is None or not nonnegative(last - first):
            return None
        spans[axis] = (first, last)
    return spans


def _bound(bound: sympy.Expr, size: sympy.Expr) -> sympy.Expr | None:
    """A slice bound counted from the front, clamped to the axis; None where the clamping depends on the input."""
    if bound.is_Integer and bound < 0:
        bound = size + bound
        return bound if not bound.is_Integer or bound >= 0 else sympy.Integer(0)
    if bound.is_Integer and bound >= 2**31 - 1:
        return size
    if nonnegative(size - bound):
        return bound
    return size if nonnegative(bound - size) else None


def nonnegative(expression: sympy.Expr) -> bool:
    """Whether an expression is at least 0 for every input size; named input dimensions are at least 1."""
    beyond_one = {
        each: sympy.Symbol(each.name, integer=True, nonnegative=True) + 1
        for each in expression.free_symbols
        if each.is_positive
    }
    return bool(sympy.expand(expression.subs(beyond_one, simultaneous=True)).is_nonnegative)


def unknown(value: ir.Value, axis: int) -> sympy.Symbol:
    """A dimension of which nothing is known but that it is one."""
    return sympy.Symbol(f"{value.name}.{axis}", integer=True, nonnegative=True)
