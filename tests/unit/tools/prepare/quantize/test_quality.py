"""What the gate judges a quantized model by: every output, whatever its type."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import onnx_ir as ir
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from small_models import noise, save

from omni_sdk import InputError
from omni_sdk.bundle import Bundle
from omni_sdk.tools.prepare import prepare
from omni_sdk.tools.prepare.quantize import gate as gate_module
from omni_sdk.tools.prepare.quantize.quality import Judge
from omni_sdk.tools.prepare.timing import Pace

SAMPLES = [{"x": noise(1, 50, seed=seed)} for seed in range(2)]


def model(folder: Path, name: str, *, factor: float = 1.0, level: float = 0.0, flag: float = 0.0) -> Path:
    """`y` varies, `c` is `level` everywhere, `none` has no element, and `b` says whether anything is above `flag`."""
    text = f"""<ir_version: 9, opset_import: ["" : 18]>
    agraph (float[N, T] x) => (float[N, T] y, float[N, T] c, float[N, Z] none, bool[N, T] b) {{
        factor = Constant <value = float {{{factor}}}> () zero = Constant <value = float {{0.0}}> ()
        level = Constant <value = float {{{level}}}> () flag = Constant <value = float {{{flag}}}> ()
        y = Mul(x, factor) nothing = Mul(x, zero) c = Add(nothing, level) b = Greater(x, flag)
        at = Constant <value = int64[1] {{0}}> () axis = Constant <value = int64[1] {{1}}> ()
        none = Slice(x, at, at, axis)
    }}"""
    path = folder / f"{name}.onnx"
    ir.save(ir.from_onnx_text(text), path)
    return path


@pytest.mark.parametrize(
    ("original", "candidate", "snr_db"),
    [
        ({}, {}, math.inf),
        ({}, {"factor": 1.01}, 40.0),
        ({}, {"flag": 0.5}, -math.inf),
        ({"level": 200.0}, {"level": 202.0}, 40.0),
        ({"level": 0.0}, {"level": 0.01}, 40.0),
        ({"level": 0.0}, {"level": -0.1, "factor": 1.01}, 20.0),
    ],
    ids=["the same", "noise", "a flag", "a constant", "zeros", "the worst"],
)
def test_every_output_counts(tmp_path, original, candidate, snr_db):
    judge = Judge.of(model(tmp_path, "original", **original), SAMPLES, {})
    assert judge.quality(model(tmp_path, "candidate", **candidate)).snr_db == pytest.approx(snr_db, abs=0.01)


def test_constants_alone_are_refused(tmp_path):
    with pytest.raises(InputError, match="Expected outputs that vary"):
        Judge.of(model(tmp_path, "original", factor=0.0), SAMPLES, {})


def test_codes_that_change_keep_a_model_in_float_and_a_target_of_none_lets_them_pass(tmp_path, monkeypatch):
    def seconds(graph, feeds, threads=None):
        return 0.5 if any(node.op_type == "QuantizeLinear" for node in ir.load(graph).graph) else 1.0

    monkeypatch.setattr(gate_module, "fastest_seconds", seconds)
    monkeypatch.setattr(gate_module, "race", lambda before, after, feeds, threads=None: Pace(1.0, 0.5))
    text = """<ir_version: 9, opset_import: ["" : 18]>
    agraph (float[N, T, 16] x) => (float[N, T, 16] y, int32[N, T, 16] codes) {
        y = MatMul(x, w) many = Constant <value = float {1e6}> () large = Mul(y, many) codes = Cast <to = 6> (large)
    }"""
    whole = ir.from_onnx_text(text.replace("16] x)", "16] x, float[16, 16] w)"))
    path = save(whole, {"w": noise(16, 16)}, tmp_path / "codes.onnx")
    samples = [{"x": noise(1, 20, 16, seed=seed)} for seed in range(3)]
    strict = prepare(path, tmp_path / "strict", calibration=samples, min_snr_db=1, measure=False)
    assert strict.frontier[0].chosen
    assert [point.snr_db for point in strict.frontier[1:]] == [-math.inf]
    free = prepare(path, tmp_path / "free", calibration=samples, min_snr_db=0, measure=False)
    assert free.frontier[1].chosen and json.dumps(free.to_dict(), allow_nan=False)
    assert Bundle.open(tmp_path / "free").manifest.quality["int8_snr_db"] is None
