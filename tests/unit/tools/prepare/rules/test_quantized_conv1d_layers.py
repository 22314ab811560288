"""Quantized layers become omni::QConv1d each, and say what they said; those that the operator cannot do stay."""

from __future__ import annotations

import numpy as np
import pytest
from modeltext import noise
from qdqtext import RESULT, ROUNDING, SIGNAL, STEP, ZERO, assert_bytes_alike, layer, pair, weight_arrays, weights

from omni_sdk.tools.prepare.rules.qconv1d_node import LARGEST_SUM, OFFSET, offset_of, pack_bytes
from omni_sdk.tools.prepare.sessions import has_operators

pytestmark = pytest.mark.skipif(not has_operators(), reason="the operators' library is not built")


RULE = "quantized-conv1d"

ROWS = "float[N, T, 8] x"

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


@pytest.mark.parametrize(("part", "adds"), [(0.99, 0), (0.9999, 1)])
def test_a_bias_that_leaves_sums_no_room_is_added_in_float(requantized, part, adds):
    arrays = weight_arrays("w", 8, 8, axis=1)
    arrays["b"] = np.float32(part * LARGEST_SUM * STEP) * arrays["w_step"]
    body = pair("x", "d") + weights("w", axis=1) + "p = MatMul (d, w) y = Add (p, b)"
    model = requantized(ROWS, RESULT, body, arrays)
    assert model.ops["Add"] == adds and model.ops["QConv1d"] == 1
    feeds = {"x": noise(1, 9, 8)}
    assert np.allclose(model.after(feeds)["y"], model.before(feeds)["y"], rtol=1e-6)


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
