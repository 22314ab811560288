"""A zero `Pad` before a `Conv` becomes the convolution's own padding.

    Conv(Pad(x, [0, 0, a, 0, 0, b]), w, bias)   ->   Conv(x, w, bias, pads=[a, b])

The copy that `Pad` makes of its whole input goes away; the convolution reads zeros beyond the border anyway.
"""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from omni_sdk.tools.prepare.rules.base import Refused, Rule, constant, label
from omni_sdk.tools.prepare.symbolic_bounds import attribute_of, pads_of

Folded = tuple[ir.Value, ir.Node, list[int]]


class PadIntoConv(Rule[Folded]):
    title = "pad-into-conv"

    def pattern(self, op: Any, x: Any) -> Any:
        padded = op.Pad(x, _allow_other_inputs=True, _outputs=["padded"])
        return op.Conv(padded, _allow_other_inputs=True, _outputs=["root"])

    def plan(self, x: ir.Value, padded: ir.Value, root: ir.Value) -> Folded | None:
        pad, conv = padded.producer(), root.producer()
        if pad is None or conv is None:
            return None
        if (mode := attribute_of(pad, "mode", "constant")) != "constant":
            raise Refused(f"{label(padded)} pads by {mode}, which a convolution cannot do.")
        fill = pad.inputs[2] if len(pad.inputs) > 2 else None
        if fill is not None and (value := constant(fill)) is None:
            raise Refused(f"{label(padded)} pads with a value that is computed at run time.")
        if fill is not None and value is not None and value.item() != 0:
            raise Refused(f"{label(padded)} pads with {value.item():g}, a convolution pads with 0.")
        pads = pads_of(pad, self.symbols)
        if pads is None or not all(begin.is_Integer and end.is_Integer for begin, end in pads):
            raise Refused(f"{label(padded)} pads by an amount that depends on the input.")
        if any(begin != 0 or end != 0 for begin, end in pads[:2]):
            raise Refused(f"{label(padded)} pads batch or channels too.")
        if any(begin < 0 or end < 0 for begin, end in pads):
            raise Refused(f"{label(padded)} crops: its padding is negative.")
        if attribute_of(conv, "auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
            raise Refused(f"{label(root)} computes its own padding (auto_pad).")
        own = attribute_of(conv, "pads", [0] * 2 * (len(pads) - 2))
        added = [int(begin) for begin, _ in pads[2:]] + [int(end) for _, end in pads[2:]]
        return x, conv, [a + b for a, b in zip(own, added, strict=True)]

    def replace(self, op: Any, plan: Folded) -> Any:
        data, conv, pads = plan
        kept = {name: each for name, each in conv.attributes.items() if name not in ("pads", "auto_pad")}
        return op.Conv(data, *conv.inputs[1:], pads=pads, **kept)
