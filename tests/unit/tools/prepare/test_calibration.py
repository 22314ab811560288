"""Calibration inputs: how many are used, and what is said of the others."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from omni_sdk.tools.prepare.calibration import MOST, read_calibration
from omni_sdk.tools.prepare.feeds import specs_of

MODEL = """<ir_version: 9, opset_import: ["" : 18]> agraph (float[1] x) => (float[1] y) { y = Neg(x) }"""


@pytest.mark.parametrize(("count", "said"), [(MOST, False), (MOST + 1, True)])
def test_samples_that_are_too_many_are_not_dropped_in_silence(caplog, count, said):
    samples = read_calibration(
        [{"x": np.array([index], np.float32)} for index in range(count)], specs_of(ir.from_onnx_text(MODEL))
    )
    assert len(samples.calibrating) + len(samples.held_out) == MOST
    assert (f"the first {MOST} calibration samples are used" in caplog.text) == said
