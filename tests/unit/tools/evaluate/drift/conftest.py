"""Small models with planted errors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

onnx = pytest.importorskip("onnx")

MODEL = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[batch, samples] codes) => (float[batch, samples] waveform) {{
{body}
}}
"""


@pytest.fixture
def write_model(tmp_path: Path) -> Callable[[str, str], Path]:
    """Write a model from `codes` to `waveform`, its nodes in ONNX text."""

    def write(name: str, body: str) -> Path:
        model = onnx.parser.parse_model(MODEL.format(body=body))
        onnx.checker.check_model(model)
        onnx.save(model, tmp_path / name)
        return tmp_path / name

    return write
