"""The nodes `omni::Conv1d` and `omni::QConv1d` as rules write and read them, and the weights of the first.

Their signals lie channels last, [batch, time, channels]; see docs/operators.md. Weights are packed only when they are
written to disk.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from omni_sdk.tools.prepare.symbolic_bounds import attribute_of
from omni_sdk.tools.prepare.winograd import PANEL, pack

WEIGHT, BIAS = 1, 3
"""Places of a `Conv1d`'s weights and bias."""

OUTPUTS = ("y", "sum", "present", "bytes")
Y, SUM, PRESENT, BYTES = range(len(OUTPUTS))
"""Places of the outputs; `BYTES` is an output of `QConv1d` alone, all of whose outputs are optional."""


@dataclass(frozen=True, slots=True)
class Places:
    """Places of an operator's optional inputs."""

    past: int
    residual: int
    alpha: int
    inv_beta: int


PLACES = {"Conv1d": Places(past=2, residual=4, alpha=5, inv_beta=6), "QConv1d": Places(6, 7, 8, 9)}

Weights = Callable[[], NDArray[np.float32]]
"""Gives a convolution's weights [outputs, inputs, kernel]."""


def is_conv1d(node: ir.Node | None) -> bool:
    """Whether a node is `omni::Conv1d`."""
    return node is not None and node.domain == "omni" and node.op_type == "Conv1d"


def is_convolution(node: ir.Node | None) -> bool:
    """Whether a node is one of both."""
    return node is not None and node.domain == "omni" and node.op_type in PLACES


def places(node: ir.Node) -> Places:
    """Where a convolution has its optional inputs."""
    return PLACES[node.op_type]


def number(node: ir.Node, name: str) -> int:
    """An attribute of a convolution, with the operators' default."""
    return int(attribute_of(node, name, 0 if name.startswith("pad") else 1))


def reach(node: ir.Node) -> int:
    """Columns that a convolution looks back: the length of its state."""
    return (number(node, "kernel") - 1) * number(node, "dilation")


def optional_input(node: ir.Node, index: int) -> ir.Value | None:
    """An input, None where the node leaves it out."""
    return node.inputs[index] if index < len(node.inputs) else None


def set_input(node: ir.Node, index: int, value: ir.Value) -> None:
    """Give a node an input that it may have left out."""
    if index >= len(node.inputs):
        node.resize_inputs(index + 1)
    node.replace_input_with(index, value)


def output(node: ir.Node, index: int) -> ir.Value:
    """An output, asked for from now on; those before it that are not have no name, or the operator would write them."""
    count = len(node.outputs)
    if index >= count:
        node.resize_outputs(index + 1)
        for value in node.outputs[count:index]:
            value.name = ""
    asked = node.outputs[index]
    if not asked.name:
        asked.name = f"{node.name}.{OUTPUTS[index]}"
    return asked


def packed(weights: Weights, shape: tuple[int, int, int], tile: int, name: str) -> ir.LazyTensor:
    """Weights as the operator reads them, packed whenever the model is written, one layer after another.

    Parameters
    ----------
    weights : callable
        Gives [outputs, inputs, kernel].
    shape : tuple of int
        Of what it gives.
    tile : int
        Outputs made together: 1 (direct), 2, 4 or 6.
    name : str
        Of the tensor.

    Returns
    -------
    onnx_ir.LazyTensor
        Of shape [tile + kernel - 1, panels, inputs, 16].
    """
    outputs, inputs, kernel = shape
    return ir.LazyTensor(
        lambda: ir.Tensor(pack(weights(), tile)),
        dtype=ir.DataType.FLOAT,
        shape=ir.Shape((tile + kernel - 1, -(-outputs // PANEL), inputs, PANEL)),
        name=name,
    )


def plain_weights(node: ir.Node) -> Weights:
    """The weights of a direct `Conv1d` node (tile 1), whose packing only moves them about."""
    value, outputs = node.inputs[WEIGHT], number(node, "out_channels")
    tensor = value.const_value if value is not None else None
    assert tensor is not None and number(node, "tile") == 1, "rules write constant weights, direct at first"

    def weights() -> NDArray[np.float32]:
        array = np.asarray(tensor.numpy())
        taps, panels, inputs, _ = array.shape
        plain: NDArray[np.float32] = array.transpose(1, 3, 2, 0).reshape(panels * PANEL, inputs, taps)[:outputs]
        return plain

    return weights


def weight_shape(node: ir.Node) -> tuple[int, int, int]:
    """Outputs, inputs and kernel of a `Conv1d` node."""
    value = node.inputs[WEIGHT]
    assert value is not None and value.const_value is not None, "weights are constants"
    return number(node, "out_channels"), int(value.const_value.shape.numpy()[2]), number(node, "kernel")
