"""Zero padding becomes the convolution's; any other stays."""

import numpy as np
import pytest
from modeltext import noise

ARRAYS = {"w": noise(3, 2, 5), "zero": np.float32(0)}


def model(pads: str, attributes: str = "", mode: str = "", fill: str = "zero", data: str = "x") -> str:
    return f"""agraph (float[N, 2, T] x, float[3, 2, 5] w, float zero) => (float[N, 3, L] y) {{
        pads = Constant <value = int64[6] {{{pads}}}> ()
        p = Pad{mode}({data}, pads, {fill}) y = Conv{attributes}(p, w) }}"""


@pytest.mark.parametrize(
    "attributes", ["", "<pads = [1, 3]>", "<dilations = [2], pads = [0, 2]>", '<auto_pad = "VALID">']
)
def test_folds(rewrite, attributes):
    rewriting = rewrite(model("0, 0, 4, 0, 0, 1", attributes), "constant-folding", "pad-into-conv", **ARRAYS)
    assert rewriting.ops == {"Conv": 1}
    rewriting.assert_equal({"x": noise(2, 2, 17, seed=1)})
    rewriting.assert_equal({"x": noise(1, 2, 8, seed=1)})


def test_folds_padding_that_is_zero_by_arithmetic(rewrite):
    """The exporters' extra padding: ceil((length - 1) / 1) + 1 - length is 0 for every length."""
    text = """agraph (float[N, 2, T] x, float[3, 2, 5] w) => (float[N, 3, L] y) {
        one = Constant <value = int64[1] {1}> () onef = Constant <value = float[1] {1.0}> ()
        front = Constant <value = int64[5] {0, 0, 4, 0, 0}> ()
        length = Shape <start = 2, end = 3> (x) less = Sub(length, one) real = Cast <to = 1> (less)
        frames = Div(real, onef) up = Ceil(frames) whole = Cast <to = 7> (up) ideal = Add(whole, one)
            extra = Sub(ideal, length)
        pads = Concat <axis = 0> (front, extra) p = Pad(x, pads) y = Conv(p, w) }"""
    rewriting = rewrite(text, "constant-folding", "pad-into-conv", w=ARRAYS["w"])
    assert rewriting.ops == {"Conv": 1}
    rewriting.assert_equal({"x": noise(1, 2, 1)})
    rewriting.assert_equal({"x": noise(1, 2, 9)})


REFUSED = {
    "another fill": (model("0, 0, 4, 0, 0, 1"), {**ARRAYS, "zero": np.float32(1)}, "pads with 1"),
    "reflection": (model("0, 0, 4, 0, 0, 1", mode='<mode = "reflect">'), ARRAYS, "pads by reflect"),
    "channels": (
        model("0, 0, 4, 0, 0, 1").replace("{0, 0, 4", "{0, 1, 4").replace("w) =>", "w) =>"),
        ARRAYS,
        "batch or channels",
    ),
    "cropping": (model("0, 0, -1, 0, 0, 1"), ARRAYS, "crops"),
    "automatic padding": (model("0, 0, 4, 0, 0, 1", '<auto_pad = "SAME_UPPER">'), ARRAYS, "auto_pad"),
}


@pytest.mark.parametrize(("text", "arrays", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_refuses_with_a_sentence(rewrite, text, arrays, reason):
    rewriting = rewrite(text, "constant-folding", "pad-into-conv", **arrays)
    assert rewriting.ops["Pad"] == 1
    (said,) = rewriting.reasons("pad-into-conv")
    assert reason in said


def test_refuses_padding_by_an_input(rewrite):
    text = """agraph (float[N, 2, T] x, float[3, 2, 5] w, int64[6] pads) => (float[N, 3, L] y) {
        p = Pad(x, pads) y = Conv(p, w) }"""
    rewriting = rewrite(text, "pad-into-conv", w=ARRAYS["w"])
    assert "depends on the input" in rewriting.reasons("pad-into-conv")[0]
