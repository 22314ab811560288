"""The periodic activation of neural vocoders becomes one operator.

    x + 1 / beta * sin(alpha x)^2   ->   omni::Snake(x, alpha, 1 / beta)

in the forms exporters write it: beta equal to alpha or not, either kept as a logarithm (`Exp`), a small constant
added before `Reciprocal` or `Div`, the square as `Pow` or as a product, the sine squared as (1 - cos(2 alpha x)) / 2,
and the factors multiplied in any order. All arithmetic on the parameters has been folded into constants before; what
is recognised here is their product, whatever tree of `Mul` and `Div` makes it. Per channel [1, C, 1] is channels
first, [C] or [1, 1, C] channels last.

ONNX Runtime computes `Sin` on one thread, and the chain moves the tensor through memory five times; the operator
once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from omni_sdk.tools.prepare.rules.base import Refused, Rule, constant, label, made_by
from omni_sdk.tools.prepare.rules.products import product_of

RANK = 3
"""Of the signals that the operator takes."""


@dataclass(frozen=True, slots=True)
class Activation:
    """A recognised Snake: `x + inv_beta * sin(alpha * x) ** 2`, both parameters [channels]."""

    data: ir.Value
    alpha: NDArray[np.float32]
    inv_beta: NDArray[np.float32]
    channels_last: bool


@dataclass(frozen=True, slots=True)
class SquaredSine:
    """`weight * sin(fraction * angle) ** 2`: the cosine form has half the angle and twice the weight."""

    angle: ir.Value
    fraction: float = 1.0
    weight: float = 1.0


class Snake(Rule[Activation]):
    title = "snake"

    def pattern(self, op: Any, x: Any, periodic: Any) -> Any:
        return op.Add(x, periodic, _outputs=["root"])

    def plan(self, x: ir.Value, periodic: ir.Value, root: ir.Value) -> Activation | None:
        for data, update in ((x, periodic), (periodic, x)):
            outer = product_of(update, keep=data)
            sine = squared_sine(outer.others) if outer is not None else None
            inner = product_of(sine.angle, keep=data) if sine is not None else None
            if outer is None or sine is None or inner is None or data not in inner.others:
                continue
            if inner.others != [data]:
                raise Refused(f"{label(root)} looks like Snake, but its alpha is computed at run time.")
            return self._activation(root, data, inner.scale * sine.fraction, outer.scale * sine.weight)
        return None

    def _activation(
        self, root: ir.Value, data: ir.Value, alpha: NDArray[np.float64], inv_beta: NDArray[np.float64]
    ) -> Activation:
        if data.dtype not in (ir.DataType.FLOAT, None):
            raise Refused(f"{label(root)} is Snake in {data.dtype}; the operator computes in float32.")
        shape = self.symbols.shape(data)
        if shape is None or len(shape) != RANK:
            raise Refused(f"{label(root)} is Snake over a tensor whose rank is not known to be 3.")
        for channels_last in (False, True):
            channels = self.symbols.dimension(data, 2 if channels_last else 1)
            first = None if channels is None else per_channel(alpha, channels, channels_last)
            second = None if channels is None else per_channel(inv_beta, channels, channels_last)
            if first is not None and second is not None:
                return Activation(data, first, second, channels_last)
        raise Refused(f"{label(root)} is Snake whose parameters are not one number a channel.")

    def replace(self, op: Any, plan: Activation) -> Any:
        alpha = self.initializer(op, plan.data, plan.alpha)
        inv_beta = self.initializer(op, plan.data, plan.inv_beta)
        return op.Snake(plan.data, alpha, inv_beta, channels_last=int(plan.channels_last), _domain="omni", _version=1)


def squared_sine(factors: list[ir.Value]) -> SquaredSine | None:
    """The squared sine that computed factors make: `Pow(Sin(u), 2)`, `Sin(u) * Sin(u)` or `1 - Cos(u)`."""
    if len(factors) == 2 and factors[0] is factors[1]:
        sine = made_by(factors[0], "Sin")
        return SquaredSine(sine.inputs[0]) if sine is not None and sine.inputs[0] is not None else None
    if len(factors) != 1:
        return None
    if (power := made_by(factors[0], "Pow")) is not None and is_number(power.inputs[1], 2.0):
        sine = made_by(power.inputs[0], "Sin")
        return SquaredSine(sine.inputs[0]) if sine is not None and sine.inputs[0] is not None else None
    if (difference := made_by(factors[0], "Sub")) is not None and is_number(difference.inputs[0], 1.0):
        cosine = made_by(difference.inputs[1], "Cos")
        return SquaredSine(cosine.inputs[0], 0.5, 2.0) if cosine is not None and cosine.inputs[0] is not None else None
    return None


def is_number(value: ir.Value | None, number: float) -> bool:
    """Whether a value is the constant `number`, as a scalar or a tensor of one element."""
    array = constant(value)
    return array is not None and array.size == 1 and float(array.item()) == number


def per_channel(array: NDArray[np.float64], channels: int, channels_last: bool) -> NDArray[np.float32] | None:
    """A parameter as [channels], or None where it is not one number a channel of a rank-3 tensor.

    One of higher rank, even of a single element, would make the result one of that rank.
    """
    if array.ndim > RANK:
        return None
    expected = (1, 1, channels) if channels_last else (1, channels, 1)
    shape: tuple[int, ...] = (1,) * (RANK - array.ndim) + array.shape
    if shape != expected and array.size != 1:
        return None
    return np.broadcast_to(array.reshape(shape), expected).reshape(channels).astype(np.float32)
