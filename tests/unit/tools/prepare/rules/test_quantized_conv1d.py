"""Quantized layers become omni::QConv1d, with what stands behind them, and say what the quantized model says."""

from __future__ import annotations

from functools import partial

import numpy as np
import onnx_ir as ir
import pytest
from modeltext import noise
from qdqtext import STEP, ZERO, Requantized, pair, snake_arrays, weight_arrays, weights

from omni_sdk.tools.metrics import snr_db
from omni_sdk.tools.prepare.rules.base import made_by
from omni_sdk.tools.prepare.rules.conv1d_node import BYTES, Y
from omni_sdk.tools.prepare.rules.qconv1d_node import LARGEST_SUM, OFFSET, offset_of, pack_bytes
from omni_sdk.tools.prepare.sessions import has_operators

pytestmark = pytest.mark.skipif(not has_operators(), reason="the operators' library is not built")

RULE = "quantized-conv1d"
ROUNDING = 1e-5  # of float32 sums of this size
ALIKE_DB = 48.0
"""Reached where bytes differ in a few places at most, and not where a tensor is rounded to bytes once more."""

SIGNAL = "float[N, 8, T] x"
ROWS = "float[N, T, 8] x"
RESULT = "float[N, M, L] y"


@pytest.fixture
def requantized(tmp_path):
    return partial(Requantized, tmp_path)


def layer(attributes: str = "pads = [0, 0]", inputs: str = "d, w", result: str = "y") -> str:
    return pair("x", "d") + weights("w") + f"{result} = Conv <{attributes}> ({inputs}) "


GEOMETRIES = {
    "no pads": (6, 3, "pads = [0, 0]"),
    "causal": (6, 3, "pads = [2, 0]"),
    "dilated": (6, 3, "pads = [1, 4], dilations = [3]"),
    "valid": (6, 3, 'auto_pad = "VALID"'),
    "kernel 1": (16, 1, "kernel_shape = [1]"),
    "kernel 11": (1, 11, "pads = [5, 5]"),
    "two panels": (17, 2, "pads = [1, 0]"),
}


@pytest.mark.parametrize("per_channel", [True, False], ids=["per channel", "per tensor"])
@pytest.mark.parametrize(("outputs", "kernel", "attributes"), GEOMETRIES.values(), ids=GEOMETRIES.keys())
def test_a_layer_of_any_geometry_and_scales(requantized, outputs, kernel, attributes, per_channel):
    arrays = weight_arrays("w", outputs, 8, kernel, per_channel=per_channel)
    model = requantized(SIGNAL, RESULT, layer(attributes), arrays)
    assert model.ops["QConv1d"] == model.ops["QuantizeLinear"] == 1 and model.asked("QConv1d") == ["y"]
    assert model.ops["Conv"] == model.ops["DequantizeLinear"] == 0
    feeds = {"x": noise(2, 8, 13)}
    assert np.allclose(model.after(feeds)["y"], model.before(feeds)["y"], rtol=0, atol=ROUNDING)


def unit(arrays) -> float:
    """What one in a sum of products is worth, at most."""
    return float(STEP * arrays["w_step"].max())


def test_a_bias_in_float_moves_by_half_a_unit_at_most(requantized):
    arrays = {**weight_arrays("w", 6, 8, 3), "b": noise(6)}
    model = requantized(SIGNAL, RESULT, layer(inputs="d, w, b"), arrays)
    assert model.ops["QConv1d"] == 1
    feeds = {"x": noise(2, 8, 9)}
    expected, got = model.before(feeds)["y"], model.after(feeds)["y"]
    assert np.allclose(got, expected, rtol=0, atol=ROUNDING + unit(arrays) / 2)
    assert not np.allclose(got, expected - arrays["b"][:, None], atol=0.01), "it is there"


def test_a_bias_in_units_is_exact(requantized):
    arrays = weight_arrays("w", 6, 8, 3)
    arrays |= {"b_ints": np.array([-9000, 7, 0, 1, 20000, 31], np.int32), "b_step": STEP * arrays["w_step"]}
    body = "b = DequantizeLinear <axis = 0> (b_ints, b_step) " + layer(inputs="d, w, b")
    model = requantized(SIGNAL, RESULT, body, arrays)
    assert model.ops["QConv1d"] == 1
    feeds = {"x": noise(2, 8, 9)}
    assert np.allclose(model.after(feeds)["y"], model.before(feeds)["y"], rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("per_channel", [True, False], ids=["per channel", "per tensor"])
def test_a_product_with_its_bias(requantized, per_channel):
    body = pair("x", "d") + weights("w", axis=1) + "p = MatMul (d, w) " + pair("p", "e") + "y = Add (b, e)"
    arrays = {**weight_arrays("w", 8, 6, axis=1, per_channel=per_channel), "b": noise(6)}
    model = requantized(ROWS, RESULT, body, arrays)
    assert model.ops == {"QuantizeLinear": 1, "QConv1d": 1}
    feeds = {"x": noise(2, 9, 8)}
    exact = model.of(body.replace(pair("p", "e"), "e = Identity (p) "), feeds)["y"]
    assert np.allclose(model.after(feeds)["y"], exact, rtol=0, atol=ROUNDING + unit(arrays) / 2)


W = weight_arrays("w", 8, 8, 3)
SIGNED = {"zero": np.int8(-3)}
REFUSED = {
    "groups": (layer("group = 2"), weight_arrays("w", 8, 4, 3), "has 2 groups."),
    "stride": (layer("strides = [2]"), W, "has stride 2; the operator knows 1."),
    "kernel": (layer(), weight_arrays("w", 8, 8, 12), "has a kernel of 12; the operator goes to 11."),
    "padding": (layer('auto_pad = "SAME_UPPER"'), W, "computes its own padding (auto_pad)."),
    "int8": (layer(), {**W, **SIGNED}, "is int8 x int8; the operator multiplies uint8 x int8."),
    "uint8 weights": (
        layer(),
        {**W, "w_bytes": (W["w_bytes"].astype(int) + 128).astype(np.uint8), "w_zero": np.full(8, 128, np.uint8)},
        "is uint8 x uint8; the operator multiplies uint8 x int8.",
    ),
    "weights' zero point": (
        layer(),
        {**W, "w_zero": np.arange(8, dtype=np.int8)},
        "has weights with a zero point, or with scales along another axis.",
    ),
    "another axis": (
        layer().replace("axis = 0", "axis = 1"),
        W,
        "has weights with a zero point, or with scales along another axis.",
    ),
    "scales of the signal": (
        layer().replace("Linear(", "Linear <axis = 1> ("),
        {**W, "step": np.linspace(0.02, 0.04, 8, dtype=np.float32), "zero": np.full(8, 117, np.uint8)},
        "reads a signal that has no single scale.",
    ),
    "no bytes": (
        layer(inputs="x, w").replace(pair("x", "d"), ""),
        W,
        "reads a signal that has no single scale.",
    ),
    "sums": (layer(inputs="d, w, b"), {**W, "b": np.full(8, 1e6, np.float32)}, "has sums that 32 bits do not hold."),
    "units": (
        layer(),
        {**W, "w_step": np.full(8, 1e-44, np.float32)},
        "has products too small for float32.",
    ),
}


@pytest.mark.parametrize(("body", "arrays", "sentence"), REFUSED.values(), ids=REFUSED.keys())
def test_what_the_operator_cannot_do_stays(requantized, body, arrays, sentence):
    model = requantized(SIGNAL, RESULT, body, arrays)
    assert model.ops["Conv"] == 1 and model.ops["QConv1d"] == 0
    (reason,) = model.reasons(RULE)
    assert reason.partition(" ")[2] == sentence
    feeds = {"x": noise(2, 8, 15)}
    assert np.allclose(model.after(feeds)["y"], model.before(feeds)["y"], rtol=1e-6, atol=ROUNDING)


def test_other_channels_than_words_stay(requantized):
    model = requantized("float[N, 6, T] x", RESULT, layer(), weight_arrays("w", 8, 6, 3))
    assert model.ops["Conv"] == 1
    assert model.reasons(RULE)[0].endswith("has 6 channels; the operator takes a multiple of 4.")


def test_a_bias_computed_at_run_time_stays(requantized):
    model = requantized(f"{SIGNAL}, float[8] b", RESULT, layer(inputs="d, w, b"), W)
    assert model.ops["Conv"] == 1
    assert model.reasons(RULE)[0].endswith("has a bias that is computed at run time.")


@pytest.mark.parametrize(
    ("axis", "signal", "sentence"),
    [
        (1, "float[T, 8] x", "is no product of a rank-3 tensor and a matrix."),
        (0, ROWS, "has weights with a zero point, or with scales along another axis."),
    ],
    ids=["rank", "axis"],
)
def test_another_product_stays(requantized, axis, signal, sentence):
    body = pair("x", "d") + weights("w", axis=axis) + "y = MatMul (d, w)"
    outputs = "float[T, M] y" if "N" not in signal else RESULT
    model = requantized(signal, outputs, body, weight_arrays("w", 8, 8, axis=axis))
    assert model.ops["MatMul"] == 1 and model.reasons(RULE)[0].endswith(sentence)


def assert_bytes_alike(expected: np.ndarray, got: np.ndarray) -> None:
    """Rounding of what lies between two bytes may go either way, and hardly anything lies so."""
    difference = np.abs(expected.astype(int) - got)
    assert difference.max() <= 1 and np.count_nonzero(difference) <= expected.size // 50


SNAKE = "{} = omni.Snake ({}, alpha, inv) "


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


@pytest.mark.parametrize(("part", "adds"), [(0.99, 0), (0.9999, 1)])
def test_a_bias_that_leaves_sums_no_room_is_added_in_float(requantized, part, adds):
    arrays = weight_arrays("w", 8, 8, axis=1)
    arrays["b"] = np.float32(part * LARGEST_SUM * STEP) * arrays["w_step"]
    body = pair("x", "d") + weights("w", axis=1) + "p = MatMul (d, w) y = Add (p, b)"
    model = requantized(ROWS, RESULT, body, arrays)
    assert model.ops["Add"] == adds and model.ops["QConv1d"] == 1
    feeds = {"x": noise(1, 9, 8)}
    assert np.allclose(model.after(feeds)["y"], model.before(feeds)["y"], rtol=1e-6)


SCALES = {"steps": np.linspace(0.02, 0.04, 8, dtype=np.float32), "zeros": np.arange(100, 108, dtype=np.uint8)}


def test_channels_of_other_scales_are_quantized_where_they_lie(requantized):
    body = "c = Conv (x, u) y = QuantizeLinear <axis = 1> (c, steps, zeros)"
    model = requantized(SIGNAL, "uint8[N, 8, L] y", body, {**SCALES, "u": noise(8, 8, 3) / 5})
    assert model.ops["Conv1d"] == 1
    feeds = {"x": noise(2, 8, 40)}
    assert_bytes_alike(model.before(feeds)["y"], model.after(feeds)["y"])


def test_channels_of_other_scales_are_dequantized_where_they_lie(requantized):
    body = "d = DequantizeLinear <axis = 1> (x, steps, zeros) y = Conv (d, u)"
    model = requantized("uint8[N, 8, T] x", RESULT, body, {**SCALES, "u": noise(8, 8, 3) / 5})
    assert model.ops["Conv1d"] == 1
    feeds = {"x": np.random.default_rng(0).integers(0, 256, (2, 8, 9)).astype(np.uint8)}
    assert np.allclose(model.after(feeds)["y"], model.before(feeds)["y"], rtol=0, atol=ROUNDING)


TWO = {**weight_arrays("w", 8, 8, 3), **weight_arrays("v", 8, 8, 1, seed=2), **snake_arrays(8)}
SECOND = weights("v") + "{} = Conv (f, v) "

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


def state(of: str, columns: int) -> str:
    return f"""start = Constant <value = int64[1] {{{-columns}}}> () time = Constant <value = int64[1] {{2}}> ()
        end = Constant <value = int64[1] {{9223372036854775807}}> () present = Slice ({of}, start, end, time) """


STREAM_IN, STREAM_OUT = "float[N, 8, 4] past, float[N, 8, T] x", "float[N, M, L] y, float[N, 8, K] present"
STREAM = "j = Concat <axis = 2> (past, x) " + pair("j", "d") + state("d", 4) + weights("w")
LAST = "y = Conv <dilations = [2]> (d, w)"


def stepped(model: Requantized, x: np.ndarray, lengths: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """The waveform of steps of these lengths, and the last state."""
    past, heard = np.zeros((len(x), 8, 4), np.float32), []
    for chunk in np.split(x, np.cumsum(lengths)[:-1], axis=2):
        outputs = model.after({"past": past, "x": chunk})
        past = outputs["present"]
        heard.append(outputs["y"])
    return np.concatenate(heard, axis=2), past


def test_steps_of_a_stream_say_what_the_whole_says(requantized):
    model = requantized(
        STREAM_IN, STREAM_OUT, STREAM + "y = Conv <dilations = [2]> (d, w)", weight_arrays("w", 6, 8, 3)
    )
    assert model.ops["Concat"] == model.ops["Slice"] == 0 and model.asked("QConv1d") == ["y", "present"]
    x = noise(2, 8, 30)
    whole = model.before({"past": np.zeros((2, 8, 4), np.float32), "x": x})
    heard, last = stepped(model, x, [9, 1, 2, 3, 15])
    assert np.allclose(heard, whole["y"], rtol=0, atol=ROUNDING)
    assert np.allclose(last, whole["present"], rtol=0, atol=1e-6)


def test_a_state_of_any_floats_is_read_as_bytes(requantized):
    model = requantized(
        STREAM_IN, STREAM_OUT, STREAM + "y = Conv <dilations = [2]> (d, w)", weight_arrays("w", 6, 8, 3)
    )
    for columns in (1, 9):
        feeds = {"past": noise(2, 8, 4, seed=5), "x": noise(2, 8, columns)}
        expected, got = model.before(feeds), model.after(feeds)
        assert np.allclose(got["y"], expected["y"], rtol=0, atol=ROUNDING)
        fresh = min(columns, 4)
        assert np.allclose(got["present"][:, :, -fresh:], expected["present"][:, :, -fresh:], rtol=0, atol=1e-6)
        assert np.array_equal(got["present"][:, :, :-fresh], feeds["past"][:, :, fresh:]), "floats stay as they are"


def test_a_past_shorter_than_what_is_looked_back_at_is_taken(requantized):
    body = "j = Concat <axis = 2> (past, x) " + pair("j", "d") + state("d", 2) + weights("w")
    body += LAST
    inputs = STREAM_IN.replace("8, 4", "8, 2")
    model = requantized(inputs, STREAM_OUT, body, weight_arrays("w", 6, 8, 3))
    assert model.ops["Concat"] == 1 and model.asked("QConv1d") == ["y"], "the state comes from elsewhere"
    feeds = {"past": noise(1, 8, 2, seed=5), "x": noise(1, 8, 9)}
    expected, got = model.before(feeds), model.after(feeds)
    assert np.allclose(got["y"], expected["y"], rtol=0, atol=ROUNDING)
    assert np.array_equal(got["present"], feeds["x"][:, :, -2:]), "in float: nobody asked for bytes"


def test_a_state_of_fewer_columns_than_it_may_have_stays_a_slice(requantized):
    inputs = STREAM_IN.replace("8, 4", "8, 2")
    model = requantized(inputs, STREAM_OUT, STREAM + LAST, weight_arrays("w", 6, 8, 3))
    assert model.ops["Slice"] == 1 and model.asked("QConv1d") == ["y"]
    feeds = {"past": noise(1, 8, 2, seed=5), "x": noise(1, 8, 3)}
    expected, got = model.before(feeds), model.after(feeds)
    assert np.allclose(got["y"], expected["y"], rtol=0, atol=ROUNDING)
    assert np.allclose(got["present"], expected["present"], rtol=0, atol=STEP)


def test_a_longer_past_stays_joined(requantized):
    model = requantized(STREAM_IN, STREAM_OUT, STREAM + "y = Conv (d, w)", weight_arrays("w", 6, 8, 3))
    assert model.ops["Concat"] == 1 and "2 that are looked back at" in model.reasons("conv1d-past")[0]
    feeds = {"past": noise(1, 8, 4, seed=5), "x": noise(1, 8, 9)}
    assert np.allclose(model.after(feeds)["y"], model.before(feeds)["y"], rtol=0, atol=ROUNDING)


def test_a_stream_whose_layer_has_snake_and_bytes_behind_it(requantized):
    def text(between):
        first = STREAM + "c = Conv <dilations = [2]> (d, w) " + between
        return first + SNAKE.format("s", "e") + pair("s", "f") + SECOND.format("y")

    model = requantized(STREAM_IN, STREAM_OUT, text(pair("c", "e")), TWO)
    assert [model.asked("QConv1d", index) for index in range(2)] == [["present", "bytes"], ["y"]]
    x = noise(1, 8, 30)
    whole = model.of(text("e = Identity (c) "), {"past": np.zeros((1, 8, 4), np.float32), "x": x})["y"]
    assert snr_db(whole, stepped(model, x, [10, 20])[0]) > ALIKE_DB


def test_a_layer_in_float_between_them_writes_its_state_and_no_sum(requantized):
    body = "j = Concat <axis = 2> (past, x) " + state("j", 4) + "c = Conv <dilations = [2]> (j, u) "
    body += SNAKE.format("s", "c") + pair("s", "f") + SECOND.format("y")
    model = requantized(STREAM_IN, STREAM_OUT, body, {**TWO, "u": noise(8, 8, 3) / 5})
    assert model.ops["Conv1d"] == model.ops["QConv1d"] == 1 and model.ops["Concat"] == 0
    assert model.asked("Conv1d") == ["y", "present"] and model.asked("QConv1d") == ["y"]
    feeds = {"past": noise(2, 8, 4, seed=5), "x": noise(2, 8, 20)}
    expected, got = model.before(feeds), model.after(feeds)
    assert snr_db(expected["y"], got["y"]) > ALIKE_DB and np.array_equal(expected["present"], got["present"])


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


def test_weights_lie_word_by_word_and_panel_by_panel():
    weight = np.random.default_rng(0).integers(-128, 128, (19, 8, 3)).astype(np.int8)
    packed = pack_bytes(weight)
    assert packed.shape == (3, 2, 2, 64) and packed.dtype == np.int8
    for output, channel, tap in np.ndindex(weight.shape):
        place = (tap, output // 16, channel // 4, output % 16 * 4 + channel % 4)
        assert packed[place] == weight[output, channel, tap]
    assert not packed[:, 1, :, 3 * 4 :].any(), "outputs that there are not"


def test_an_offset_takes_back_what_the_zero_point_adds_and_has_the_bias():
    weight = np.array([[[1, 2]] * 4, [[-3, 1]] * 4], np.int8)
    bias, multiplier = np.array([1.0, -2.0], np.float32), np.array([0.5, 0.25], np.float32)
    assert offset_of(weight, 10, bias, multiplier).tolist() == [-10 * 12 + 2, 10 * 8 - 8]
    assert offset_of(weight, 10, None, multiplier).tolist() == [-120, 80]


@pytest.mark.parametrize(("beyond", "fits"), [(0, True), (1, False)])
def test_offsets_leave_room_for_the_largest_sum(beyond, fits):
    weight = np.full((1, 4, 1), -128, np.int8)
    bias = np.array([LARGEST_SUM - 255 * 512 + beyond], np.float64)
    assert (offset_of(weight, 0, bias, np.ones(1, np.float32)) is not None) == fits


def test_the_offset_of_a_node_holds_the_zero_points_share(requantized):
    model = requantized(SIGNAL, RESULT, layer(), W)
    offset = model.nodes("QConv1d")[0].inputs[OFFSET].const_value.numpy()
    assert np.array_equal(offset, -int(ZERO) * W["w_bytes"].astype(int).sum((1, 2)))


def test_what_is_written_has_names_of_its_own_and_known_types(requantized):
    model = requantized(SIGNAL, RESULT, chain(SNAKE.format("s", "e"), SECOND.format("y"), pair("c", "e")), TWO)
    (first, second) = model.nodes("QConv1d")
    assert first.outputs[BYTES].dtype == ir.DataType.UINT8 and second.outputs[Y].dtype == ir.DataType.FLOAT
    written = ir.to_proto(first.graph)
    names = [name for node in written.node for name in node.output if name]
    assert len(set(names)) == len(names) and all(each.name for each in written.value_info)
