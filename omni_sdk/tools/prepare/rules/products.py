"""A tree of multiplications and divisions seen as one product: constants on one side, computed factors on the other."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from omni_sdk.tools.prepare.rules.base import constant, made_by

DEPTH = 8  # an activation's product is a handful of nodes; deeper trees are something else


@dataclass(slots=True)
class Product:
    """Constant factors, already multiplied together, and the computed ones in the order met."""

    scale: NDArray[np.float64] = field(default_factory=lambda: np.array(1.0))
    others: list[ir.Value] = field(default_factory=list)


def product_of(value: ir.Value, keep: ir.Value, depth: int = DEPTH) -> Product | None:
    """Take a tree of `Mul` and `Div` apart.

    Parameters
    ----------
    value : ir.Value
        The root of the tree.
    keep : ir.Value
        A value that counts as one factor even where it is itself a product.
    depth : int
        How many levels down to look.

    Returns
    -------
    Product or None
        None where something computed is divided by, or where the constant factors do not broadcast together.
    """
    array = constant(value)
    if array is not None:
        return Product(scale=np.asarray(array, np.float64))
    node = made_by(value, "Mul", "Div") if value is not keep and depth else None
    if node is None:
        return Product(others=[value])
    left, right = node.inputs
    if left is None or right is None:
        return None
    one, other = product_of(left, keep, depth - 1), product_of(right, keep, depth - 1)
    if one is None or other is None or (node.op_type == "Div" and other.others):
        return None
    try:
        scale = one.scale / other.scale if node.op_type == "Div" else one.scale * other.scale
    except ValueError:
        return None
    return Product(scale, one.others + other.others)
