"""A `ConvTranspose` whose stride divides its kernel becomes a `Conv` and a pixel shuffle.

    ConvTranspose(x, w [in, out, m s], stride s, pads [a, b])
    ->  y = Conv(x, w' [s out, in, m], pads [m - 1 - a // s, m - 1 - b // s])
        Reshape(Transpose(Reshape(y, [0, s, out, -1]), (0, 2, 3, 1)), [0, out, -1]), less a % s and b % s samples

Output sample s q + r is the sum over i < m of w[.., r + i s] x[q - i]: an ordinary convolution with m taps whose
channel r out + c holds phase r of channel c. ONNX Runtime's `ConvTranspose` scatters its products on one thread;
`Conv` uses them all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from omni_sdk.tools.prepare.rules.base import Refused, Rule, constant, label
from omni_sdk.tools.prepare.symbolic_bounds import attribute_of


@dataclass(frozen=True, slots=True)
class Shuffle:
    """What the rewrite needs: the convolution's arrays and how its output is cut."""

    data: ir.Value
    weight: ir.Value
    kernel: NDArray[np.float32]  # [stride * out, in, taps], phase-major
    bias: NDArray[np.float32] | None  # [stride * out]
    stride: int
    pads: tuple[int, int]  # of the convolution, in input samples
    cut: tuple[int, int]  # left to cut, in output samples


class ConvTransposeAsConv(Rule[Shuffle]):
    title = "conv-transpose-as-conv"

    def pattern(self, op: Any, x: Any, w: Any) -> Any:
        return op.ConvTranspose(x, w, _allow_other_inputs=True, _outputs=["root"])

    def plan(self, x: ir.Value, w: ir.Value, root: ir.Value) -> Shuffle | None:
        node, weight = root.producer(), constant(w)
        if node is None:
            return None
        if weight is None:
            raise Refused(f"{label(root)} has weights that are computed at run time.")
        if weight.ndim != 3:
            raise Refused(f"{label(root)} has {weight.ndim - 2} spatial dimensions; this rule knows one.")
        stride, kernel = attribute_of(node, "strides", [1])[0], weight.shape[2]
        if kernel % stride:
            raise Refused(f"{label(root)} has stride {stride}, which does not divide its kernel of {kernel}.")
        if (groups := attribute_of(node, "group", 1)) != 1:
            raise Refused(f"{label(root)} has {groups} groups.")
        if attribute_of(node, "dilations", [1])[0] != 1:
            raise Refused(f"{label(root)} is dilated.")
        if attribute_of(node, "auto_pad", "NOTSET") != "NOTSET" or "output_shape" in node.attributes:
            raise Refused(f"{label(root)} computes its own padding (auto_pad or output_shape).")
        begin, end = attribute_of(node, "pads", [0, 0])
        end -= attribute_of(node, "output_padding", [0])[0]
        taps = kernel // stride
        pads = (taps - 1 - begin // stride, taps - 1 - end // stride)
        if end < 0 or min(pads) < 0:
            raise Refused(f"{label(root)} is trimmed by more than its kernel, or extended beyond it (output_padding).")
        bias = constant(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else None
        if bias is None and len(node.inputs) > 2 and node.inputs[2] is not None:
            raise Refused(f"{label(root)} has a bias that is computed at run time.")
        return Shuffle(
            data=x,
            weight=w,
            kernel=phases(weight, stride),
            bias=None if bias is None else np.tile(bias, stride),
            stride=stride,
            pads=pads,
            cut=(begin % stride, end % stride),
        )

    def replace(self, op: Any, plan: Shuffle) -> Any:
        channels = plan.kernel.shape[0] // plan.stride
        arrays = [plan.kernel] if plan.bias is None else [plan.kernel, plan.bias]
        parameters = [self.initializer(op, plan.weight, array) for array in arrays]
        y = op.Conv(plan.data, *parameters, kernel_shape=[plan.kernel.shape[2]], pads=list(plan.pads))
        if plan.stride > 1:
            split = self.initializer(op, plan.weight, np.array([0, plan.stride, channels, -1], np.int64))
            joined = self.initializer(op, plan.weight, np.array([0, channels, -1], np.int64))
            y = op.Reshape(op.Transpose(op.Reshape(y, split), perm=[0, 2, 3, 1]), joined)
        if any(plan.cut):
            last = -plan.cut[1] if plan.cut[1] else np.iinfo(np.int64).max
            bounds = [np.array([each], np.int64) for each in (plan.cut[0], last, 2)]
            y = op.Slice(y, *(self.initializer(op, plan.weight, bound) for bound in bounds))
        return y


def phases(weight: NDArray[np.float32], stride: int) -> NDArray[np.float32]:
    """Transposed-convolution weights [in, out, taps * stride] as convolution weights [stride * out, in, taps]."""
    inputs, outputs, kernel = weight.shape
    taps = weight.reshape(inputs, outputs, kernel // stride, stride)[:, :, ::-1]
    return np.ascontiguousarray(taps.transpose(3, 1, 0, 2).reshape(stride * outputs, inputs, kernel // stride))
