"""What a model's own nature changes of what the settings ask for."""

from __future__ import annotations

import graphs
import numpy as np
import pytest

from omni_sdk.parts import passed_through
from omni_sdk.specs import TensorSpec

PASSED = "g (float[N] x) => (float[N] x, float[N] y) { y = Add(x, x) }"


@pytest.mark.parametrize("cache_bytes", [0, 1 << 20])
def test_an_output_that_is_an_input_comes_out_as_it_went_in(cache_bytes):
    with graphs.load(PASSED, cache_bytes=cache_bytes) as model:
        for value in (1, 2, 3, 1, 2, 3):
            x = np.full(4, value, np.float32)
            results = model.infer(x=x)
            x[:] = 9
            assert (results["x"].tolist(), results["y"].tolist()) == ([value] * 4, [2 * value] * 4)
        effect = model.explain()["io_binding"]
        assert effect.effective is False
        assert "'x' is an input" in effect.reason


def test_an_output_that_is_an_input_goes_where_it_is_wanted():
    with graphs.load(PASSED) as model:
        for value in (1, 2, 3):
            mine = np.zeros(4, np.float32)
            found = model.infer({"x": np.full(4, value, np.float32)}, out={"x": mine})["x"]
            assert found is mine
            assert mine.tolist() == [value] * 4


def test_a_stream_whose_state_is_passed_through():
    text = "g (float[N] x, float[2] h) => (float[N] y, float[2] h) { m = ReduceSum(h)\n y = Add(x, m) }"
    initial = {"h": np.array([1, 2], np.float32)}
    with graphs.load(text) as model, model.stream(state={"h": "h"}, initial=initial) as stream:
        for value in range(6):
            assert stream.step(x=np.full(2, value, np.float32))["y"].ravel().tolist() == [value + 3] * 2
        assert stream.snapshot()["h"].tolist() == [1, 2]


@pytest.mark.parametrize(
    "text",
    [
        "g (float[N] x) => (float[N] y, float[2] c) <float[2] c = {1, 2}> { y = Add(x, x) }",
        "g (float[N] x) => (float[N] y, float[2] c) { y = Add(x, x)\n c = Constant<value = float[2] {1, 2}>() }",
        "g (float[N] x) => (float[N] y, float[N] z) { y = Add(x, x)\n z = Identity(y) }",
        "g (float[N] x) => (float[N] y, float[N] z) { y = Add(x, x)\n z = Add(x, x) }",
        "g (float[N] x) => (float[N] y, float[N] z) { y = Identity(x)\n z = Identity(x) }",
    ],
)
def test_outputs_that_are_constants_or_of_one_value_are_bound(text):
    with graphs.load(text) as model:
        held = []
        for value in range(6):
            results = model.infer(x=np.full(2, value, np.float32))
            held.append((value, results))
            for array in results.values():
                array += 0.0  # results are the caller's to write to
        for value, results in held:
            expected = value if "y = Identity" in text else 2 * value
            assert results["y"].tolist() == [expected] * 2
            if "c" in results:
                assert results["c"].tolist() == [1, 2]
            else:
                assert results["z"].tolist() == [expected] * 2
        assert model.explain()["io_binding"].effective is True
        assert len(model._runner.idle) == 1


def test_which_output_is_passed_through():
    inputs = [TensorSpec.of(name, "tensor(float)", [1]) for name in "ab"]
    outputs = [TensorSpec.of(name, "tensor(float)", [1]) for name in "cb"]
    assert passed_through(inputs, outputs) == "b"
    assert passed_through(inputs, outputs[:1]) is None
