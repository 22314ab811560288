"""Shapes and small integer tensors as exact expressions in the input dimensions.

Exporters write shapes as arithmetic on tensors: `Shape`, `Gather`, `Mul`, `Div`, `Ceil`, `Concat`. Here that
arithmetic is done on symbols instead of numbers, so that a rule can ask "is this padding always zero?" or "does this
slice keep everything?" and get an answer that holds for every input size.

A dimension is a sympy expression over positive integers, one symbol for each named input dimension and for each that
has no name; where an operator is not understood, its output dimensions become symbols of their own, which compare
equal to nothing but themselves. An input dimension of 0 is outside what is promised.

What a model declares of its inputs holds, for ONNX Runtime checks it. What it declares of other values may be stale,
and counts only where nothing else is known.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx_ir as ir
import sympy
from numpy.typing import NDArray

from omni_sdk.tools.prepare.symbolic_bounds import unknown
from omni_sdk.tools.prepare.symbolic_contents import contents_of
from omni_sdk.tools.prepare.symbolic_shapes import shape_of

Shape = tuple[sympy.Expr, ...]
Content = NDArray[np.object_]

LARGEST_CONTENT = 64  # elements; shapes, pads and slice bounds are far smaller


class Symbols:
    """Answers questions about shapes and shape values of one graph, lazily and from memory.

    Values that a rewrite adds are understood when first asked about, so one instance serves a whole pass.
    """

    def __init__(self, model: ir.Model) -> None:
        self._shapes: dict[ir.Value, Shape | None] = {}
        self._contents: dict[ir.Value, Content | None] = {}
        self._names = {
            dim.value
            for value in model.graph.inputs
            for dim in value.shape or ()
            if not isinstance(dim, int) and dim.value is not None
        }
        for node in model.graph:
            for output in node.outputs:
                self.shape(output)
                self.content(output)

    def shape(self, value: ir.Value | None) -> Shape | None:
        """Dimensions of `value`, or None where not even its rank is known."""
        if value is None:
            return None
        if value not in self._shapes:
            self._shapes[value] = None  # a cycle cannot occur in a graph; this marks the value as under way
            self._shapes[value] = self._infer_shape(value)
        return self._shapes[value]

    def content(self, value: ir.Value | None) -> Content | None:
        """Elements of a small tensor as expressions, or None where they are not known."""
        if value is None:
            return None
        if value not in self._contents:
            self._contents[value] = None
            self._contents[value] = self._infer_content(value)
        return self._contents[value]

    def numbers(self, value: ir.Value | None) -> NDArray[Any] | None:
        """Content as an integer or float array where every element is a plain number for every input size."""
        content = self.content(value)
        if content is None or not all(element.is_number for element in content.flat):
            return None
        whole = all(element.is_Integer for element in content.flat)
        return np.array(
            [int(e) if whole else float(e) for e in content.flat], np.int64 if whole else np.float64
        ).reshape(content.shape)

    def dimension(self, value: ir.Value, axis: int) -> int | None:
        """A dimension that is the same for every input size, else None."""
        shape = self.shape(value)
        if shape is None or not -len(shape) <= axis < len(shape):
            return None
        return int(shape[axis]) if shape[axis].is_Integer else None

    def same_shape(self, one: ir.Value, other: ir.Value) -> bool:
        """Whether both shapes are known and equal for every input size."""
        first, second = self.shape(one), self.shape(other)
        return first is not None and second is not None and equal(first, second)

    def _infer_shape(self, value: ir.Value) -> Shape | None:
        declared = value.shape
        if value.const_value is not None:
            return tuple(sympy.Integer(size) for size in value.const_value.shape.numpy())
        if value.is_graph_input():
            return None if declared is None else tuple(_given(value, axis) for axis in range(len(declared)))
        node = value.producer()
        inferred = shape_of(node, value, self) if node is not None else None
        if inferred is None and declared is not None:
            inferred = tuple(unknown(value, axis) for axis in range(len(declared)))
        if inferred is not None and declared is not None and len(declared) == len(inferred):
            inferred = tuple(self._declared(known, dim) for known, dim in zip(inferred, declared, strict=True))
        return inferred

    def _declared(self, known: sympy.Expr, dim: int | ir.SymbolicDim) -> sympy.Expr:
        """What is known of a dimension; else what the model declares, a number or an input dimension's name."""
        if not known.is_Symbol or known.is_positive:
            return known
        if isinstance(dim, int):
            return sympy.Integer(dim)
        return symbol(str(dim.value)) if dim.value in self._names else known

    def _infer_content(self, value: ir.Value) -> Content | None:
        if value.const_value is not None and not value.is_graph_input():
            tensor = value.const_value
            if math.prod(tensor.shape.numpy()) > LARGEST_CONTENT or tensor.dtype in (
                ir.DataType.STRING,
                ir.DataType.COMPLEX64,
            ):
                return None
            return expressions(np.asarray(tensor.numpy()))
        node = value.producer()
        content = contents_of(node, value, self) if node is not None else None
        return content if content is not None and content.size <= LARGEST_CONTENT else None


def _given(value: ir.Value, axis: int) -> sympy.Expr:
    """A dimension of an input: a number, its name's symbol, or one of its own where it has no name."""
    assert value.shape is not None, "the caller saw it"
    dim = value.shape[axis]
    return sympy.Integer(dim) if isinstance(dim, int) else symbol(dim.value or f"{value.name}.{axis}")


def symbol(name: str) -> sympy.Symbol:
    """A named dimension of an input: at least 1, and the same wherever the name stands."""
    return sympy.Symbol(name, integer=True, positive=True)


def expressions(array: NDArray[Any]) -> Content:
    """A numeric array as expressions; whole floats become integers, since shape arithmetic goes through floats."""
    result = np.empty(array.shape, dtype=object)
    for index, element in np.ndenumerate(array):
        number = element.item()
        if isinstance(number, float):
            whole = math.isfinite(number) and number.is_integer()
            result[index] = sympy.Integer(int(number)) if whole else sympy.Float(number)
        else:
            result[index] = sympy.Integer(int(number))
    return result


def equal(one: Shape, other: Shape) -> bool:
    """Whether two shapes are equal for every input size."""
    return len(one) == len(other) and all(sympy.expand(a - b) == 0 for a, b in zip(one, other, strict=True))
