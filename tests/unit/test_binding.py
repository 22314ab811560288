"""Runs without a binding: what ONNX Runtime leaves out is told, and nothing else is taken for it."""

from __future__ import annotations

import threading
import time
from fractions import Fraction

import graphs
import numpy as np
import onnxruntime as ort
import pytest

from omni_sdk.binding import Interrupt, run_unbound
from omni_sdk.errors import InputError, ModelError
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


@pytest.mark.parametrize("kind", ["string", "seq(float[N])"])
def test_bits_that_go_in_beside_what_is_no_number(kind):
    value = np.array(["a"], object) if kind == "string" else [np.ones(2, np.float32)]
    taken = f"{kind}[N] t" if kind == "string" else f"{kind} t"
    text = f"g (bfloat16[N] x, {taken}) => (float[N] y, {taken.replace(' t', ' u')})"
    with graphs.load(text + " { y = Cast<to = 1>(x)\n u = Identity(t) }") as model:
        for _ in range(3):
            results = model.infer(x=np.full(2, 0x4000, np.uint16), t=value)
            assert results["y"].tolist() == [2, 2]
            assert [np.asarray(one).tolist() for one in results["u"]] == [np.asarray(one).tolist() for one in value]


def test_bits_that_would_come_out_beside_strings_are_refused_with_a_sentence():
    text = "g (bfloat16[N] x, string[N] t) => (bfloat16[N] y, string[N] u) { y = Identity(x)\n u = Identity(t) }"
    with graphs.load(text) as model, pytest.raises(ModelError, match=r"y: bfloat16\[N\], got t: string") as caught:
        model.infer(x=np.ones(1, np.uint16), t=np.array(["a"]))
    assert "cast" in str(caught.value.hint)


@pytest.mark.parametrize("timeout", [10**400, Fraction(10**400), float("inf"), np.float32(3), 5])
def test_a_long_time_is_a_time(timeout):
    assert 0 < Interrupt(timeout).timeout <= threading.TIMEOUT_MAX


@pytest.mark.parametrize("timeout", [-(10**400), float("-inf"), 0, -1.5])
def test_no_time_at_all(timeout):
    assert Interrupt(timeout).timeout == 0


def test_an_array_for_a_time_is_perhaps_an_input():
    with pytest.raises(InputError, match="seconds") as caught:
        Interrupt(np.ones(3))
    assert "infer({'timeout': array})" in str(caught.value.hint)


def test_an_interrupt_counts_from_when_it_was_made():
    interrupt = Interrupt(0.2)
    time.sleep(0.3)
    started = time.monotonic()
    with interrupt, interrupt:
        interrupt.told.result(10)
    assert time.monotonic() - started < 0.15
    assert interrupt.fired
