"""How operators look channels last, given inputs that are transposes of what lies so.

Each form receives a node, makes its counterpart before it and gives the counterpart's outputs, one for each of the
node's; or gives None where the node has none, and makes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from omni_sdk.tools.prepare.rules.base import constant
from omni_sdk.tools.prepare.rules.shuffle_snake import pixel_shuffle
from omni_sdk.tools.prepare.rules.transposes import SWAP, turned
from omni_sdk.tools.prepare.symbolic_bounds import attribute_of
from omni_sdk.tools.prepare.symbols import Symbols

ELEMENTWISE = (
    "Abs", "Clip", "Cos", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "LeakyRelu", "Log", "Neg", "Reciprocal", "Relu",
    "Selu", "Sigmoid", "Sign", "Sin", "Softplus", "Sqrt", "Swish", "Tanh",
)  # fmt: skip
SCALED = ("DequantizeLinear", "QuantizeLinear")
BROADCASTING = ("Add", "Div", "Max", "Min", "Mul", "Pow", "Sub", "Sum")
AXES = {0: 0, 1: 2, 2: 1, -1: -2, -2: -1, -3: -3}
"""An axis of one layout in the other."""


class Hand:
    """Makes nodes before a given one.

    Parameters
    ----------
    graph : onnx_ir.Graph
        The main graph.
    before : onnx_ir.Node
        The node that stands there now.
    symbols : Symbols
        Of the graph as it was.
    """

    def __init__(self, graph: ir.Graph, before: ir.Node, symbols: Symbols) -> None:
        self.symbols = symbols
        self._graph, self._before = graph, before

    def op(
        self,
        kind: str,
        *inputs: ir.Value | NDArray[np.generic] | None,
        like: ir.Node | None = None,
        **attributes: ir.Attr,
    ) -> ir.Value:
        """A node of one output, in the domain and with the attributes of `like` but for those given."""
        return self.ops(kind, 1, *inputs, like=like, **attributes)[0]

    def ops(
        self,
        kind: str,
        outputs: int,
        *inputs: ir.Value | NDArray[np.generic] | None,
        like: ir.Node | None = None,
        **attributes: ir.Attr,
    ) -> Sequence[ir.Value]:
        """A node of several outputs; arrays become initializers."""
        kept = dict(like.attributes) if like is not None else {}
        node = ir.Node(
            like.domain if like is not None else "",
            kind,
            [self.initializer(each) if isinstance(each, np.ndarray) else each for each in inputs],
            list({**kept, **attributes}.values()),
            num_outputs=outputs,
            version=like.version if like is not None else None,
        )
        self._graph.insert_before(self._before, node)
        return node.outputs

    def initializer(self, array: NDArray[np.generic]) -> ir.Value:
        """A new initializer, named by what the node before which it is made gives."""
        base, count = f"{self._before.outputs[0].name}.turned", 0
        while (name := f"{base}.{count}") in self._graph.initializers:
            count += 1
        tensor = ir.tensor(np.ascontiguousarray(array), name=name)
        value = ir.Value(name=name, const_value=tensor, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype))
        self._graph.register_initializer(value)
        return value


def _elementwise(hand: Hand, node: ir.Node) -> list[ir.Value] | None:
    source = turned(node.inputs[0])
    return None if source is None else [hand.op(node.op_type, source, *node.inputs[1:], like=node)]


def _scaled(hand: Hand, node: ir.Node) -> list[ir.Value] | None:
    """Not where ONNX Runtime makes one operator of a dequantized tensor and the layer that reads it."""
    read = {user.op_type for user, _ in node.outputs[0].uses()} if node.op_type == "DequantizeLinear" else set()
    return _elementwise(hand, node) if has_one_scale(node) and read.isdisjoint(("Conv", "MatMul")) else None


def has_one_scale(node: ir.Node) -> bool:
    """Whether a `QuantizeLinear` or `DequantizeLinear` treats all channels alike."""
    scale = constant(node.inputs[1])
    return scale is not None and scale.size == 1


def _broadcasting(hand: Hand, node: ir.Node) -> list[ir.Value] | None:
    operands = [_operand(each) for each in node.inputs]
    if any(each is None for each in operands) or all(turned(each) is None for each in node.inputs):
        return None
    return [hand.op(node.op_type, *operands, like=node)]


def _other_way(value: ir.Value | None) -> ir.Value | None:
    """A value in the other layout, where the graph has it: what it is the transpose of, or its own transpose."""
    source = turned(value)
    users = [user.outputs[0] for user, _ in value.uses()] if value is not None and source is None else []
    return next((each for each in users if turned(each) is value), source)


def _operand(value: ir.Value | None) -> ir.Value | NDArray[np.generic] | None:
    """A transpose's source, or a constant in the other layout; None for what is neither."""
    if (source := _other_way(value)) is not None:
        return source
    array = constant(value)
    if array is None or array.ndim > len(SWAP):
        return None
    full: NDArray[np.generic] = array.reshape((1,) * (len(SWAP) - array.ndim) + array.shape).transpose(SWAP)
    return value if array.size == 1 else full


def _snake(hand: Hand, node: ir.Node) -> list[ir.Value] | None:
    source = turned(node.inputs[0])
    if source is None or attribute_of(node, "channels_last", 0):
        return None
    return [hand.op("Snake", source, *node.inputs[1:], like=node, channels_last=ir.AttrInt64("channels_last", 1))]


def _add_snake(hand: Hand, node: ir.Node) -> list[ir.Value] | None:
    sources = [_other_way(each) for each in node.inputs[:2]]
    if (
        None in sources
        or all(turned(each) is None for each in node.inputs[:2])
        or attribute_of(node, "channels_last", 0)
    ):
        return None
    last = ir.AttrInt64("channels_last", 1)
    return list(hand.ops("AddSnake", len(node.outputs), *sources, *node.inputs[2:], like=node, channels_last=last))


def _shuffle_snake(hand: Hand, node: ir.Node) -> list[ir.Value] | None:
    """Channels last, a shuffle is a view; Snake works on the view, so that it can join what makes it."""
    source, alpha = turned(node.inputs[0]), node.inputs[1]
    if source is None or alpha is None or alpha.const_value is None or len(node.inputs) > 3:
        return None
    channels = int(alpha.const_value.shape.numpy()[0])
    view = _view(hand, source, channels)
    last = {"channels_last": ir.AttrInt64("channels_last", 1)}
    kept = ir.Node("omni", "Snake", [], version=node.version)
    y = hand.op("Snake", view, *node.inputs[1:], like=kept, **last)
    ends = (attribute_of(node, "trim_begin", 0), attribute_of(node, "trim_end", 0))
    return [_trimmed(hand, each, ends) for each in (y, view)[: len(node.outputs)]]


def _trimmed(hand: Hand, value: ir.Value, ends: tuple[int, int]) -> ir.Value:
    if not any(ends):
        return value
    last = -ends[1] if ends[1] else np.iinfo(np.int64).max
    return hand.op("Slice", value, *(np.array([each], np.int64) for each in (ends[0], last, 1)))


def _reshape(hand: Hand, node: ir.Node) -> list[ir.Value] | None:
    found = pixel_shuffle(node.outputs[0], hand.symbols)
    source, channels = turned(found[0]) if found is not None else None, hand.symbols.dimension(node.outputs[0], 1)
    return None if source is None or channels is None else [_view(hand, source, channels)]


def _view(hand: Hand, source: ir.Value, channels: int) -> ir.Value:
    return hand.op("Reshape", source, np.array([0, -1, channels], np.int64))


def _slice(hand: Hand, node: ir.Node) -> list[ir.Value] | None:
    source = turned(node.inputs[0])
    axes = constant(node.inputs[3]) if len(node.inputs) > 3 else None
    if source is None or axes is None:
        return None
    moved = np.array([AXES[int(axis)] for axis in axes], axes.dtype)  # bounds and axes are of one type
    return [hand.op("Slice", source, *node.inputs[1:3], moved, *node.inputs[4:], like=node)]


def _concat(hand: Hand, node: ir.Node) -> list[ir.Value] | None:
    sources = [turned(each) for each in node.inputs]
    if None in sources:
        return None
    axis = ir.AttrInt64("axis", AXES[attribute_of(node, "axis", 0)])
    return [hand.op("Concat", *sources, like=node, axis=axis)]


def _pad(hand: Hand, node: ir.Node) -> list[ir.Value] | None:
    source, pads = turned(node.inputs[0]), constant(node.inputs[1]) if len(node.inputs) > 1 else None
    has_axes = len(node.inputs) > 3 and node.inputs[3] is not None
    if source is None or pads is None or has_axes:
        return None
    moved = pads.reshape(2, len(SWAP))[:, SWAP].ravel()
    return [hand.op("Pad", source, moved, *node.inputs[2:3], like=node)]


FORMS: dict[str, Callable[[Hand, ir.Node], list[ir.Value] | None]] = {
    **dict.fromkeys(ELEMENTWISE, _elementwise),
    **dict.fromkeys(BROADCASTING, _broadcasting),
    **dict.fromkeys(SCALED, _scaled),
    "AddSnake": _add_snake,
    "Concat": _concat,
    "Pad": _pad,
    "Reshape": _reshape,
    "ShuffleSnake": _shuffle_snake,
    "Slice": _slice,
    "Snake": _snake,
}
