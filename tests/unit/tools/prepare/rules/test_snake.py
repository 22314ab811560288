"""Snake in the forms exporters write it, and where it must not be seen."""

import numpy as np
import pytest
from modeltext import noise

HEAD = "agraph (float[N, 4, T] x, float[1, 4, 1] a, float[1, 4, 1] b) => (float[N, 4, T] y) {\n"
PASSES = ("constant-folding", "snake")

FORMS = {
    "logarithms, Pow, Mul by Reciprocal": """
        two = Constant <value = float {2.0}> () tiny = Constant <value = float {0.000000001}> ()
        ea = Exp(a) eb = Exp(b) safe = Add(eb, tiny) inverse = Reciprocal(safe)
        u = Mul(x, ea) s = Sin(u) p = Pow(s, two) q = Mul(inverse, p) y = Add(x, q)""",
    "logarithms, 1 / (beta + tiny)": """
        two = Constant <value = float {2.0}> () one = Constant <value = float {1.0}> ()
            tiny = Constant <value = float {0.000000001}> ()
        ea = Exp(a) eb = Exp(b) safe = Add(eb, tiny) inverse = Div(one, safe)
        u = Mul(ea, x) s = Sin(u) p = Pow(s, two) q = Mul(p, inverse) y = Add(q, x)""",
    "plain parameters, square as a product": """
        u = Mul(a, x) s = Sin(u) p = Mul(s, s) q = Div(p, b) y = Add(x, q)""",
    "one parameter, reciprocal": """
        two = Constant <value = float {2.0}> () tiny = Constant <value = float {0.000000001}> ()
        safe = Add(a, tiny) inverse = Reciprocal(safe)
        u = Mul(a, x) s = Sin(u) p = Pow(s, two) q = Mul(inverse, p) y = Add(x, q)""",
    "one minus cosine": """
        two = Constant <value = float {2.0}> () one = Constant <value = float {1.0}> ()
            half = Constant <value = float {0.5}> ()
        w = Mul(two, a) u = Mul(w, x) c = Cos(u) d = Sub(one, c) h = Mul(half, d) q = Div(h, b) y = Add(x, q)""",
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_becomes_one_operator(rewrite, form):
    rewriting = rewrite(HEAD + form + "}", *PASSES, a=abs(noise(1, 4, 1)) + 0.5, b=abs(noise(1, 4, 1, seed=1)) + 0.5)
    assert rewriting.ops == {"Snake": 1}
    rewriting.assert_equal({"x": noise(2, 4, 33, seed=2) * 3})


def test_channels_last(rewrite):
    text = """agraph (float[N, T, 4] x, float[4] a, float[4] b) => (float[N, T, 4] y) {
        u = Mul(a, x) s = Sin(u) p = Mul(s, s) q = Div(p, b) y = Add(x, q) }"""
    rewriting = rewrite(text, *PASSES, a=abs(noise(4)) + 0.5, b=abs(noise(4, seed=1)) + 0.5)
    (node,) = rewriting.after.graph
    assert node.op_type == "Snake" and node.attributes["channels_last"].as_int() == 1
    rewriting.assert_equal({"x": noise(2, 33, 4, seed=2)})


REFUSED = {
    "alpha from an input": (
        "agraph (float[N, 4, T] x, float[1, 4, 1] a) => (float[N, 4, T] y) { u = Mul(a, x) s = Sin(u) p = Mul(s, s) "
        "y = Add(x, p) }",
        {},
        "computed at run time",
    ),
    "a parameter for each sample": (
        "agraph (float[1, 4, 5] x, float[1, 4, 5] a) => (float[1, 4, 5] y) { u = Mul(a, x) s = Sin(u) p = Mul(s, s) "
        "y = Add(x, p) }",
        {"a": noise(1, 4, 5)},
        "one number a channel",
    ),
    "two spatial dimensions": (
        "agraph (float[N, 4, H, W] x, float[1, 4, 1, 1] a) => (float[N, 4, H, W] y) "
        "{ u = Mul(a, x) s = Sin(u) p = Mul(s, s) y = Add(x, p) }",
        {"a": noise(1, 4, 1, 1)},
        "rank is not known to be 3",
    ),
    "a number of rank 4": (
        "agraph (float[N, 4, T] x, float[1, 1, 1, 1] a) => (float[1, N, 4, T] y) "
        "{ u = Mul(a, x) s = Sin(u) p = Mul(s, s) y = Add(x, p) }",
        {"a": noise(1, 1, 1, 1)},
        "one number a channel",
    ),
    "half precision": (
        "agraph (float16[N, 4, T] x, float16[1, 4, 1] a) => (float16[N, 4, T] y) "
        "{ u = Mul(a, x) s = Sin(u) p = Mul(s, s) y = Add(x, p) }",
        {"a": noise(1, 4, 1).astype(np.float16)},
        "float32",
    ),
}


@pytest.mark.parametrize(("text", "arrays", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_refuses_with_a_sentence(rewrite, text, arrays, reason):
    rewriting = rewrite(text, *PASSES, **arrays)
    assert rewriting.ops["Snake"] == 0
    (said,) = rewriting.reasons("snake")
    assert reason in said


OTHERS = {
    "another x outside": "u = Mul(a, x) s = Sin(u) p = Mul(s, s) q = Div(p, b) z = Neg(x) y = Add(z, q)",
    "a cube": "three = Constant <value = float {3.0}> () u = Mul(a, x) s = Sin(u) p = Pow(s, three) y = Add(x, p)",
    "sine times cosine": "u = Mul(a, x) s = Sin(u) c = Cos(u) p = Mul(s, c) y = Add(x, p)",
    "two minus cosine": "t = Constant <value = float {2.0}> () u = Mul(a, x) c = Cos(u) d = Sub(t, c) y = Add(x, d)",
    "divided by the signal": "u = Mul(a, x) s = Sin(u) p = Mul(s, s) q = Div(p, x) y = Add(x, q)",
}


@pytest.mark.parametrize("body", OTHERS.values(), ids=OTHERS.keys())
def test_leaves_what_only_resembles_it(rewrite, body):
    rewriting = rewrite(HEAD + body + "}", *PASSES, a=abs(noise(1, 4, 1)) + 0.5, b=abs(noise(1, 4, 1, seed=1)) + 0.5)
    assert rewriting.ops["Snake"] == 0
    assert rewriting.reasons("snake") == []
