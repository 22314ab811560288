"""Output shapes of the operators that audio graphs are made of, as expressions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import onnx_ir as ir
import sympy

from omni_sdk.tools.prepare.symbolic_bounds import attribute_of, integers, nonnegative, pads_of, spans_of, unknown

if TYPE_CHECKING:
    from omni_sdk.tools.prepare.symbols import Shape, Symbols

ONE = sympy.Integer(1)
ELEMENTWISE = frozenset(
    (
        "Abs", "Acos", "Asin", "Atan", "BitwiseNot", "Cast", "CastLike", "Ceil", "Clip", "Cos", "Cosh",
        "CumSum", "DequantizeLinear", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "Identity",
        "IsInf", "IsNaN", "LayerNormalization", "LeakyRelu", "Log", "LogSoftmax", "Neg", "Not", "PRelu",
        "QuantizeLinear", "QuickGelu", "Reciprocal", "Relu", "RMSNormalization", "RotaryEmbedding", "Round",
        "Selu", "Sigmoid", "Sign", "SimplifiedLayerNormalization", "Sin", "Sinh", "Snake", "Softmax",
        "Softplus", "Sqrt", "Swish", "Tan", "Tanh",
    )
)  # fmt: skip
BROADCASTING = frozenset(
    (
        "Add", "And", "BitwiseAnd", "BitwiseOr", "Div", "Equal", "Greater", "GreaterOrEqual", "Less",
        "LessOrEqual", "Max", "Min", "Mod", "Mul", "Or", "Pow", "Sub", "Sum", "Where", "Xor",
    )
)  # fmt: skip

PAST = {"Conv1d": 2, "QConv1d": 6}
"""Where convolutions of the domain `omni` have what comes before their signal."""

ALIKE_OUTPUTS = frozenset(("AddSnake", "ShuffleSnake"))
"""Operators whose outputs all have one shape."""


def shape_of(node: ir.Node, value: ir.Value, symbols: Symbols) -> Shape | None:
    """Shape of one of `node`'s outputs, or None where the operator or its inputs are not understood."""
    if node.op_type in ELEMENTWISE and value is node.outputs[0]:
        return symbols.shape(node.inputs[0])
    if node.op_type in BROADCASTING:
        return broadcast([symbols.shape(each) for each in node.inputs], value)
    if node.op_type == "Split":
        return _split(node, node.outputs.index(value), symbols)
    if node.op_type in PAST:
        return _conv1d(node, node.outputs.index(value), symbols)
    rule = SHAPES.get(node.op_type)
    known = rule is not None and (value is node.outputs[0] or node.op_type in ALIKE_OUTPUTS)
    return rule(node, symbols) if rule is not None and known else None


def broadcast(shapes: list[Shape | None], value: ir.Value) -> Shape | None:
    """Shape of `value`, made by NumPy broadcasting.

    Sizes that differ are either 1 or the result, so one that is certainly larger than 1 decides; where none is, the
    result is unknown.
    """
    known = [shape for shape in shapes if shape is not None]
    if len(known) < len(shapes):
        return None
    rank = max(len(shape) for shape in known)
    result: list[sympy.Expr] = []
    for axis in range(-rank, 0):
        sizes = {sympy.expand(shape[axis]) for shape in known if len(shape) >= -axis} - {ONE}
        certain = sizes if len(sizes) <= 1 else {size for size in sizes if nonnegative(size - 2)}
        result.append(min(certain, key=str) if certain else unknown(value, rank + axis) if sizes else ONE)
    return tuple(result)


def _convolution(node: ir.Node, symbols: Symbols) -> Shape | None:
    data, weight = symbols.shape(node.inputs[0]), symbols.shape(node.inputs[1])
    if data is None or weight is None or attribute_of(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return None
    spatial = len(data) - 2
    strides, dilations = attribute_of(node, "strides", [1] * spatial), attribute_of(node, "dilations", [1] * spatial)
    pads = attribute_of(node, "pads", [0] * 2 * spatial)
    if attribute_of(node, "channels_last", 0):
        return None
    if node.op_type == "Conv":
        sizes = [
            sympy.floor(
                (data[2 + i] + pads[i] + pads[i + spatial] - dilations[i] * (weight[2 + i] - 1) - 1) / strides[i]
            )
            + 1
            for i in range(spatial)
        ]
        return (data[0], weight[0], *sizes)
    extra = attribute_of(node, "output_padding", [0] * spatial)
    if "output_shape" in node.attributes:
        return None
    sizes = [
        strides[i] * (data[2 + i] - 1) + extra[i] + (weight[2 + i] - 1) * dilations[i] + 1 - pads[i] - pads[i + spatial]
        for i in range(spatial)
    ]
    return (data[0], weight[1] * attribute_of(node, "group", 1), *sizes)


def _conv1d(node: ir.Node, index: int, symbols: Symbols) -> Shape | None:
    at = PAST[node.op_type]
    data, past = symbols.shape(node.inputs[0]), node.inputs[at] if len(node.inputs) > at else None
    before = symbols.shape(past) if past is not None else (ONE, sympy.Integer(attribute_of(node, "pad_begin", 0)))
    if data is None or before is None:
        return None
    reach = (attribute_of(node, "kernel", 1) - 1) * attribute_of(node, "dilation", 1)
    if index == 2:
        return (data[0], sympy.Integer(reach), data[2])
    time = before[1] + data[1] + attribute_of(node, "pad_end", 0) - reach
    return (data[0], time, sympy.Integer(attribute_of(node, "out_channels", 0)))


def _transpose(node: ir.Node, symbols: Symbols) -> Shape | None:
    data = symbols.shape(node.inputs[0])
    if data is None:
        return None
    return tuple(data[axis] for axis in attribute_of(node, "perm", range(len(data) - 1, -1, -1)))


def _split(node: ir.Node, index: int, symbols: Symbols) -> Shape | None:
    data = symbols.shape(node.inputs[0])
    if data is None:
        return None
    axis, sizes = attribute_of(node, "axis", 0) % len(data), integers(node, "split", 1, symbols)
    if sizes is not None:
        size = sympy.Integer(sizes[index])
    else:
        even = sympy.cancel(data[axis] / len(node.outputs))
        size = even if even.is_integer else unknown(node.outputs[index], axis)
    return (*data[:axis], size, *data[axis + 1 :])


def _concat(node: ir.Node, symbols: Symbols) -> Shape | None:
    shapes = [symbols.shape(each) for each in node.inputs]
    first = shapes[0]
    if first is None or any(shape is None or len(shape) != len(first) for shape in shapes):
        return None
    axis = attribute_of(node, "axis", 0) % len(first)
    total = sum((shape[axis] for shape in shapes if shape is not None), sympy.Integer(0))
    return (*first[:axis], total, *first[axis + 1 :])


def _matmul(node: ir.Node, symbols: Symbols) -> Shape | None:
    left, right = symbols.shape(node.inputs[0]), symbols.shape(node.inputs[1])
    if left is None or right is None or len(left) < 2 or len(right) < 2:
        return None
    batch = broadcast([left[:-2], right[:-2]], node.outputs[0])
    return None if batch is None else (*batch, left[-2], right[-1])


def _gather(node: ir.Node, symbols: Symbols) -> Shape | None:
    data, index = symbols.shape(node.inputs[0]), symbols.shape(node.inputs[1])
    if data is None or index is None:
        return None
    axis = attribute_of(node, "axis", 0) % len(data)
    return (*data[:axis], *index, *data[axis + 1 :])


def _reshape(node: ir.Node, symbols: Symbols) -> Shape | None:
    data, target = symbols.shape(node.inputs[0]), symbols.content(node.inputs[1])
    if target is None or target.ndim != 1:
        return None
    keep_zero = attribute_of(node, "allowzero", 0)
    result = list(target)
    for axis, size in enumerate(target):
        if size == 0 and not keep_zero:
            result[axis] = unknown(node.outputs[0], axis) if data is None else data[axis]
    if -1 in result:
        if data is None:
            return None
        known = sympy.Mul(*[size for size in result if size != -1])
        result[result.index(-1)] = sympy.cancel(sympy.Mul(*data) / known)
    return tuple(result)


def _unsqueeze(node: ir.Node, symbols: Symbols) -> Shape | None:
    data, axes = symbols.shape(node.inputs[0]), integers(node, "axes", 1, symbols)
    if data is None or axes is None:
        return None
    rank = len(data) + len(axes)
    added, rest = {axis % rank for axis in axes}, iter(data)
    return tuple(ONE if axis in added else next(rest) for axis in range(rank))


def _squeeze(node: ir.Node, symbols: Symbols) -> Shape | None:
    data, axes = symbols.shape(node.inputs[0]), integers(node, "axes", 1, symbols)
    if data is None:
        return None
    if axes is None:
        return tuple(size for size in data if size != 1) if all(size.is_Integer for size in data) else None
    dropped = {axis % len(data) for axis in axes}
    return tuple(size for axis, size in enumerate(data) if axis not in dropped)


def _reduce(node: ir.Node, symbols: Symbols) -> Shape | None:
    data, axes = symbols.shape(node.inputs[0]), integers(node, "axes", 1, symbols)
    if data is None or (axes is None and len(node.inputs) > 1 and node.inputs[1] is not None):
        return None
    if not axes and attribute_of(node, "noop_with_empty_axes", 0):
        return data
    reduced = {axis % len(data) for axis in (axes or range(len(data)))}
    if attribute_of(node, "keepdims", 1):
        return tuple(ONE if axis in reduced else size for axis, size in enumerate(data))
    return tuple(size for axis, size in enumerate(data) if axis not in reduced)


def _expand(node: ir.Node, symbols: Symbols) -> Shape | None:
    target = symbols.content(node.inputs[1])
    return (
        None if target is None else broadcast([symbols.shape(node.inputs[0]), tuple(target.ravel())], node.outputs[0])
    )


def _pad(node: ir.Node, symbols: Symbols) -> Shape | None:
    data, pads = symbols.shape(node.inputs[0]), pads_of(node, symbols)
    if data is None or pads is None:
        return None
    return tuple(size + pads[axis][0] + pads[axis][1] for axis, size in enumerate(data))


def _slice(node: ir.Node, symbols: Symbols) -> Shape | None:
    data, spans = symbols.shape(node.inputs[0]), spans_of(node, symbols)
    if data is None:
        return None
    result = list(data)
    if spans is None:
        axes = integers(node, "axes", 3, symbols)
        for axis in range(len(data)) if axes is None else axes:
            result[axis] = unknown(node.outputs[0], axis % len(data))
        return tuple(result)
    for axis, (start, end) in spans.items():
        result[axis] = end - start
    return tuple(result)


def _range(node: ir.Node, symbols: Symbols) -> Shape | None:
    start, limit, delta = (symbols.content(each) for each in node.inputs)
    if start is None or limit is None or delta is None or delta.item() != 1:
        return (unknown(node.outputs[0], 0),)
    length = sympy.expand(limit.item() - start.item())
    return (length if nonnegative(length) else unknown(node.outputs[0], 0),)


def _shape(node: ir.Node, symbols: Symbols) -> Shape | None:
    data = symbols.shape(node.inputs[0])
    if data is None:
        return None
    return (sympy.Integer(len(data[attribute_of(node, "start", 0) : attribute_of(node, "end", None)])),)


def _shuffle(node: ir.Node, symbols: Symbols) -> Shape | None:
    data = symbols.shape(node.inputs[0])
    if data is None or len(data) != 3:
        return None
    stride = attribute_of(node, "stride", 1)
    trim = attribute_of(node, "trim_begin", 0) + attribute_of(node, "trim_end", 0)
    if attribute_of(node, "channels_last", 0):
        return (data[0], data[1] * stride - trim, data[2] / stride)
    return (data[0], data[1] / stride, data[2] * stride - trim)


SHAPES: dict[str, Callable[[ir.Node, Symbols], Shape | None]] = {
    "AddSnake": lambda node, symbols: symbols.shape(node.inputs[0]),
    "Concat": _concat,
    "Conv": _convolution,
    "ConvTranspose": _convolution,
    "Expand": _expand,
    "Gather": _gather,
    "MatMul": _matmul,
    "Pad": _pad,
    "Range": _range,
    "ReduceMax": _reduce,
    "ReduceMean": _reduce,
    "ReduceMin": _reduce,
    "ReduceSum": _reduce,
    "Reshape": _reshape,
    "Shape": _shape,
    "ShuffleSnake": _shuffle,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
