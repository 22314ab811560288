"""Transposed convolutions as convolutions, with every trim, and where they stay."""

import numpy as np
import pytest
from modeltext import noise


def model(kernel: int, attributes: str, bias: bool = True) -> str:
    parameters = f"float[3, 4, {kernel}] w" + (", float[4] b" if bias else "")
    return f"""agraph (float[N, 3, T] x, {parameters}) => (float[N, 4, L] y) {{
        y = ConvTranspose<{attributes}>(x, w{", b" if bias else ""}) }}"""


@pytest.mark.parametrize(
    ("kernel", "attributes"),
    [
        (2, "strides = [2]"),
        (4, "strides = [2]"),
        (4, "strides = [2], pads = [1, 1]"),
        (16, "strides = [8], pads = [8, 8]"),
        (6, "strides = [3], pads = [2, 4]"),
        (12, "strides = [4], pads = [1, 6]"),
        (10, "strides = [5], pads = [3, 3], output_padding = [1]"),
        (3, "strides = [1], pads = [1, 1]"),
    ],
)
@pytest.mark.parametrize("bias", [True, False])
def test_equals(rewrite, kernel, attributes, bias):
    arrays = {"w": noise(3, 4, kernel), **({"b": noise(4, seed=1)} if bias else {})}
    rewriting = rewrite(model(kernel, attributes, bias), "conv-transpose-as-conv", **arrays)
    assert rewriting.ops["ConvTranspose"] == 0 and rewriting.ops["Conv"] == 1
    for length in (2, 3, 11):
        rewriting.assert_equal({"x": noise(2, 3, length, seed=length)})


REFUSED = {
    "stride does not divide": (model(7, "strides = [2]"), {"w": noise(3, 4, 7), "b": noise(4)}, "does not divide"),
    "dilated": (model(4, "strides = [2], dilations = [2]"), {"w": noise(3, 4, 4), "b": noise(4)}, "dilated"),
    "groups": (
        "agraph (float[N, 4, T] x, float[4, 2, 4] w) => (float[N, 4, L] y) "
        "{ y = ConvTranspose<strides = [2], group = 2>(x, w) }",
        {"w": noise(4, 2, 4)},
        "2 groups",
    ),
    "automatic padding": (
        model(4, 'strides = [2], auto_pad = "SAME_UPPER"'),
        {"w": noise(3, 4, 4), "b": noise(4)},
        "auto_pad",
    ),
    "given output shape": (
        model(4, "strides = [2], output_shape = [9]"),
        {"w": noise(3, 4, 4), "b": noise(4)},
        "output_shape",
    ),
    "trimmed beyond its kernel": (
        model(4, "strides = [2], pads = [4, 0]"),
        {"w": noise(3, 4, 4), "b": noise(4)},
        "more than its kernel",
    ),
    "weights from an input": (model(4, "strides = [2]"), {"b": noise(4)}, "computed at run time"),
    "two dimensions": (
        "agraph (float[N, 3, H, W] x, float[3, 4, 2, 2] w) => (float[N, 4, A, B] y) "
        "{ y = ConvTranspose<strides = [2, 2]>(x, w) }",
        {"w": noise(3, 4, 2, 2)},
        "spatial dimensions",
    ),
}


@pytest.mark.parametrize(("text", "arrays", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_refuses_with_a_sentence(rewrite, text, arrays, reason):
    rewriting = rewrite(text, "conv-transpose-as-conv", **arrays)
    assert rewriting.ops == {"ConvTranspose": 1}
    (said,) = rewriting.reasons("conv-transpose-as-conv")
    assert reason in said


SLICED = """agraph (float[N, 3, T] x, float[3, 4, 6] w) => (float[N, 4, L] y) {{
    z = ConvTranspose<strides = [3]{pads}>(x, w)
    starts = Constant <value = int64[1] {{{start}}}> () ends = Constant <value = int64[1] {{{end}}}> ()
    axes = Constant <value = int64[1] {{{axis}}}> () y = Slice(z, starts, ends, axes){more} }}"""


@pytest.mark.parametrize(
    ("pads", "start", "end"), [("", 3, -3), ("", 2, -1), (", pads = [1, 1]", 2, 9223372036854775807)]
)
def test_trim_becomes_padding(rewrite, pads, start, end):
    text = SLICED.format(pads=pads, start=start, end=end, axis=2, more="")
    rewriting = rewrite(text, "constant-folding", "slice-into-conv-transpose", w=noise(3, 4, 6))
    assert rewriting.ops == {"ConvTranspose": 1}
    rewriting.assert_equal({"x": noise(1, 3, 5)})


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"axis": 1, "start": 1, "end": -1}, "other than the ends in time"),
        ({"axis": 2, "start": 0, "end": 3}, "depends on the input"),
        ({"axis": 2, "start": 3, "end": -3, "more": " u = Relu(z)"}, "also used untrimmed"),
    ],
)
def test_other_cuts_stay(rewrite, changed, reason):
    text = SLICED.format(**{"pads": "", "more": "", **changed})
    if "u = " in text:
        text = text.replace("(float[N, 4, L] y) {", "(float[N, 4, L] y, float[N, 4, M] u) {")
    rewriting = rewrite(text, "constant-folding", "slice-into-conv-transpose", w=noise(3, 4, 6))
    assert rewriting.ops["Slice"] == 1
    assert reason in rewriting.reasons("slice-into-conv-transpose")[0]


def test_phases_hold_every_weight_once():
    from omni_sdk.tools.prepare.rules.conv_transpose import phases

    weight = np.arange(2 * 3 * 6, dtype=np.float32).reshape(2, 3, 6)
    assert sorted(phases(weight, 3).ravel()) == sorted(weight.ravel())
    assert phases(weight, 3)[1 * 3 + 2, 1].tolist() == [weight[1, 2, 1 + 3], weight[1, 2, 1]]
