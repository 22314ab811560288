"""Ranges of inputs from a graph's metadata: read, enforced by infer and streams, and harmless to what follows."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import parser

import omni_sdk as omni
from omni_sdk import ranges

LOOKUP = """<ir_version: 10, opset_import: ["": 20]> g (int64[1, frames] codes, float[1] sum_in)
    => (float[frames, 1] y, float[1] sum_out) <float[5, 1] table = {1, 2, 3, 4, 5}> {
        rows = Gather(table, codes)
        axis = Constant<value = int64[1] {0}>()
        y = Squeeze(rows, axis)
        total = ReduceSum<keepdims = 0>(y)
        sum_out = Add(sum_in, total)
    }"""


@pytest.fixture
def model() -> omni.Model:
    proto = parser.parse_model(LOOKUP)
    onnx.helper.set_model_props(proto, dict([ranges.entry("codes", 0, 4)]))
    return omni.load(proto.SerializeToString(), cache_dir=None)


def codes(*values: int) -> np.ndarray:
    return np.array([values], np.int64)


def test_an_entry_is_read_back_and_others_are_not_ours() -> None:
    key, text = ranges.entry("codes", -3, 4)
    others = {"range.other": "wide", "range.more": f"0 {'9' * 5000}", "author": "0 1"}
    assert ranges.of({key: text, **others}) == {"codes": (-3, 4)}


def test_a_range_of_an_input_of_floats_means_nothing() -> None:
    proto = parser.parse_model(
        '<ir_version: 10, opset_import: ["": 20]> g (float[N] x) => (float[N] y) { y = Identity(x) }'
    )
    onnx.helper.set_model_props(proto, {"range.x": "0 4"})
    model = omni.load(proto.SerializeToString(), cache_dir=None)
    assert model.inputs[0].allowed is None
    assert model.infer(x=np.array([9.0], np.float32))["y"] == 9


def test_both_ends_are_within() -> None:
    ranges.check(codes(0, 4), "codes", (0, 4))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((0, 1, 5), r"Expected values from 0 to 4, got 5 - at input 'codes'\[0, 2\]"),
        ((0, -1, 9), r"Expected values from 0 to 4, got -1 - at input 'codes'\[0, 1\]"),
        ((), r"Expected at least one value, got shape \(1, 0\) - at input 'codes'"),
    ],
)
def test_what_is_outside_is_named_with_its_position(model: omni.Model, values: tuple[int, ...], message: str) -> None:
    feeds = {"codes": codes(*values), "sum_in": np.zeros(1, np.float32)}
    for _ in range(3):  # before and after shapes were learned
        with pytest.raises(omni.InputError, match=message):
            model.infer(feeds)
        model.infer(feeds | {"codes": codes(1, 2, 3)})


def test_a_stream_that_refused_codes_goes_on_as_if_they_had_not_come(model: omni.Model) -> None:
    reused = codes(1, 2)
    with model.stream() as stream, model.stream() as clean:
        for step in range(4):
            reused[0, 0] = 7
            with pytest.raises(omni.InputError, match=r"got 7 - at input 'codes'\[0, 0\]"):
                stream.step(codes=reused)
            reused[0, 0] = step
            np.testing.assert_array_equal(stream.step(codes=reused)["y"], clean.step(codes=codes(step, 2))["y"])
        assert stream.snapshot()["sum_in"] == clean.snapshot()["sum_in"] == 1 + 2 + 3 + 4 + 4 * 3
