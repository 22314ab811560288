"""Models as ONNX text, rewritten by chosen passes and compared by running both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from omni_sdk.tools.prepare.differences import relative_difference
from omni_sdk.tools.prepare.ledger import Ledger
from omni_sdk.tools.prepare.rules.order import CONV1D_PASSES, PASSES, QUANTIZED_PASSES
from omni_sdk.tools.prepare.sessions import has_operators, open_session, run


@dataclass
class Rewriting:
    """A model before and after some passes."""

    before: ir.Model
    after: ir.Model
    ledger: Ledger
    folder: Path

    @property
    def ops(self) -> Counter[str]:
        return Counter(node.op_type for node in self.after.graph)

    def reasons(self, rule: str) -> list[str]:
        return [refusal.reason for refusal in self.ledger.refused if refusal.rule == rule]

    def assert_equal(self, feeds: Mapping[str, np.ndarray], tolerance: float = 1e-5) -> None:
        if "omni" in self.after.opset_imports and not has_operators():
            pytest.skip("the operators' library is not built")
        for name, model in (("before", self.before), ("after", self.after)):
            ir.save(model, self.folder / f"{name}.onnx")
        expected = run(open_session(self.folder / "before.onnx"), feeds)
        got = run(open_session(self.folder / "after.onnx"), feeds)
        for output, array in expected.items():
            assert relative_difference(array, got[output]) <= tolerance


def rewriting(folder: Path, text: str, *titles: str, **arrays: Any) -> Rewriting:
    """Parse ONNX text, give initializers their arrays, and apply passes by title."""
    before, after = (_parse(text, arrays) for _ in range(2))
    ledger = Ledger()
    for each in (*PASSES, *CONV1D_PASSES, *QUANTIZED_PASSES):
        if each.title in titles:
            each(after, ledger)
    return Rewriting(before, after, ledger, folder)


def _parse(text: str, arrays: Mapping[str, np.ndarray]) -> ir.Model:
    model = ir.from_onnx_text(f'<ir_version: 9, opset_import: ["" : 18, "omni" : 1, "com.microsoft" : 1]>\n{text}')
    for name, array in arrays.items():
        value = next(value for value in model.graph.inputs if value.name == name)
        model.graph.inputs.remove(value)
        value.const_value = ir.tensor(array, name=name)
        value.shape, value.type = ir.Shape(array.shape), ir.TensorType(ir.DataType.from_numpy(array.dtype))
        model.graph.register_initializer(value)
    return model


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    """Seeded normal noise, float32."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
