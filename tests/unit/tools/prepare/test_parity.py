"""Differences as they count, and the search for the pass at fault."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from omni_sdk.tools.prepare.feeds import checked, highest_index, make_feeds, specs_of, trials
from omni_sdk.tools.prepare.parity import first_bad, relative_difference

ONE = np.array([1.0, -4.0], np.float32)


@pytest.mark.parametrize(
    ("expected", "got", "difference"),
    [
        (ONE, ONE, 0.0),
        (ONE, np.array([1.0, -3.0], np.float32), 0.25),
        (ONE, np.array([1.0, np.nan], np.float32), np.inf),
        (ONE, np.array([[1.0, -4.0]], np.float32), np.inf),
        (ONE, ONE.astype(np.float64), np.inf),
        (ONE, None, np.inf),
        (ONE * 0, ONE * 0, 0.0),
        (ONE * 0, ONE, np.inf),
        (np.array([3, 4]), np.array([3, 4]), 0.0),
        (np.array([3, 4]), np.array([3, 5]), np.inf),
        (np.array([np.nan, 2.0]), np.array([np.nan, 2.0]), 0.0),
        (np.array([np.inf, 2.0]), np.array([-np.inf, 2.0]), np.inf),
    ],
)
def test_relative_difference(expected, got, difference):
    assert relative_difference(expected, got) == pytest.approx(difference)


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
