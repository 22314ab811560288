"""What a model is tried on, and the search for the pass at fault."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from omni_sdk.errors import ModelError
from omni_sdk.tools.prepare.feeds import (
    apart,
    batches,
    checked,
    highest_index,
    make_feeds,
    one_by_one,
    specs_of,
    trials,
)
from omni_sdk.tools.prepare.parity import first_bad, make_trials


@pytest.mark.parametrize("guilty", range(1, 12))
def test_bisection_finds_the_first_bad_pass_in_few_runs(guilty):
    asked = []

    def is_good(count):
        asked.append(count)
        return count < guilty

    assert first_bad(11, is_good) == guilty
    assert len(asked) <= 4


def graph(text: str) -> ir.Model:
    return ir.from_onnx_text(f'<ir_version: 9, opset_import: ["" : 18]>\n{text}')


def test_integers_stay_within_the_table_they_index():
    model = graph(
        """agraph (int64[N, 2, T] codes) => (float[N, 2, T, 4] y)
        <float[20, 4] table = {0}, int64[2, 1] starts = {0, 12}> { sum = Add(codes, starts) y = Gather(table, sum)
            }""".replace("float[20, 4] table = {0}", f"float[20, 4] table = {{{', '.join(['0'] * 80)}}}")
    )
    (value,) = model.graph.inputs
    assert highest_index(value) == 8
    (feeds,) = [make_feeds(specs_of(model), {"N": 3, "T": 50}, seed=0)]
    assert feeds["codes"].shape == (3, 2, 50) and feeds["codes"].max() == 7


def test_sizes_start_at_the_smallest_and_batches_vary():
    specs = specs_of(graph("agraph (float[batch, 4, T] x) => (float[batch, 4, T] y) { y = Relu(x) }"))
    sizes = list(trials(specs))
    assert sizes[0] == {"batch": 1, "T": 1}
    assert {each["batch"] for each in sizes} == {1, 2}


def test_a_model_without_named_sizes_has_one_trial():
    assert list(trials(specs_of(graph("agraph (float[2] x) => (float[2] y) { y = Relu(x) }")))) == [{}]


def test_a_name_that_stands_twice_has_one_size():
    specs = specs_of(graph("agraph (float[T] x, float[T] z) => (float[T] y) { y = Add(x, z) }"))
    with pytest.raises(ValueError, match=r"input z"):
        checked({"x": np.zeros(3, np.float32), "z": np.zeros(4, np.float32)}, specs, "a test")


@pytest.mark.parametrize("name", ["n", "N", "b", "batch"])
def test_a_time_axis_is_no_batch_whatever_its_name(name):
    specs = specs_of(graph(f"agraph (float[1, 8, {name}] x) => (float[1, 8, {name}] y) {{ y = Relu(x) }}"))
    assert not batches(specs)
    assert [each[name] for each in trials(specs)] == [1, 2, 5, 16]


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ("float[N, 8, T] x", {"N"}),
        ("float[?, 8, ?] x", {"x.0"}),
        ("float[T, 80] x", set()),
        ("float[n] x", set()),
        ("float[n, 8, T] x, float[1, n] z", set()),
        ("float[n, 8, T] x, float[n, 4] z", {"n"}),
    ],
)
def test_the_batch_is_the_first_axis_of_several(inputs, expected):
    assert batches(specs_of(graph(f"agraph ({inputs}) => (float[A, B, C] y) {{ y = Relu(x) }}"))) == expected


def test_dimensions_without_a_name_are_each_their_own():
    specs = specs_of(graph("agraph (float[1, 4, ?] x, float[1, 4, ?] z) => (float[1, 4, ?] y) { y = Relu(x) }"))
    sizes = list(trials(specs))
    assert apart(specs, sizes[1], 1) == {"x.2": 2, "z.2": 3}
    assert apart(specs, sizes[2], 2) == {"x.2": 6, "z.2": 5}
    assert list(one_by_one(specs, sizes[2]))[:2] == [{"x.2": 6, "z.2": 5}, {"x.2": 4, "z.2": 5}]


def saved(tmp_path, text: str):
    path = tmp_path / "model.onnx"
    model = graph(text)
    for index, node in enumerate(model.graph):
        node.name = f"{node.op_type}_{index}"
    ir.save(model, path)
    return path, specs_of(model)


def test_trials_have_other_sizes_for_other_names_where_the_model_runs_so(tmp_path):
    path, specs = saved(
        tmp_path,
        """agraph (float[N, 4, T] x, float[N, 4, U] z) => (float[N, 4, V] y)
        { y = Concat <axis = 2> (x, z) }""",
    )
    found = [each.sizes for each in make_trials(path, specs, frames=(4, 40))]
    assert [(each["T"], each["U"]) for each in found] == [(1, 1), (2, 3), (6, 5), (16, 17), (4, 4), (40, 40)]


def test_names_that_must_agree_are_tried_alike_and_the_others_one_by_one(tmp_path):
    path, specs = saved(
        tmp_path,
        """agraph (float[1, 4, T] x, float[1, 4, U] z, float[1, K] k) => (float[1, 4, T] y, float[1, K] l)
        { a = Relu(x) y = PRelu(a, z) l = Relu(k) }""",
    )
    found = [tuple(each.sizes[name] for name in "TUK") for each in make_trials(path, specs)]
    assert {(2, 2, 2), (5, 5, 5), (5, 5, 6), (5, 5, 4), (16, 16, 16)} <= set(found)


@pytest.mark.parametrize(
    ("body", "node"),
    [("r = RandomNormalLike (x) y = Add(x, r)", "RandomNormalLike_0"), ("y = Dropout (x, p, on)", "Dropout_2")],
)
def test_a_random_model_is_called_so(tmp_path, body, node):
    constants = "p = Constant <value = float {0.5}> () on = Constant <value = bool {1}> ()" if "on" in body else ""
    path, specs = saved(tmp_path, f"agraph (float[N, 4, T] x) => (float[N, 4, T] y) {{ {constants} {body} }}")
    with pytest.raises(ModelError, match=f"between two runs in 'y', from random nodes: {node}"):
        make_trials(path, specs)
