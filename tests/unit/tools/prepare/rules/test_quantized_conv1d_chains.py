"""What stands behind a quantized layer becomes a part of it, and between two layers only bytes are written."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from modeltext import noise
from qdqtext import (
    ALIKE_DB,
    RESULT,
    ROUNDING,
    SECOND,
    SIGNAL,
    SNAKE,
    TWO,
    assert_bytes_alike,
    layer,
    pair,
    snake_arrays,
    weight_arrays,
    weights,
)

from omni_sdk.tools.metrics import snr_db
from omni_sdk.tools.prepare.rules.base import made_by
from omni_sdk.tools.prepare.rules.conv1d_node import BYTES, Y
from omni_sdk.tools.prepare.sessions import has_operators

pytestmark = pytest.mark.skipif(not has_operators(), reason="the operators' library is not built")


def test_snake_and_bytes_are_written_by_the_layer_alone(requantized):
    body = layer(result="c") + SNAKE.format("s", "c") + "y = QuantizeLinear (s, step, zero)"
    model = requantized(SIGNAL, "uint8[N, M, L] y", body, {**weight_arrays("w", 6, 8, 3), **snake_arrays(6)})
    assert model.ops == {"QuantizeLinear": 1, "QConv1d": 1, "Transpose": 2} and model.asked("QConv1d") == ["bytes"]
    feeds = {"x": noise(2, 8, 40)}
    assert_bytes_alike(model.before(feeds)["y"], model.after(feeds)["y"])


def test_floats_that_are_read_as_well_are_written_beside_the_bytes(requantized):
    body = layer(result="c") + SNAKE.format("s", "c") + "y = QuantizeLinear (s, step, zero)"
    arrays = {**weight_arrays("w", 6, 8, 3), **snake_arrays(6)}
    model = requantized(SIGNAL, "uint8[N, M, L] y, float[N, M, L] s, float[N, M, L] c", body, arrays)
    assert model.ops["QConv1d"] == 1 and model.asked("QConv1d") == ["y", "sum", "bytes"]
    feeds = {"x": noise(2, 8, 40)}
    expected, got = model.before(feeds), model.after(feeds)
    assert_bytes_alike(expected["y"], got["y"])
    for name in ("s", "c"):
        assert np.allclose(got[name], expected[name], rtol=0, atol=ROUNDING)


def test_of_two_quantizations_the_layer_does_one(requantized):
    body = layer(result="c") + "y = QuantizeLinear (c, step, zero) z = QuantizeLinear (c, coarse, zero)"
    arrays = {**weight_arrays("w", 6, 8, 3), "coarse": np.float32(0.05)}
    model = requantized(SIGNAL, "uint8[N, M, L] y, uint8[N, M, L] z", body, arrays)
    model.again()
    assert model.ops["QuantizeLinear"] == 2 and model.asked("QConv1d") == ["y", "bytes"]
    feeds = {"x": noise(2, 8, 40)}
    expected, got = model.before(feeds), model.after(feeds)
    for name in ("y", "z"):
        assert_bytes_alike(expected[name], got[name])


def test_signed_bytes_are_quantized_behind_the_layer(requantized):
    body = layer(result="c") + "y = QuantizeLinear (c, step, signed)"
    arrays = {**weight_arrays("w", 6, 8, 3), "signed": np.int8(3)}
    model = requantized(SIGNAL, "int8[N, M, L] y", body, arrays)
    assert model.ops["QuantizeLinear"] == 2 and model.asked("QConv1d") == ["y"]
    feeds = {"x": noise(2, 8, 40)}
    assert_bytes_alike(model.before(feeds)["y"], model.after(feeds)["y"])


READ_TWICE = {"QConv1d": 2, "Transpose": 3}
"""Of a signal that is read as floats and as bytes both come channels last."""

CHAINS = {
    "snake": (SNAKE.format("s", "e"), SECOND.format("y"), {"QConv1d": 2}, [["bytes"], ["y"]]),
    "sum and snake": (
        "t = Add (x, e) " + SNAKE.format("s", "t"),
        SECOND.format("g") + "y = Add (g, t)",
        READ_TWICE,
        [["sum", "bytes"], ["y"]],
    ),
    "sum with snake": (
        "s, t = omni.AddSnake (e, x, alpha, inv) ",
        SECOND.format("g") + "y = Add (t, g)",
        READ_TWICE,
        [["sum", "bytes"], ["y"]],
    ),
    "sum that nobody else reads": (
        "s, t = omni.AddSnake (e, x, alpha, inv) ",
        SECOND.format("y"),
        READ_TWICE,
        [["bytes"], ["y"]],
    ),
    "nothing": ("s = Identity (e) ", SECOND.format("y"), {"QConv1d": 2, "Identity": 0}, [["bytes"], ["y"]]),
    "another activation": (
        "s = Tanh (e) ",
        SECOND.format("y"),
        {"QConv1d": 2, "Tanh": 1, "QuantizeLinear": 2},
        [["y"], ["y"]],
    ),
}


def chain(behind: str, end: str, between: str = "") -> str:
    """Two layers; bytes lie between, and where `between` is given, behind the first as well."""
    return layer("pads = [2, 0]", result="c") + (between or "e = Identity (c) ") + behind + pair("s", "f") + end


@pytest.mark.parametrize(("behind", "end", "ops", "asked"), CHAINS.values(), ids=CHAINS.keys())
def test_between_two_layers_only_bytes_are_written(requantized, behind, end, ops, asked):
    body = chain(behind, end, pair("c", "e"))
    if "Identity" in behind:
        body = body.replace(behind, "").replace("(s,", "(e,")
    model = requantized(SIGNAL, RESULT, body, TWO)
    wanted = {"QuantizeLinear": 1, "DequantizeLinear": 0, "Transpose": 2, "Add": 0, "Snake": 0, "AddSnake": 0, **ops}
    assert {op: model.ops[op] for op in wanted} == wanted
    assert [model.asked("QConv1d", index) for index in range(2)] == asked
    feeds = {"x": noise(2, 8, 40)}
    exact = model.of(chain(behind, end), feeds)["y"]
    assert snr_db(exact, model.after(feeds)["y"]) > ALIKE_DB
    if "Identity" not in behind:
        assert snr_db(exact, model.before(feeds)["y"]) < ALIKE_DB, "bytes behind every layer say less"


@pytest.mark.parametrize("also", ["", ", t"])
@pytest.mark.parametrize("trims", ["", ", trim_begin = 1, trim_end = 2"])
def test_a_pixel_shuffle_is_a_view_of_bytes(requantized, trims, also):
    outputs = RESULT + (", float[N, 8, K] t" if also else "")

    def text(between):
        shuffle = f"s{also} = omni.ShuffleSnake <stride = 2{trims}> (e, alpha, inv) "
        return layer(result="c") + between + shuffle + pair("s", "f") + SECOND.format("y")

    arrays = {**weight_arrays("w", 16, 8, 3), **weight_arrays("v", 6, 8, 1, seed=2), **snake_arrays(8)}
    model = requantized(SIGNAL, outputs, text(pair("c", "e")), arrays)
    assert model.ops["QConv1d"] == 2 and model.ops["Snake"] == model.ops["DequantizeLinear"] == 0
    assert model.ops["QuantizeLinear"] == 1
    assert model.asked("QConv1d") == (["sum", "bytes"] if also else ["bytes"])
    assert model.ops["Reshape"] == (2 if also else 1) and model.ops["Slice"] == (model.ops["Reshape"] if trims else 0)
    feeds = {"x": noise(1, 8, 40)}
    expected, got = model.of(text("e = Identity (c) "), feeds), model.after(feeds)
    assert snr_db(expected["y"], got["y"]) > ALIKE_DB
    if also:
        assert np.allclose(got["t"], expected["t"], rtol=0, atol=ROUNDING)


def test_a_layer_in_float_reads_floats_of_one_on_bytes(requantized):
    def text(between):
        return layer(result="c") + between + SNAKE.format("s", "e") + "y = Conv (s, u)"

    model = requantized(SIGNAL, RESULT, text(pair("c", "e")), {**TWO, "u": noise(6, 8, 3) / 5})
    assert model.ops == {"QuantizeLinear": 1, "QConv1d": 1, "Conv1d": 1, "Transpose": 2}
    assert model.asked("QConv1d") == model.asked("Conv1d") == ["y"]
    feeds = {"x": noise(2, 8, 20)}
    expected = model.of(text("e = Identity (c) "), feeds)["y"]
    assert np.allclose(model.after(feeds)["y"], expected, rtol=0, atol=ROUNDING)


DEPTHWISE = weights("u") + "g = Conv <group = 8, pads = [2, 0]> (f, u) " + pair("g", "h") + weights("v")
SNAKES = SNAKE.format("s", "e") + pair("s", "f") + DEPTHWISE + SNAKE.format("t", "h") + pair("t", "k")
AROUND = {
    "layers": (pair("c", "f") + DEPTHWISE + "y = Conv (h, v)",) * 2,
    "snakes": (pair("c", "e") + SNAKES + "y = Conv (k, v)", "e = Identity (c) " + SNAKES + "y = Conv (k, v)"),
    "a sum": tuple(
        pair("c", "f") + DEPTHWISE + f"t = Add (h, {read}) " + pair("t", "k") + "y = Conv (k, v)" for read in "fc"
    ),
}


@pytest.mark.parametrize(("behind", "exact"), AROUND.values(), ids=AROUND.keys())
def test_a_depthwise_layer_stays_on_bytes(requantized, behind, exact):
    arrays = {**TWO, **weight_arrays("u", 8, 1, 3, seed=3)}
    model = requantized(SIGNAL, RESULT, layer(result="c") + behind, arrays)
    assert model.ops["QConv1d"] == 2 and model.ops["Conv"] == 1
    (node,) = model.nodes("Conv")
    (reader,) = [user for user, _ in node.outputs[0].uses()]
    assert made_by(node.inputs[0], "DequantizeLinear") is not None and reader.op_type == "QuantizeLinear"
    left = model.run_by_onnxruntime()
    assert left["QLinearConv"] == 1 and left["Conv"] == 0 and left["QConv1d"] == 2
    feeds = {"x": noise(2, 8, 40)}
    assert snr_db(model.of(layer(result="c") + exact, feeds)["y"], model.after(feeds)["y"]) > ALIKE_DB


def test_what_is_written_has_names_of_its_own_and_known_types(requantized):
    model = requantized(SIGNAL, RESULT, chain(SNAKE.format("s", "e"), SECOND.format("y"), pair("c", "e")), TWO)
    (first, second) = model.nodes("QConv1d")
    assert first.outputs[BYTES].dtype == ir.DataType.UINT8 and second.outputs[Y].dtype == ir.DataType.FLOAT
    written = ir.to_proto(first.graph)
    names = [name for node in written.node for name in node.output if name]
    assert len(set(names)) == len(names) and all(each.name for each in written.value_info)
