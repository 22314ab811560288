"""Arrays of the shapes that were asked for, or one sentence that says why not."""

from __future__ import annotations

import graphs
import pytest

from omni_sdk import shapes
from omni_sdk.errors import InputError
from omni_sdk.specs import TensorSpec

FIXED = "g (float[2, N] x, uint8 k) => (float[2, N] y, uint8 j) { y = Add(x, x)\n j = Identity(k) }"


@pytest.fixture(scope="module")
def model():
    with graphs.load(FIXED) as model:
        yield model


@pytest.mark.parametrize(
    "asked",
    [{"x": 3}, {"x": (2, "N")}, {"x": (2, -1)}, {"x": (3, 3)}, {"z": (1,)}, "x", [3], {}, (3,), 5, 2.5, b"x", ["x"]],
)
def test_shapes_that_cannot_be(model, asked):
    with pytest.raises(InputError, match="shapes"):
        model.warmup(asked)
    assert model.stats().bytes_in_use == 0


def test_shapes_by_position_say_how_to_name_them(model):
    with pytest.raises(InputError) as caught:
        model.warmup((3,))
    assert "name the inputs" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("allowed", "fills"),
    [((1, 9), 1), ((-9, -3), -9), ((-2, 5), 0), ((0, 7), 0), (None, 0), ((300, 400), 0)],
)
def test_zeros_or_the_lowest_value_of_the_range(allowed, fills):
    spec = TensorSpec.of("c", "tensor(int8)", [3], allowed)
    assert shapes.zeros({}, [spec])["c"].tolist() == [fills] * 3


def test_states_that_are_left_out_have_those_of_a_first_step():
    inputs = [TensorSpec.of("x", "tensor(float)", ["B", 3]), TensorSpec.of("h", "tensor(float)", ["B", 4])]
    outputs = [TensorSpec.of("hn", "tensor(float)", ["B", 4])]
    pairs = {"h": "hn"}
    assert shapes.completed({"x": (2, 3)}, pairs, inputs, outputs) == {"x": (2, 3), "h": (2, 4)}
    assert shapes.completed({"x": (2, 3), "h": (1, 4)}, pairs, inputs, outputs) == {"x": (2, 3), "h": (1, 4)}
    assert shapes.completed({"x": 5}, pairs, inputs, outputs) == {"x": 5, "h": (1, 4)}
    assert shapes.completed({"x": (2, 3)}, {}, inputs, outputs) == {"x": (2, 3)}
