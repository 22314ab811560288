"""Shape arithmetic, no-ops and static bounds: proved for every size, and left alone where they cannot be."""

import numpy as np
import onnx_ir as ir
import pytest
import sympy
from modeltext import noise
from onnx_ir.passes.common import LiftConstantsToInitializersPass

from omni_sdk.tools.prepare.rewriting import apply_passes
from omni_sdk.tools.prepare.symbolic_bounds import nonnegative
from omni_sdk.tools.prepare.symbols import Symbols

BOTH = ("constant-folding", "static-bounds", "no-ops")

NOTHING = {
    "slice of everything": """
        zero = Constant <value = int64[1] {0}> () two = Constant <value = int64[1] {2}> ()
            size = Shape <start = 2, end = 3> (x)
        y = Slice(x, zero, size, two)""",
    "pad of nothing": "pads = Constant <value = int64[6] {0, 0, 0, 0, 0, 0}> () y = Pad(x, pads)",
    "expand to its own shape": "size = Shape(x) y = Expand(x, size)",
    "reshape to its own shape": "size = Shape(x) y = Reshape(x, size)",
    "transpose in order": "y = Transpose <perm = [0, 1, 2]> (x)",
    "cast to its own type": "y = Cast <to = 1> (x)",
}


@pytest.mark.parametrize("body", NOTHING.values(), ids=NOTHING.keys())
def test_what_changes_nothing_goes_away(rewrite, body):
    rewriting = rewrite(f"agraph (float[N, 4, T] x) => (float[N, 4, T] z) {{ {body} z = Relu(y) }}", *BOTH)
    assert rewriting.ops == {"Relu": 1}
    rewriting.assert_equal({"x": noise(2, 4, 9)})


SOMETHING = {
    "slice of a part": """
        one = Constant <value = int64[1] {1}> () two = Constant <value = int64[1] {2}> ()
            size = Shape <start = 2, end = 3> (x)
        y = Slice(x, one, size, two)""",
    "slice by an input": """
        zero = Constant <value = int64[1] {0}> () two = Constant <value = int64[1] {2}> ()
            y = Slice(x, zero, n, two)""",
    "pad of one": "pads = Constant <value = int64[6] {0, 0, 1, 0, 0, 0}> () y = Pad(x, pads)",
    "transpose": "y = Transpose <perm = [0, 2, 1]> (x)",
    "cast": "h = Cast <to = 10> (x) y = Cast <to = 1> (h)",
    "expand that grows": "size = Constant <value = int64[4] {3, 1, 1, 1}> () y = Expand(x, size)",
}


@pytest.mark.parametrize("body", SOMETHING.values(), ids=SOMETHING.keys())
def test_what_changes_something_stays(rewrite, body):
    rewriting = rewrite(f"agraph (float[N, 4, T] x, int64[1] n) => (float[A, B, C] z) {{ {body} z = Relu(y) }}", *BOTH)
    assert sum(rewriting.ops.values()) >= 2
    assert "no-ops" not in rewriting.ledger.counts()
    rewriting.assert_equal({"x": noise(2, 4, 9), "n": np.array([4])})


def test_relative_end_becomes_negative(rewrite):
    text = """agraph (float[N, 4, T] x) => (float[N, 4, U] y) {
        two = Constant <value = int64[1] {2}> () three = Constant <value = int64[1] {3}> ()
            size = Shape <start = 2, end = 3> (x)
        five = Constant <value = int64[1] {5}> () p = Constant <value = int64[6] {0, 0, 5, 0, 0, 0}> () long = Pad(x, p)
        all = Shape <start = 2, end = 3> (long) end = Sub(all, three) y = Slice(long, two, end, two) }"""
    rewriting = rewrite(text, *BOTH)
    assert rewriting.ops == {"Pad": 1, "Slice": 1}
    slice_ = next(node for node in rewriting.after.graph if node.op_type == "Slice")
    assert slice_.inputs[2].const_value.numpy().tolist() == [-3]
    rewriting.assert_equal({"x": noise(1, 4, 1)})


def test_reshape_keeps_what_it_can_name(rewrite):
    text = """agraph (float[N, T, 8] x) => (float[A, B, 2, 4] y) {
        tail = Constant <value = int64[2] {2, 4}> () head = Shape <start = 0, end = 2> (x)
        size = Concat <axis = 0> (head, tail) y = Reshape(x, size) }"""
    rewriting = rewrite(text, *BOTH)
    (node,) = rewriting.after.graph
    assert node.inputs[1].const_value.numpy().tolist() == [0, -1, 2, 4]
    rewriting.assert_equal({"x": noise(3, 5, 8)})


def test_constants_fold_but_what_callers_may_set_does_not(rewrite):
    text = "agraph (float[N, 4] x, float[4] a) => (float[N, 4] y) { e = Exp(a) y = Mul(x, e) }"
    assert rewrite(text, "constant-folding", a=noise(4)).ops == {"Mul": 1}
    assert rewrite(text, "constant-folding").ops == {"Exp": 1, "Mul": 1}


def shapes(text: str) -> dict[str, tuple[str, ...]]:
    model = ir.from_onnx_text(f'<ir_version: 9, opset_import: ["" : 18]>\n{text}')
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    symbols = Symbols(model)
    return {
        value.name: tuple(map(str, symbols.shape(value) or ("?",))) for node in model.graph for value in node.outputs
    }


def test_sizes_are_expressions_in_the_inputs():
    found = shapes("""agraph (float[N, 2, T] x) => (float[N, 3, U] y) {
        w = Constant <value = float[2, 3, 4] {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19,
            20, 21, 22, 23, 24}> ()
        a = ConvTranspose <strides = [2], pads = [1, 0]> (x, w) b = Transpose <perm = [0, 2, 1]> (a)
        c, d = Split <axis = 1, num_outputs = 2> (x) e = Concat <axis = 2> (c, d) y = Relu(a) }""")
    assert found["a"] == ("N", "3", "2*T + 1")
    assert found["b"] == ("N", "2*T + 1", "3")
    assert found["c"] == ("N", "1", "T")
    assert found["e"] == ("N", "1", "2*T")


@pytest.mark.parametrize("dims", [("?", "?"), ("T", "U"), ("T", "?")], ids=["unnamed", "named", "one of each"])
def test_a_slice_to_another_inputs_length_stays(rewrite, dims):
    text = f"""agraph (float[1, 4, {dims[0]}] x, float[1, 4, {dims[1]}] z) => (float[1, 4, V] y) {{
        zero = Constant <value = int64[1] {{0}}> () two = Constant <value = int64[1] {{2}}> ()
        size = Shape <start = 2, end = 3> (z) s = Slice(x, zero, size, two) y = Relu(s) }}"""
    rewriting = rewrite(text, *BOTH)
    assert rewriting.ops["Slice"] == 1
    for sizes in ((9, 5), (5, 9)):
        rewriting.assert_equal({"x": noise(1, 4, sizes[0]), "z": noise(1, 4, sizes[1])})


def test_declared_sizes_of_other_values_than_inputs_are_not_believed(rewrite):
    text = """agraph (float[1, 8, T] x) => (float[1, 8, 100] y, float[1, 8, V] z) <float[1, 8, 100] h> {
        zero = Constant <value = int64[1] {0}> () hundred = Constant <value = int64[1] {100}> ()
        two = Constant <value = int64[1] {2}> ()
        h = Neg(x) y = Relu(h) s = Slice(h, zero, hundred, two) t = Slice(y, zero, hundred, two) z = Add(s, t) }"""
    rewriting = rewrite(text, *BOTH)
    assert rewriting.ops["Slice"] == 2
    rewriting.assert_equal({"x": noise(1, 8, 130)})


def test_declared_sizes_hold_again_once_they_are_inferred():
    model = ir.from_onnx_text("""<ir_version: 9, opset_import: ["" : 18]>
        agraph (float[1, 8, T] x) => (float[1, 8, 100] y, int64[2, 7] z) <float[1, 8, 99] h> {
            h = Neg(x) y = Relu(h) n = NonZero(x) z = Neg(n) }""")
    apply_passes(model, (), lambda what, done: None)
    y, z = model.graph.outputs
    assert [str(dim.value) if not isinstance(dim, int) else dim for dim in y.shape] == [1, 8, "T"]
    assert z.shape[1] != 99 and z.shape is not None


def test_broadcasting_takes_the_size_that_is_surely_not_one():
    found = shapes("""agraph (float[1, T] x, float[M, 5] z) => (float[A, B] y) { y = Add(x, z) }""")
    assert found["y"] == ("M", "5")


def test_a_size_that_depends_on_data_equals_only_itself():
    model = ir.from_onnx_text("""<ir_version: 9, opset_import: ["" : 18]>
        agraph (float[T] x) => (int64[1, U] y, int64[1, V] z) { y = NonZero(x) n = Neg(x) z = NonZero(n) }""")
    symbols = Symbols(model)
    y, z = model.graph.outputs
    assert symbols.same_shape(y, y) and not symbols.same_shape(y, z)


@pytest.mark.parametrize(("text", "expected"), [("T - 1", True), ("2*T - 2", True), ("T - 2", False), ("T - U", False)])
def test_sizes_are_at_least_one(text, expected):
    names = {name: sympy.Symbol(name, integer=True, positive=True) for name in "TU"}
    assert nonnegative(sympy.sympify(text, locals=names)) is expected
