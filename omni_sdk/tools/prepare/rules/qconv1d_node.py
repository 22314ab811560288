"""What `omni::QConv1d` has that `omni::Conv1d` has not: bytes, their scales, and weights packed in words of four."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from omni_sdk.tools.prepare.rules.base import constant
from omni_sdk.tools.prepare.winograd import PANEL

WEIGHT, OFFSET, MULTIPLIER, Y_SCALE, Y_ZERO_POINT = 3, 4, 5, 10, 11
"""Places of inputs."""

WORD = 4
"""Channels whose products are summed together."""

LARGEST_SUM = 2**31 - 1
BYTE, LARGEST_WEIGHT = 255, 128

Bytes = NDArray[np.int8]


def pack_bytes(weight: Bytes) -> Bytes:
    """Weights as the input `W` of `omni::QConv1d` holds them.

    Parameters
    ----------
    weight : shape [out_channels, in_channels, kernel], in_channels a multiple of 4

    Returns
    -------
    int8 array of shape [kernel, ceil(out_channels / 16), in_channels / 4, 64]: for each four channels those of 16
    outputs, the last panel filled up with zeros
    """
    outputs, inputs, kernel = weight.shape
    panels = -(-outputs // PANEL)
    full = np.zeros((panels * PANEL, inputs, kernel), np.int8)
    full[:outputs] = weight
    words = full.reshape(panels, PANEL, inputs // WORD, WORD, kernel).transpose(4, 0, 2, 1, 3)
    return np.ascontiguousarray(words).reshape(kernel, panels, inputs // WORD, PANEL * WORD)


def packed_bytes(weights: Callable[[], Bytes], shape: tuple[int, int, int], name: str) -> ir.LazyTensor:
    """The same, packed whenever the model is written, one layer after another.

    Parameters
    ----------
    weights : callable
        Gives [outputs, inputs, kernel].
    shape : tuple of int
        Of what it gives.
    name : str
        Of the tensor.
    """
    outputs, inputs, kernel = shape
    return ir.LazyTensor(
        lambda: ir.Tensor(pack_bytes(weights())),
        dtype=ir.DataType.INT8,
        shape=ir.Shape((kernel, -(-outputs // PANEL), inputs // WORD, PANEL * WORD)),
        name=name,
    )


def offset_of(
    weight: Bytes, zero_point: int, bias: NDArray[np.float32] | None, multiplier: NDArray[np.float32]
) -> NDArray[np.int32] | None:
    """What is added to the sums of each output: less what the zero point adds to them, and the bias in their unit.

    Parameters
    ----------
    weight : shape [out_channels, in_channels, kernel]
    zero_point : that of the input
    bias : shape [out_channels], in the output's unit
    multiplier : shape [out_channels], the output's unit in one of a sum

    Returns
    -------
    int32 array of shape [out_channels]; None where sums could leave 32 bits
    """
    offset = -zero_point * weight.sum((1, 2), dtype=np.int64)
    if bias is not None:
        offset = offset + np.rint(bias.astype(np.float64) / multiplier)
    magnitudes = np.abs(weight.astype(np.int16)).sum((1, 2), dtype=np.int64)
    largest = BYTE * magnitudes.max(initial=0) + np.abs(offset).max(initial=0)
    return offset.astype(np.int32) if largest <= LARGEST_SUM else None


def offset_with(node: ir.Node, bias: NDArray[np.float32]) -> NDArray[np.int32] | None:
    """The offset of a `QConv1d` node with a bias added to it; None where sums of any weights could leave 32 bits."""
    offset, multiplier, weight = constant(node.inputs[OFFSET]), constant(node.inputs[MULTIPLIER]), node.inputs[WEIGHT]
    if offset is None or multiplier is None or weight is None or weight.const_value is None:
        return None
    taps, _, words, _ = weight.const_value.shape.numpy()
    largest = BYTE * LARGEST_WEIGHT * taps * words * WORD
    moved = offset.astype(np.float64) + np.rint(bias.astype(np.float64) / multiplier)
    return moved.astype(np.int32) if np.abs(moved).max(initial=0.0) + largest <= LARGEST_SUM else None
