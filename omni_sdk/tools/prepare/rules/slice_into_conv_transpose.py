"""Trimming the ends of a `ConvTranspose` becomes its own padding, which computes only what is kept.

Slice(ConvTranspose(x, w, b), [a], [-e], axes=[2])   ->   ConvTranspose(x, w, b, pads=[a, e])
"""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
import sympy

from omni_sdk.tools.prepare.rules.base import Refused, Rule, label
from omni_sdk.tools.prepare.symbolic_bounds import attribute_of, spans_of

Trimmed = tuple[ir.Node, list[int]]


class SliceIntoConvTranspose(Rule[Trimmed]):
    title = "slice-into-conv-transpose"

    def pattern(self, op: Any) -> Any:
        whole = op.ConvTranspose(_allow_other_inputs=True, _outputs=["whole"])
        return op.Slice(whole, _allow_other_inputs=True, _outputs=["root"])

    def plan(self, whole: ir.Value, root: ir.Value) -> Trimmed | None:
        conv, cut = whole.producer(), root.producer()
        shape = self.symbols.shape(whole)
        if conv is None or cut is None or shape is None:
            return None
        if len(shape) != 3:
            raise Refused(f"{label(whole)} has {len(shape) - 2} spatial dimensions; this rule knows one.")
        if attribute_of(conv, "auto_pad", "NOTSET") != "NOTSET" or "output_shape" in conv.attributes:
            raise Refused(f"{label(whole)} computes its own padding (auto_pad or output_shape).")
        if len(whole.uses()) > 1 or whole.is_graph_output():
            raise Refused(f"{label(whole)} is also used untrimmed.")
        spans = spans_of(cut, self.symbols)
        if spans is None or list(spans) != [2]:
            raise Refused(
                f"{label(root)} cuts something other than the ends in time, or by an amount not known beforehand."
            )
        start, end = spans[2]
        behind = sympy.expand(shape[2] - end)
        if not start.is_Integer or not behind.is_Integer:
            raise Refused(f"{label(root)} cuts by an amount that depends on the input.")
        own = attribute_of(conv, "pads", [0, 0])
        return conv, [own[0] + int(start), own[1] + int(behind)]

    def replace(self, op: Any, plan: Trimmed) -> Any:
        conv, pads = plan
        kept = {name: each for name, each in conv.attributes.items() if name not in ("pads", "auto_pad")}
        return op.ConvTranspose(*conv.inputs, pads=pads, **kept)
