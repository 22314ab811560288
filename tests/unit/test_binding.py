"""Runs without a binding: what ONNX Runtime leaves out is told, and nothing else is taken for it."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest

from omni_sdk.binding import run_unbound
from omni_sdk.errors import ModelError
from omni_sdk.specs import TensorSpec

X = TensorSpec.of("x", "tensor(float)", [2])


class Session:
    """Answers with what it was given."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)

    def run(self, names, feeds, options):
        return self.answers

    def run_with_ort_values(self, names, feeds, options):
        return self.answers


class Nothing:
    def has_value(self) -> bool:
        return False

    def is_tensor(self) -> bool:
        return False


FEEDS = {"x": np.ones(2, np.float32)}


def test_a_tensor_that_the_graph_leaves_out_is_told():
    with pytest.raises(ModelError, match=r"Expected y: float\[2\], got nothing from ONNX Runtime"):
        run_unbound(Session(None), FEEDS, [X], [TensorSpec.of("y", "tensor(float)", [2])])


def test_a_tensor_of_bits_that_the_graph_leaves_out_is_told():
    with pytest.raises(ModelError, match=r"Expected y: bfloat16\[2\], got nothing"):
        run_unbound(Session(Nothing()), FEEDS, [X], [TensorSpec.of("y", "tensor(bfloat16)", [2])])


def test_an_optional_may_be_none():
    optional = TensorSpec.of("y", "optional(tensor(float))", None)
    assert run_unbound(Session(None), FEEDS, [X], [optional]) == ({"y": None}, 0)
    bits = TensorSpec.of("z", "tensor(bfloat16)", [1])
    value = ort.OrtValue.ortvalue_from_numpy_with_onnx_type(np.array([7], np.uint16), 16)
    nothing = Nothing()
    results, copied = run_unbound(Session(nothing, value), FEEDS, [X], [optional, bits])
    assert (results["y"], results["z"].tolist(), copied) == (nothing, [7], 2)
