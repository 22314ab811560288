"""Equalized channels: the same results in float, less noise in bytes, and hands off where a scale cannot pass."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from onnx_ir.passes.common import LiftConstantsToInitializersPass
from onnxruntime.quantization import CalibrationMethod

sys.path.insert(0, str(Path(__file__).parents[1]))
from small_models import noise, save

from omni_sdk.tools.metrics import snr_db
from omni_sdk.tools.prepare.calibration import Samples
from omni_sdk.tools.prepare.quantize.build import build
from omni_sdk.tools.prepare.quantize.equalize import equalize, factors_of
from omni_sdk.tools.prepare.quantize.qdq import calibrate, quantize_all
from omni_sdk.tools.prepare.quantize.recipe import choose_recipe
from omni_sdk.tools.prepare.quantize.scheme import SEVEN_BITS
from omni_sdk.tools.prepare.quantize.selection import groups_of
from omni_sdk.tools.prepare.quantize.ties import ties_of
from omni_sdk.tools.prepare.rules.order import FORMS
from omni_sdk.tools.prepare.sessions import has_operators, open_session, run

pytestmark = pytest.mark.skipif(not has_operators(), reason="the operators' library is not built")

C = 8
HEADER = '<ir_version: 9, opset_import: ["" : 18, "omni" : 1]>'
PARAMETERS = f"float[{C}] a0, float[{C}] b0, float[{C}] a1, float[{C}] b1, float[{C}] a2, float[{C}] b2"

BLOCK = f"""{HEADER} agraph (float[N, 4, T] x, float[{2 * C}, 4, 3] w0, float[{2 * C}] c0, float[{C}, {C}, 3] w1,
        float[{C}, {C}, 1] w2, float[{C}] c2, float[2, {C}, 3] w3, {PARAMETERS}) => (float[N, 2, L] y) {{
    h0 = Conv(x, w0, c0)
    s0, r0 = omni.ShuffleSnake <stride = 2> (h0, a0, b0)
    h1 = Conv <pads = [2, 0]> (s0, w1) s1 = omni.Snake(h1, a1, b1)
    h2 = Conv(s1, w2, c2) s2 = omni.AddSnake(h2, r0, a2, b2)
    y = Conv(s2, w3)
}}"""
"""An upsampling block: pixel shuffle, one residual unit, and the convolution after it."""

STREAM = f"""{HEADER} agraph (float[N, 4, T] x, float[N, {C}, 2] past, float[{C}, 4, 1] w0, float[2, {C}, 3] w3,
        float[{C}] a0, float[{C}] b0) => (float[N, 2, L] y, float[N, {C}, 2] present) {{
    h0 = Conv(x, w0) s0 = omni.Snake(h0, a0, b0)
    z = Concat <axis = 2> (past, s0)
    starts = Constant <value = int64[1] {{-2}}> () ends = Constant <value = int64[1] {{9999}}> ()
    axes = Constant <value = int64[1] {{2}}> () present = Slice(z, starts, ends, axes)
    y = Conv(z, w3)
}}"""


def gains(*shape: int, seed: int, spread: float = 1.5) -> np.ndarray:
    return np.exp(spread * noise(*shape, seed=seed)).astype(np.float32)


def arrays() -> dict[str, np.ndarray]:
    made = {
        "w0": noise(2 * C, 4, 3) * np.tile(gains(C, seed=9), 2)[:, None, None] / 3,
        "c0": noise(2 * C, seed=1),
        "w1": noise(C, C, 3, seed=2) * gains(C, 1, 1, seed=3) / 5,
        "w2": noise(C, C, 1, seed=4) / 3,
        "c2": noise(C, seed=5),
        "w3": noise(2, C, 3, seed=6),
    }
    for number in range(3):
        made[f"a{number}"] = abs(noise(C, seed=20 + number)) + 0.5
        made[f"b{number}"] = abs(noise(C, seed=30 + number)) + 0.5
    return made


def model(folder: Path, text: str, **changed: np.ndarray) -> Path:
    graph = ir.from_onnx_text(text)
    given = {**arrays(), **changed}
    names = {value.name for value in graph.graph.inputs}
    for node in graph.graph:
        for value in node.outputs:
            value.dtype = value.dtype or (ir.DataType.INT64 if node.op_type == "Constant" else ir.DataType.FLOAT)
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(graph)
    return save(graph, {name: array for name, array in given.items() if name in names}, folder / "float.onnx")


def samples(count: int = 3) -> list[dict[str, np.ndarray]]:
    return [{"x": noise(1, 4, 60, seed=40 + number)} for number in range(count)]


def test_factors_are_roots_of_ranges_about_one():
    factors = factors_of(np.array([16.0, 1.0, 0.0, 1 / 16], np.float32))
    assert factors == pytest.approx([4, 1, 1, 0.25])
    assert factors_of(np.zeros(3, np.float32)) == pytest.approx([1, 1, 1])


def test_in_float_nothing_changes(tmp_path):
    path = model(tmp_path, BLOCK)
    assert equalize(path, samples(), {}, tmp_path / "equal.onnx") == 2
    expected, got = (run(open_session(graph), samples()[0])["y"] for graph in (path, tmp_path / "equal.onnx"))
    assert snr_db(expected, got) > 110


def test_channels_come_nearer_to_one_another(tmp_path):
    path = model(tmp_path, BLOCK)
    equalize(path, samples(), {}, tmp_path / "equal.onnx")
    spreads = []
    for graph in (path, tmp_path / "equal.onnx"):
        loaded = ir.load(graph)
        inner = next(node for node in loaded.graph if node.op_type == "Snake").outputs[0]
        inner.type = ir.TensorType(ir.DataType.FLOAT)
        loaded.graph.outputs.append(inner)
        ir.save(loaded, tmp_path / "watched.onnx")
        largest = np.abs(run(open_session(tmp_path / "watched.onnx"), samples()[0])[inner.name]).max(axis=(0, 2))
        spreads.append(np.log2(largest).std())
    assert spreads[1] == pytest.approx(spreads[0] / 2, rel=0.1)


def quantized_snr(path: Path, folder: Path) -> float:
    nodes = [name for group in groups_of(ir.load(path)) for name in group.nodes]
    ranges = calibrate(path, samples()[:2], CalibrationMethod.MinMax)
    quantize_all(path, ranges, SEVEN_BITS, nodes, folder / "quantized.onnx")
    made, _ = build(folder / "quantized.onnx", path, nodes, folder)
    ir.save(made, folder / "built.onnx")
    expected, got = (run(open_session(graph), samples()[2])["y"] for graph in (path, folder / "built.onnx"))
    return snr_db(expected, got)


def test_bytes_are_less_noisy(tmp_path):
    path = model(tmp_path, BLOCK)
    equalize(path, samples()[:2], {}, tmp_path / "equal.onnx")
    assert quantized_snr(tmp_path / "equal.onnx", tmp_path) > quantized_snr(path, tmp_path) + 0.3


def test_a_stream_carries_its_state_in_the_new_scale(tmp_path):
    first = noise(C, 4, 1) * gains(C, 1, 1, seed=9)
    path, state = model(tmp_path, STREAM, w0=first), {"past": "present"}
    given = [{**sample, "past": np.zeros((1, C, 2), np.float32)} for sample in samples()]
    assert equalize(path, given, state, tmp_path / "equal.onnx") == 1
    heard = []
    for graph in (path, tmp_path / "equal.onnx"):
        session, past, parts = open_session(graph), np.zeros((1, C, 2), np.float32), []
        for sample in samples():
            outputs = run(session, {**sample, "past": past})
            past = outputs["present"]
            parts.append(outputs["y"])
        heard.append(np.concatenate(parts, axis=2))
    assert snr_db(heard[0], heard[1]) > 110


@pytest.mark.parametrize(
    ("text", "state"),
    [
        (STREAM, {}),
        (STREAM, {"past": "elsewhere"}),
        (BLOCK.replace("y = Conv(s2, w3)", "m = Sin(s2) q = Conv(s1, w2) v = Relu(s1) y = Conv(m, w3)"), {}),
        (
            BLOCK.replace("s1 = omni.Snake(h1", "s1 = omni.Snake <channels_last = 1> (h1").replace(
                "s2 = omni.AddSnake(h2, r0", "t2 = Tanh(s0) s2 = omni.AddSnake(h2, r0"
            ),
            {},
        ),
    ],
    ids=["no state declared", "state to elsewhere", "read by others", "channels last"],
)
def test_no_scale_passes(tmp_path, text, state):
    path = model(tmp_path, text)
    assert ties_of(ir.load(path), state) == []
    assert equalize(path, [], state, tmp_path / "equal.onnx") == 0
    assert not (tmp_path / "equal.onnx").exists()


@pytest.mark.parametrize("equalized_noise", [0.5, 2.0])
def test_equalized_channels_stay_where_they_leave_less_noise(tmp_path, equalized_noise):
    path = model(tmp_path, BLOCK)
    nodes = [name for group in groups_of(ir.load(path)) for name in group.nodes]

    def measure(recipe):
        return dataclasses.replace(recipe, noise=equalized_noise if recipe.equalized else 1.0, seconds=1.0)

    halves = Samples(samples()[:2], samples()[2:], "")
    recipe = choose_recipe(path, nodes, halves, (SEVEN_BITS,), FORMS[:1], {}, measure, lambda what, done: None)
    assert recipe.equalized == (equalized_noise < 1)
    assert recipe.floats.name == ("equalized.onnx" if recipe.equalized else "float.onnx")
    assert list(tmp_path.glob("quantized-*.onnx")) == [recipe.quantized]


@pytest.mark.parametrize(("seconds", "title"), [(1.9, "omni::QConv1d"), (2.1, "QLinearConv")])
def test_the_operators_with_the_least_product_of_noise_and_time_compute(tmp_path, seconds, title):
    path = model(tmp_path, BLOCK)
    nodes = [name for group in groups_of(ir.load(path)) for name in group.nodes]

    def measure(recipe):
        fused = recipe.form.title == "omni::QConv1d"
        return dataclasses.replace(recipe, noise=0.5 if fused else 1.0, seconds=seconds if fused else 1.0)

    halves = Samples(samples()[:2], samples()[2:], "")
    recipe = choose_recipe(path, nodes, halves, (SEVEN_BITS,), FORMS, {}, measure, lambda what, done: None)
    assert recipe.form.title == title and title in str(recipe)
    assert recipe.quantized.exists()
