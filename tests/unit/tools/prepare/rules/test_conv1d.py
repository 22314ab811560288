"""Convolutions over time become omni::Conv1d, with their past, their layout and what stands behind them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from modeltext import noise

from omni_sdk.tools.prepare.rules.conv1d_node import PRESENT, SUM, is_conv1d, optional_input, places, plain_weights
from omni_sdk.tools.prepare.sessions import open_session, run

FOLD, LAYER, SINK = "constant-folding", "conv1d", "sink-transposes"
ALL = (FOLD, LAYER, "conv1d-past", "matmul-as-conv1d", SINK, "conv1d-epilogue")
W = noise(5, 4, 3, seed=1)


def layer(attributes: str = "pads = [0, 0]", more: str = "", result: str = "y", inputs: str = "") -> str:
    return f"""agraph (float[N, 4, T] x, float[5, 4, 3] w, float[5] b{inputs}) => (float[N, M, L] {result}) {{
        y = Conv <{attributes}> (x, w, b) {more} }}"""


def conv1d(rewriting) -> list[ir.Node]:
    return [node for node in rewriting.after.graph if is_conv1d(node)]


def past_of(rewriting) -> ir.Value | None:
    node = conv1d(rewriting)[0]
    return optional_input(node, places(node).past)


@pytest.mark.parametrize(
    "attributes",
    ["pads = [0, 0]", "pads = [2, 0]", "pads = [1, 1], dilations = [2]", 'auto_pad = "VALID"', "kernel_shape = [3]"],
)
def test_a_convolution_of_any_padding_and_dilation(rewrite, attributes):
    rewriting = rewrite(layer(attributes), LAYER, w=W, b=noise(5))
    assert rewriting.ops == {"Conv1d": 1, "Transpose": 2}
    rewriting.assert_equal({"x": noise(2, 4, 11)})


@pytest.mark.parametrize("kernel", range(1, 12))
def test_every_kernel_the_operator_knows(rewrite, kernel):
    text = f"agraph (float[N, 4, T] x, float[6, 4, {kernel}] w) => (float[N, 6, L] y) {{ y = Conv (x, w) }}"
    weight = noise(6, 4, kernel)
    rewriting = rewrite(text, LAYER, w=weight)
    (node,) = conv1d(rewriting)
    assert np.array_equal(plain_weights(node)(), weight)
    rewriting.assert_equal({"x": noise(1, 4, 17)})


NOT_HERE = {
    "groups": ("float[4, 1, 3] w", "group = 4", noise(4, 1, 3), "4 groups"),
    "stride": ("float[5, 4, 3] w", "strides = [2]", W, "stride 2"),
    "kernel": ("float[5, 4, 12] w", "group = 1", noise(5, 4, 12), "kernel of 12"),
    "auto_pad": ("float[5, 4, 3] w", 'auto_pad = "SAME_UPPER"', W, "auto_pad"),
}


@pytest.mark.parametrize(("declared", "attributes", "weight", "words"), NOT_HERE.values(), ids=NOT_HERE.keys())
def test_what_the_operator_cannot_do_stays(rewrite, declared, attributes, weight, words):
    text = f"agraph (float[N, 4, T] x, {declared}) => (float[N, M, L] y) {{ y = Conv <{attributes}> (x, w) }}"
    rewriting = rewrite(text, *ALL, w=weight)
    assert rewriting.ops == {"Conv": 1}
    assert words in rewriting.reasons(LAYER)[0]


def test_weights_computed_at_run_time_stay(rewrite):
    rewriting = rewrite(layer(), LAYER, b=noise(5))
    assert rewriting.ops == {"Conv": 1} and "computed at run time" in rewriting.reasons(LAYER)[0]


def test_a_bias_computed_at_run_time_stays(rewrite):
    rewriting = rewrite(layer(), LAYER, w=W)
    assert rewriting.ops == {"Conv": 1} and "bias" in rewriting.reasons(LAYER)[0]


def test_two_spatial_dimensions_stay(rewrite):
    text = "agraph (float[N, 4, H, T] x, float[5, 4, 3, 3] w) => (float[N, 5, K, L] y) { y = Conv (x, w) }"
    rewriting = rewrite(text, LAYER, w=noise(5, 4, 3, 3))
    assert rewriting.ops == {"Conv": 1} and "2 spatial dimensions" in rewriting.reasons(LAYER)[0]


def test_double_stays(rewrite):
    text = "agraph (double[N, 4, T] x, double[5, 4, 3] w) => (double[N, 5, L] y) { y = Conv (x, w) }"
    rewriting = rewrite(text, LAYER, w=W.astype(np.float64))
    assert rewriting.ops == {"Conv": 1} and "float32" in rewriting.reasons(LAYER)[0]


def stream(slice_from: int = -2, past: int = 2, more: str = "") -> str:
    return f"""agraph (float[N, 4, {past}] past, float[N, 4, T] x, float[5, 4, 3] w)
        => (float[N, 5, L] y, float[N, 4, K] present) {{
        j = Concat <axis = 2> (past, x) y = Conv (j, w)
        s = Constant <value = int64[1] {{{slice_from}}}> () e = Constant <value = int64[1] {{9223372036854775807}}> ()
        a = Constant <value = int64[1] {{2}}> () present = Slice(j, s, e, a) {more} }}"""


def test_a_stream_gives_its_past_and_takes_its_state(rewrite):
    rewriting = rewrite(stream(), *ALL, w=W)
    (node,) = conv1d(rewriting)
    assert optional_input(node, places(node).past) is not None and len(node.outputs) == PRESENT + 1
    assert rewriting.ops == {"Conv1d": 1, "Transpose": 4}
    for length in (1, 2, 9):
        rewriting.assert_equal({"past": noise(2, 4, 2, seed=3), "x": noise(2, 4, length)})


def test_another_state_than_the_columns_looked_back_at_stays_a_slice(rewrite):
    rewriting = rewrite(stream(slice_from=-1), *ALL, w=W)
    assert rewriting.ops["Slice"] == 1 and past_of(rewriting) is not None
    rewriting.assert_equal({"past": noise(1, 4, 2, seed=3), "x": noise(1, 4, 5)})


def test_a_longer_past_stays_joined(rewrite):
    rewriting = rewrite(stream(past=3), *ALL, w=W)
    assert rewriting.ops["Concat"] == 1 and past_of(rewriting) is None
    assert "2 that are looked back at" in rewriting.reasons("conv1d-past")[0]
    rewriting.assert_equal({"past": noise(1, 4, 3, seed=3), "x": noise(1, 4, 5)})


@pytest.mark.parametrize("columns", [1, 2])
@pytest.mark.parametrize("pattern", [False, True], ids=["arena", "pattern"])
def test_a_past_of_which_some_may_be_dropped_is_taken(rewrite, columns, pattern):
    text = f"""agraph (float[1, 4, {columns}] past, int64[1] dropped, float[1, 4, T] x, float[6, 4, {columns + 1}] w)
        => (float[1, 6, L] y) {{
        e = Constant <value = int64[1] {{9223372036854775807}}> () a = Constant <value = int64[1] {{2}}> ()
        p = Slice(past, dropped, e, a) j = Concat <axis = 2> (p, x) y = Conv (j, w) }}"""
    rewriting = rewrite(text, *ALL, w=noise(6, 4, columns + 1))
    assert rewriting.ops["Concat"] == 0
    feeds = [
        {"past": noise(1, 4, columns, seed=3), "dropped": np.array([dropped]), "x": noise(1, 4, 5)}
        for dropped in (*range(columns + 1), 0)
    ]
    for each in feeds:
        rewriting.assert_equal(each)
    # ORT plans memory by shape from the second run on; the past's length changes under it.
    session = open_session(rewriting.folder / "after.onnx", memory_pattern=pattern)
    plain = open_session(rewriting.folder / "before.onnx")
    for each in feeds * 2:
        assert np.allclose(run(session, each)["y"], run(plain, each)["y"], atol=1e-5)


def test_a_past_shorter_than_what_is_looked_back_at_is_taken(rewrite):
    rewriting = rewrite(stream(past=1, slice_from=-1), *ALL, w=W)
    (node,) = conv1d(rewriting)
    assert optional_input(node, places(node).past) is not None and rewriting.ops["Concat"] == 1, "the state's alone"
    for length in (2, 3, 9):
        rewriting.assert_equal({"past": noise(2, 4, 1, seed=3), "x": noise(2, 4, length)})


@pytest.mark.parametrize("declared", ["K", ""], ids=["named", "unnamed"])
def test_a_past_of_any_length_stays_joined(rewrite, declared):
    text = """agraph (float[1, 4, PAST] past, float[1, 4, T] x, float[5, 4, 3] w) => (float[1, 5, L] y) {
        j = Concat <axis = 2> (past, x) y = Conv (j, w) }""".replace("PAST", declared or "?")
    rewriting = rewrite(text, *ALL, w=W)
    assert rewriting.ops["Concat"] == 1 and past_of(rewriting) is None
    assert "or may" in rewriting.reasons("conv1d-past")[0]
    for columns in (1, 2, 5):
        rewriting.assert_equal({"past": noise(1, 4, columns, seed=3), "x": noise(1, 4, 5)})


def products(rank: str = "N, T, 4") -> str:
    return f"""agraph (float[{rank}] x, float[4, 6] w, float[6] b, float[N, T, 6] r) => (float[N, T, 6] y) {{
        p = MatMul(x, w) q = Add(b, p) y = Add(r, q) }}"""


def test_a_product_takes_its_bias_and_residual(rewrite):
    rewriting = rewrite(products(), *ALL, w=noise(4, 6), b=noise(6, seed=1))
    assert rewriting.ops == {"Conv1d": 1}
    rewriting.assert_equal({"x": noise(2, 7, 4), "r": noise(2, 7, 6, seed=2)})


def test_a_product_of_another_rank_stays(rewrite):
    rewriting = rewrite(products("T, 4"), *ALL, w=noise(4, 6), b=noise(6, seed=1))
    assert rewriting.ops["MatMul"] == 1 and "rank-3" in rewriting.reasons("matmul-as-conv1d")[0]


def test_a_product_of_two_computed_tensors_is_nobodys_business(rewrite):
    text = "agraph (float[N, T, 4] x, float[N, 4, T] w) => (float[N, T, T] y) { y = MatMul(x, w) }"
    rewriting = rewrite(text, *ALL)
    assert rewriting.ops == {"MatMul": 1} and not rewriting.ledger.refused


SNAKE = {"alpha": abs(noise(4)) + 0.5, "inv": abs(noise(4, seed=1)) + 0.5}


def residual_unit(outputs: str = "float[N, 4, T] y") -> str:
    return f"""agraph (float[N, 4, T] x, float[4, 4, 3] w, float[4, 4, 1] v, float[4] alpha, float[4] inv)
        => ({outputs}) {{
        s = omni.Snake <channels_last = 0> (x, alpha, inv) c = Conv <pads = [2, 0]> (s, w)
        t = omni.Snake <channels_last = 0> (c, alpha, inv) d = Conv (t, v)
        y, z = omni.AddSnake <channels_last = 0> (x, d, alpha, inv) }}"""


@pytest.mark.parametrize("outputs", ["float[N, 4, T] y", "float[N, 4, T] y, float[N, 4, T] z"])
def test_a_residual_unit_is_two_layers(rewrite, outputs):
    rewriting = rewrite(residual_unit(outputs), *ALL, w=noise(4, 4, 3), v=noise(4, 4, 1), **SNAKE)
    assert rewriting.ops["Conv1d"] == 2 and rewriting.ops["AddSnake"] == 0 and rewriting.ops["Snake"] == 1
    assert len(conv1d(rewriting)[1].outputs) == (SUM + 1 if "z" in outputs else 1)
    rewriting.assert_equal({"x": noise(2, 4, 9)})


def shuffled(trims: str = "", also: str = "") -> str:
    outputs = "float[N, 4, L] y" + (", float[N, 4, L] z" if also else "")
    return f"""agraph (float[N, 3, T] x, float[8, 3, 2] w, float[4] alpha, float[4] inv) => ({outputs}) {{
        c = Conv (x, w) y{also} = omni.ShuffleSnake <stride = 2{trims}, channels_last = 0> (c, alpha, inv) }}"""


@pytest.mark.parametrize("trims", ["", ", trim_begin = 1, trim_end = 0", ", trim_begin = 1, trim_end = 2"])
@pytest.mark.parametrize("also", ["", ", z"])
def test_a_shuffle_is_a_view_and_its_snake_joins_the_layer(rewrite, trims, also):
    rewriting = rewrite(shuffled(trims, also), *ALL, w=noise(8, 3, 2), **SNAKE)
    assert rewriting.ops["Snake"] == rewriting.ops["ShuffleSnake"] == 0
    assert rewriting.ops["Reshape"] == (2 if also else 1)
    rewriting.assert_equal({"x": noise(2, 3, 6)})


def test_a_shuffle_without_snake_is_a_view(rewrite):
    text = """agraph (float[N, 3, T] x, float[8, 3, 1] w) => (float[N, 4, L] y) {
        apart = Constant <value = int64[4] {0, 2, 4, -1}> () joined = Constant <value = int64[3] {0, 4, -1}> ()
        c = Conv (x, w) p = Reshape(c, apart) q = Transpose <perm = [0, 2, 3, 1]> (p) y = Reshape(q, joined) }"""
    rewriting = rewrite(text, *ALL, w=noise(8, 3, 1))
    assert rewriting.ops == {"Conv1d": 1, "Reshape": 1, "Transpose": 2}
    rewriting.assert_equal({"x": noise(2, 3, 6)})
