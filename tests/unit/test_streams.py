"""A stream is opened from any names that inputs may bear; arguments of the wrong kind are told."""

from __future__ import annotations

import graphs
import numpy as np
import pytest

from omni_sdk.errors import InputError, StreamError
from omni_sdk.window import Window

STEP = """g (float[1, n] x, float[1, 1] constants, float[1, 1] self, float[1, 1] state, float[1, 1] h_in)
    => (float[1, n] y, float[1, 1] h_out) {
    y = Sum(x, constants, self, state, h_in)
    h_out = Add(h_in, self)
}"""
ONE = np.ones((1, 1), np.float32)
X = np.zeros((1, 2), np.float32)


def test_constants_as_a_mapping_and_as_keywords():
    with graphs.load(STEP) as model, model.stream(constants={"constants": ONE, "state": ONE}, self=ONE) as stream:
        assert stream.step(x=X)["y"].tolist() == [[3, 3]]
        assert stream.step(x=X)["y"].tolist() == [[4, 4]]


def test_a_constant_given_twice():
    with graphs.load(STEP) as model, pytest.raises(InputError, match="once, got 'self'"):
        model.stream(constants={"self": ONE}, self=ONE)


@pytest.mark.parametrize("name", ["state", "initial", "constants", "window"])
def test_an_array_where_a_parameter_is_meant_says_where_it_goes(name):
    with graphs.load(STEP) as model, pytest.raises(InputError, match=f"ndarray - at {name}") as caught:
        model.stream(**{name: ONE})
    assert f"constants={{'{name}': array}}" in str(caught.value.hint)


def test_state_and_window():
    with graphs.load(STEP) as model, pytest.raises(StreamError, match="got both"):
        model.stream(state={"h_in": "h_out"}, window=Window(left=1))
