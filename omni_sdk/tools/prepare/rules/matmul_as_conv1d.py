"""A product with a constant matrix becomes `omni::Conv1d` of kernel 1.

    MatMul(x [N, T, C], w [C, M])   ->   omni::Conv1d(x, packed w)

Its packed weights are mapped from the bundle and read in place, where ONNX Runtime packs those of `MatMul` anew, into
memory of its own, whenever a session is opened.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from omni_sdk.tools.prepare.rules.base import Refused, Rule, label
from omni_sdk.tools.prepare.rules.conv1d import check_weight
from omni_sdk.tools.prepare.rules.conv1d_node import packed


@dataclass(frozen=True, slots=True)
class Product:
    """A product that the operator can do."""

    data: ir.Value
    weight: ir.Value
    shape: tuple[int, int]  # inputs, outputs


class MatMulAsConv1d(Rule[Product]):
    title = "matmul-as-conv1d"

    def pattern(self, op: Any, x: Any, w: Any) -> Any:
        return op.MatMul(x, w, _outputs=["root"])

    def plan(self, x: ir.Value, w: ir.Value, root: ir.Value) -> Product | None:
        if w.const_value is None or w.is_graph_input():
            return None  # attention multiplies what it computes
        shape, data = check_weight(root, x, w), self.symbols.shape(x)
        if len(shape) != 2 or data is None or len(data) != 3:
            raise Refused(f"{label(root)} is no product of a rank-3 tensor and a matrix.")
        return Product(x, w, (shape[0], shape[1]))

    def replace(self, op: Any, plan: Product) -> Any:
        source, (inputs, outputs) = plan.weight.const_value, plan.shape
        assert source is not None, "checked by the plan"

        def weights() -> NDArray[np.float32]:
            turned: NDArray[np.float32] = np.asarray(source.numpy()).T[:, :, None]
            return turned

        weight = self.lazy_initializer(op, plan.weight, lambda name: packed(weights, (outputs, inputs, 1), 1, name))
        return op.Conv1d(plan.data, weight, kernel=1, tile=1, out_channels=outputs, _domain="omni", _version=1)
