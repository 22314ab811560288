"""State pairs: found where names and shapes leave no doubt, refused where they do."""

from __future__ import annotations

import numpy as np
import pytest

from omni_sdk.errors import StreamError
from omni_sdk.specs import TensorSpec
from omni_sdk.states import check_pairs, compatible, first_shapes, match_pairs


def specs(**shapes):
    return [TensorSpec.of(name.replace("__", "."), "tensor(float)", shape) for name, shape in shapes.items()]


@pytest.mark.parametrize(
    ("taken", "given"),
    [
        ("past.key.0", "present.key.0"),
        ("past_key", "present_key"),
        ("prev.h", "next.h"),
        ("h_in", "h_out"),
        ("cache_in.0", "cache_out.0"),
        ("state", "stateN"),
        ("init_state", "state"),
        ("h", "h_out"),
        ("old_mem", "new_mem"),
        ("h_past", "h_present"),
    ],
)
def test_the_marks_that_exporters_put(taken, given):
    inputs = [TensorSpec.of("x", "tensor(float)", [1]), TensorSpec.of(taken, "tensor(float)", [1, 4])]
    outputs = [TensorSpec.of("y", "tensor(float)", [1]), TensorSpec.of(given, "tensor(float)", [1, 4])]
    assert match_pairs(inputs, outputs) == {taken: given}


def test_inputs_without_marks_are_no_state():
    assert match_pairs(specs(x=[1], input=[1]), specs(y=[1], output=[1])) == {}
    assert match_pairs(specs(h=[4]), specs(h=[4])) == {}


def test_signals_that_bear_the_marks_of_states_are_none():
    assert match_pairs(specs(in__wav=[4]), specs(out__wav=[4])) == {}
    assert match_pairs(specs(input_x=[4]), specs(output_x=[4])) == {}
    with pytest.raises(StreamError, match=r"new at each step, got audio_in, h_in, which all(.|\n)*state="):
        match_pairs(specs(audio_in=[4], h_in=[4]), specs(audio_out=[4], h_out=[4]))
    assert match_pairs(specs(x=[4], h_in=[4]), specs(y=[4], h_out=[4])) == {"h_in": "h_out"}


def test_a_neighbour_of_another_shape_or_type_does_not_count():
    outputs = [*specs(present__h=[5]), TensorSpec.of("next.h", "tensor(double)", [4]), *specs(new__h=[4])]
    assert match_pairs(specs(past__h=[4]), outputs) == {"past.h": "new.h"}


def test_two_that_match_are_too_many():
    with pytest.raises(StreamError, match=r"present\.h, next\.h(.|\n)*state="):
        match_pairs(specs(past__h=[4]), specs(present__h=[4], next__h=[4]))


def test_a_state_that_nothing_carries_on():
    with pytest.raises(StreamError, match=r"'past\.h' on, got y"):
        match_pairs(specs(past__h=[4]), specs(y=[4]))


def test_one_output_for_two_inputs():
    with pytest.raises(StreamError, match=r"'present\.h' twice"):
        match_pairs(specs(past__h=[4], prev__h=[4]), specs(present__h=[4]))


@pytest.mark.parametrize(
    ("pairs", "says"),
    [
        ({"z": "b"}, r"an input \(a, x\), got 'z'"),
        ({"a": "z"}, r"an output \(b, y\), got 'z'"),
        ({"a": ["b"]}, r"an output \(b, y\), got \['b'\] - at state\['a'\]"),
        ({"x": "b"}, "like x: float"),
        ({"a": "b", "x": "b"}, "."),
    ],
)
def test_pairs_that_cannot_be(pairs, says):
    with pytest.raises(StreamError, match=says):
        check_pairs(pairs, specs(a=[4], x=["N", 2]), specs(b=[4], y=["N", 3]))


def test_pairs_as_given():
    assert check_pairs({"a": "b"}, specs(a=[4]), specs(b=["N"])) == {"a": "b"}


@pytest.mark.parametrize(
    ("one", "other", "fit"),
    [
        ([4], [4], True),
        ([4], [5], False),
        (["N"], [5], True),
        (["past"], ["total"], True),
        ([4], [4, 1], False),
        ([4], None, True),
        (None, [4], True),
    ],
)
def test_which_shapes_can_follow_each_other(one, other, fit):
    taken, given = (TensorSpec.of("s", "tensor(float)", shape) for shape in (one, other))
    assert compatible(taken, given) == fit


@pytest.mark.parametrize("kind", ["tensor(int4)", "tensor(string)", "seq(tensor(float))"])
def test_no_state_of_packed_values_or_none(kind):
    spec = TensorSpec.of("s", kind, [4])
    assert not compatible(spec, spec)


def test_first_shapes_follow_the_feeds_grow_from_nothing_or_are_a_batch_of_one():
    inputs = specs(x=["B", 16, "T"], past__k=["B", 8, "P", 4], past__h=[2, "other", 64])
    outputs = specs(y=["B", "S"], present__k=["B", 8, "P+T", 4], present__h=[2, "other", 64])
    pairs = {"past.k": "present.k", "past.h": "present.h"}
    shapes = first_shapes(pairs, inputs, outputs, {"x": np.zeros((3, 16, 5))})
    assert shapes == {"past.k": (3, 8, 0, 4), "past.h": (2, 1, 64)}


def test_what_is_new_may_bear_the_states_name():
    inputs, outputs = specs(x=[4], past__x=[4]), specs(y=[4], present__x=[4])
    assert match_pairs(inputs, outputs) == {"past.x": "present.x"}


def test_a_ragged_feed_tells_no_sizes():
    inputs, outputs = specs(x=["B", 2], past__h=["B", 4]), specs(y=["B"], present__h=["B", 4])
    assert first_shapes({"past.h": "present.h"}, inputs, outputs, {"x": [[1], [2, 3]]}) == {"past.h": (1, 4)}
