"""Bytes between layers go where nobody computes on them, and stay where ONNX Runtime makes a layer on bytes by them."""

from __future__ import annotations

from functools import partial

import numpy as np
import onnx_ir as ir
import pytest
from modeltext import Rewriting, noise, rewriting
from qdqtext import STEP, ZERO, graph, pair, weight_arrays, weights

from omni_sdk.tools.prepare.rules.float_between import TITLE, float_between

SIGNAL = "float[N, 8, T] x"
LAYER = {**weight_arrays("w", 8, 8, 3)}


@pytest.fixture
def rewrite(tmp_path):
    return partial(between, tmp_path)


def between(folder, body: str, outputs: str = "float[N, 8, L] y", inputs: str = SIGNAL, **arrays) -> Rewriting:
    """A graph before and after the pass; `step` and `zero` are there."""
    given = {"step": STEP, "zero": ZERO, **arrays}
    made = rewriting(folder, graph(inputs, outputs, body, given), **given)
    float_between(made.after, made.ledger)
    return made


def fired(made: Rewriting) -> list[str]:
    """Nodes at which the pass says that it fired."""
    assert all(firing.rule == TITLE for firing in made.ledger.fired)
    return [firing.node for firing in made.ledger.fired]


def reads(made: Rewriting, op_type: str) -> str | None:
    """What the first input of the only node of a kind is made by, or called where it is the graph's."""
    (node,) = [node for node in made.after.graph if node.op_type == op_type]
    maker = node.inputs[0].producer()
    return node.inputs[0].name if maker is None else maker.op_type


def test_what_is_no_layer_reads_floats(rewrite):
    made = rewrite("a = Sin (x) " + pair("a", "d") + "y = Tanh (d)")
    assert made.ops == {"Sin": 1, "Tanh": 1} and len(fired(made)) == 1


def test_values_are_those_before_rounding(rewrite):
    made = rewrite("a = Sin (x) " + pair("a", "d") + "y = Neg (d)")
    made.before = rewriting(made.folder, graph(SIGNAL, "float[N, 8, L] y", "a = Sin (x) y = Neg (a)", {})).before
    made.assert_equal({"x": noise(1, 8, 9)}, tolerance=0.0)


def test_every_use_in_a_node_reads_floats(rewrite):
    made = rewrite("a = Sin (x) " + pair("a", "d") + "y = Mul (d, d)")
    assert made.ops == {"Sin": 1, "Mul": 1}


def test_the_graphs_inputs_are_read_as_they_come(rewrite):
    made = rewrite(pair("x", "d") + "y = Tanh (d)")
    assert made.ops == {"Tanh": 1} and reads(made, "Tanh") == "x"


@pytest.mark.parametrize(
    ("layer", "arrays"),
    [
        (weights("w") + "y = Conv (d, w)", LAYER),
        (weights("w") + "y = Conv <group = 8> (d, w)", weight_arrays("w", 8, 1, 3)),
        (weights("w", axis=1) + "y = MatMul (d, w)", weight_arrays("w", 8, 8, axis=1)),
    ],
    ids=["convolution", "depthwise", "product"],
)
def test_a_layer_on_bytes_reads_bytes(rewrite, layer, arrays):
    made = rewrite("a = Sin (x) " + pair("a", "d") + layer, inputs="float[N, 8, 8] x", **arrays)
    assert made.ops["QuantizeLinear"] == 1 and made.ops["DequantizeLinear"] == 2 and not fired(made)
    made.assert_equal({"x": noise(1, 8, 8)})


def test_a_layer_in_float_reads_floats(rewrite):
    made = rewrite("a = Sin (x) " + pair("a", "d") + "y = Conv (d, u)", u=noise(8, 8, 3))
    assert made.ops == {"Sin": 1, "Conv": 1} and len(fired(made)) == 1


def test_beside_a_layer_on_bytes_others_read_floats(rewrite):
    body = "a = Sin (x) " + pair("a", "d") + weights("w") + "c = Conv (d, w) z = Tanh (d) y = Neg (c)"
    made = rewrite(body, "float[N, 8, L] y, float[N, 8, T] z", **LAYER)
    assert reads(made, "Tanh") == "Sin" and reads(made, "Conv") == "DequantizeLinear" and len(fired(made)) == 1


def test_behind_a_layer_that_onnxruntime_computes_on_bytes_they_stay(rewrite):
    body = pair("x", "d") + weights("w") + "c = Conv <group = 8> (d, w) " + pair("c", "e") + "y = Tanh (e)"
    made = rewrite(body, **weight_arrays("w", 8, 1, 3))
    assert reads(made, "Tanh") == "DequantizeLinear" and not fired(made)
    made.assert_equal({"x": noise(1, 8, 9)})


def test_behind_a_layer_of_the_domain_omni_they_go(rewrite):
    body = "s = omni.Snake (x, alpha, inv) " + pair("s", "d") + "y = Tanh (d)"
    made = rewrite(body, alpha=abs(noise(8)) + 0.5, inv=abs(noise(8)) + 0.5)
    assert made.ops == {"Snake": 1, "Tanh": 1}


def outputs_of(made: Rewriting) -> list[str | None]:
    return [value.name for value in made.after.graph.outputs]


def test_an_output_is_the_floats_under_its_name(rewrite):
    made = rewrite("a = Sin (x) " + pair("a", "y"))
    assert made.ops == {"Sin": 1} and outputs_of(made) == ["y"] and len(fired(made)) == 1
    made.before = rewriting(made.folder, graph(SIGNAL, "float[N, 8, L] y", "y = Sin (x)", {})).before
    made.assert_equal({"x": noise(1, 8, 9)}, tolerance=0.0)


def test_an_output_that_a_layer_on_bytes_reads_is_the_floats_as_well(rewrite):
    body = "a = Sin (x) " + pair("a", "z") + weights("w") + "y = Conv (z, w)"
    made = rewrite(body, "float[N, 8, L] y, float[N, 8, T] z", **LAYER)
    assert outputs_of(made) == ["y", "z"] and made.after.graph.outputs[1].producer().op_type == "Sin"
    assert reads(made, "Conv") == "DequantizeLinear"
    feeds = {"x": noise(1, 8, 9)}
    made.assert_equal(feeds, tolerance=float(STEP))


@pytest.mark.parametrize(
    ("body", "outputs"),
    [
        (pair("x", "y"), "float[N, 8, L] y"),
        ("a = Sin (x) " + pair("a", "y"), "float[N, 8, L] y, float[N, 8, L] a"),
        ("a = Conv (d, w) " + pair("a", "y"), "float[N, 8, L] y"),
    ],
    ids=["of an input", "of another output", "of a layer on bytes"],
)
def test_outputs_that_must_stay_rounded_do(rewrite, body, outputs):
    arrays = LAYER if "Conv" in body else {}
    made = rewrite((pair("x", "d") + weights("w") if arrays else "") + body, outputs, **arrays)
    assert not fired(made)
    made.assert_equal({"x": noise(1, 8, 9)})
    assert outputs_of(made) == [value.name for value in made.before.graph.outputs]


def test_bytes_that_come_from_outside_are_dequantized(rewrite):
    made = rewrite("d = DequantizeLinear (x, step, zero) y = Tanh (d)", inputs="uint8[N, 8, T] x")
    assert made.ops == {"DequantizeLinear": 1, "Tanh": 1} and not fired(made)
    made.assert_equal({"x": np.arange(72, dtype=np.uint8).reshape(1, 8, 9)})


def test_nodes_in_branches_read_floats(rewrite):
    body = "a = Sin (x) " + pair("a", "d")
    body += "y = If (chosen) <then_branch = t () => (float[N, 8, T] p) { p = Neg (d) }, "
    body += "else_branch = e () => (float[N, 8, T] q) { q = Abs (a) }>"
    made = rewrite(body, inputs=f"{SIGNAL}, bool chosen")
    (node,) = [node for node in made.after.graph if node.op_type == "If"]
    branch = node.attributes["then_branch"].value
    assert isinstance(branch, ir.Graph) and branch[0].inputs[0].name == "a"
    assert made.ops["DequantizeLinear"] == 0
