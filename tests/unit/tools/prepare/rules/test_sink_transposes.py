"""Transposes move down until they cancel."""

from __future__ import annotations

import pytest
from modeltext import noise

SINK = "sink-transposes"
FOLD = "constant-folding"


def between(body: str, outputs: str = "float[N, T, C] y", inputs: str = "") -> str:
    """What stands between a transpose to channels first and one back."""
    return f"""agraph (float[N, T, 4] x{inputs}) => ({outputs}) {{
        a = Transpose <perm = [0, 2, 1]> (x) {body} y = Transpose <perm = [0, 2, 1]> (b) }}"""


BODIES = {
    "elementwise": "b = Tanh(a)",
    "limits": "l = Constant <value = float {-0.5}> () h = Constant <value = float {0.5}> () b = Clip(a, l, h)",
    "sum": "c = Relu(a) b = Add(a, c)",
    "number": "c = Constant <value = float {3.0}> () b = Mul(c, a)",
    "per channel": "c = Constant <value = float[1, 4, 1] {1.0, 2.0, 3.0, 4.0}> () b = Mul(a, c)",
    "per channel of rank 2": "c = Constant <value = float[4, 1] {1.0, 2.0, 3.0, 4.0}> () b = Mul(a, c)",
    "slice": """s = Constant <value = int64[1] {1}> () e = Constant <value = int64[1] {-1}> ()
        i = Constant <value = int64[1] {2}> () b = Slice(a, s, e, i)""",
    "slice by int32": """s = Constant <value = int32[1] {1}> () e = Constant <value = int32[1] {-1}> ()
        i = Constant <value = int32[1] {2}> () b = Slice(a, s, e, i)""",
    "concat in time": "c = Neg(a) b = Concat <axis = 2> (a, c)",
    "concat of channels": "c = Neg(a) b = Concat <axis = -2> (a, c)",
    "pad": "p = Constant <value = int64[6] {0, 1, 2, 0, 0, 3}> () b = Pad(a, p)",
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_both_transposes_go(rewrite, body):
    rewriting = rewrite(between(body), FOLD, SINK)
    assert rewriting.ops["Transpose"] == 0
    rewriting.assert_equal({"x": noise(2, 7, 4)})


def test_an_output_keeps_its_name_and_layout(rewrite):
    rewriting = rewrite(between("b = Tanh(a)", "float[N, T, C] y, float[N, C, T] b"), SINK)
    assert rewriting.ops == {"Tanh": 1, "Transpose": 1}
    rewriting.assert_equal({"x": noise(2, 7, 4)})


def test_a_sum_with_a_tensor_of_the_other_layout_stays(rewrite):
    rewriting = rewrite(between("b = Add(a, z)", inputs=", float[N, 4, T] z"), SINK)
    assert rewriting.ops["Transpose"] == 2
    rewriting.assert_equal({"x": noise(2, 7, 4), "z": noise(2, 4, 7, seed=1)})


def test_operators_over_an_axis_stay(rewrite):
    rewriting = rewrite(between("b = Softmax <axis = 1> (a)"), SINK)
    assert rewriting.ops == {"Softmax": 1, "Transpose": 2}


@pytest.mark.parametrize("channels", [1, 4])
def test_a_single_channel_needs_no_move(rewrite, channels):
    text = f"""agraph (float[N, T, {channels}] x) => (float[N, {channels}, T] y) {{
        a = Tanh(x) y = Transpose <perm = [0, 2, 1]> (a) }}"""
    rewriting = rewrite(text, SINK)
    assert rewriting.ops["Reshape" if channels == 1 else "Transpose"] == 1
    rewriting.assert_equal({"x": noise(2, 7, channels)})
