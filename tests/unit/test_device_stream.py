"""State that stays on a device. The device here is the CPU: ONNX Runtime binds its memory by the same calls."""

from __future__ import annotations

import graphs
import numpy as np
import pytest

from omni_sdk import device_stream
from omni_sdk import session as sessions
from omni_sdk.binding import RunFailed, on_device
from omni_sdk.device_stream import DeviceStateStream
from omni_sdk.errors import InputError, StreamError
from omni_sdk.stream import StateStream

COUNTER = """g (float[B, 2] x, float[B, 2] h_in, float scale) => (float[B, 2] y, float[B, 2] h_out) {
    s = Mul(x, scale)
    h_out = Add(h_in, s)
    y = Neg(h_out)
}"""
X = np.arange(12, dtype=np.float32).reshape(3, 2, 2)
SCALE = np.array(2, np.float32)


@pytest.fixture
def model():
    with graphs.load(COUNTER) as model:
        yield model


def opened(model, **initial):
    pairs = {"h_in": "h_out"}
    constants = {"scale": SCALE} if any(spec.name == "scale" for spec in model.inputs) else {}
    return DeviceStateStream(model._runner, ("cpu", 0), pairs, constants, initial, model._caller.latencies.append)


def test_which_memory_a_session_computes_in(model):
    class Session:
        def __init__(self, first, **options):
            self.get_providers = lambda: [first, "CPUExecutionProvider"]
            self.get_provider_options = lambda: {first: options, "CPUExecutionProvider": {}}

    assert sessions.memory_of(model._runner.session) == ("cpu", 0)
    assert sessions.memory_of(Session("TensorrtExecutionProvider")) == ("cuda", 0)
    assert sessions.memory_of(Session("CUDAExecutionProvider", device_id="1")) == ("cuda", 1)
    assert sessions.memory_of(Session("OpenVINOExecutionProvider", device_id="1")) == ("cpu", 0)
    assert sessions.memory_of(Session("SomeoneElsesProvider")) == ("cpu", 0)


def test_which_stream_a_model_opens(monkeypatch):
    text = "g (float[2] x, float[2] h_in) => (float[2] y, float[2] h_out) { h_out = Add(x, h_in)\n y = Neg(h_out) }"
    with graphs.load(text) as model:
        assert type(model.stream()) is StateStream
        monkeypatch.setattr(sessions, "memory_of", lambda session: ("cuda", 0))
        assert type(model.stream()) is DeviceStateStream
    half = """g (bfloat16[2] x, bfloat16[2] h_in) => (bfloat16[2] y, bfloat16[2] h_out) {
        y = Identity(h_in)
        h_out = Identity(x)
    }"""
    with graphs.load(half) as model:  # numpy has no such type: values cannot be handed over
        assert type(model.stream()) is StateStream


def test_it_equals_a_stream_of_swapped_buffers(model):
    with opened(model) as stream:
        found = [stream.step(x=x) for x in X]
    with model.stream(scale=SCALE) as stream:
        wanted = [stream.step(x=x) for x in X]
    for one, other in zip(found, wanted, strict=True):
        assert one.keys() == other.keys() == {"y"}
        np.testing.assert_array_equal(one["y"], other["y"])


def test_results_are_leased_and_never_overwritten(model):
    with opened(model) as stream:
        first = stream.step(x=X[0])["y"]
        kept = first.copy()
        stream.step(x=X[1])
        np.testing.assert_array_equal(first, kept)
        assert model.stats().bytes_in_use > 0
        assert model.stats().runs == 2
        assert model.stats().bytes_copied_out == 2 * first.nbytes


def test_states_are_handed_over_and_never_brought_back(model, monkeypatch):
    """Of a step only the new input is bound from the host, and only the result comes back."""
    seen = []
    real = sessions.Session.io_binding

    class Recorded:
        def __init__(self, binding):
            self._binding = binding

        def __getattr__(self, name):
            def call(*args):
                if name.startswith("bind"):
                    seen.append((name, args[0], args[1:] if name == "bind_output" else ()))
                return getattr(self._binding, name)(*(args[:1] if name == "bind_output" else args))

            return call if name.startswith(("bind", "get")) else getattr(self._binding, name)

    monkeypatch.setattr(sessions.Session, "io_binding", lambda session: Recorded(real(session)))
    monkeypatch.setattr(device_stream, "on_device", lambda array, device: on_device(array, ("cpu", 0)))
    pairs, constants = {"h_in": "h_out"}, {"scale": SCALE}
    with DeviceStateStream(model._runner, ("device", 1), pairs, constants, {}, lambda seconds: None) as stream:
        stream.step(x=X[0])
        seen.clear()
        stream.step(x=X[1])
    assert sorted(seen) == [
        ("bind_cpu_input", "x", ()),
        ("bind_ortvalue_input", "h_in", ()),
        ("bind_ortvalue_input", "scale", ()),
        ("bind_output", "h_out", ("device", 1)),
        ("bind_output", "y", ("cpu",)),
    ]


def test_begin_go_back_and_go_on(model):
    initial = {"h_in": np.full((2, 2), 5, np.float32)}
    with opened(model, **initial) as stream:
        assert stream.snapshot() == {}
        first = stream.step(x=X[0])["y"]
        np.testing.assert_array_equal(first, -(5 + 2 * X[0]))
        snapshot = stream.snapshot()
        second = stream.step(x=X[1])["y"]
        stream.restore(snapshot)
        np.testing.assert_array_equal(stream.step(x=X[1])["y"], second)
        stream.reset()
        np.testing.assert_array_equal(stream.step(x=X[0])["y"], first)
        np.testing.assert_array_equal(initial["h_in"], 5)
        with pytest.raises(StreamError, match="Expected the states h_in, got other"):
            stream.restore({"other": snapshot["h_in"]})
    with pytest.raises(StreamError, match="closed"):
        stream.step(x=X[0])


def test_a_step_that_fails_changes_nothing(model):
    with opened(model) as stream:
        stream.step(x=X[0])
        before = stream.snapshot()["h_in"]
        with pytest.raises(InputError):
            stream.step(x=X[0].astype(str))
        with pytest.raises(RunFailed, match=r"at Stream\.step"):
            stream.step(x=np.zeros((3, 2), np.float32))
        np.testing.assert_array_equal(stream.snapshot()["h_in"], before)
        np.testing.assert_array_equal(stream.step(x=X[1])["y"], -2 * (X[0] + X[1]))


def test_a_state_that_changes_its_shape_against_the_models_word():
    text = """g (float[B, 2] x, float[1, 2] h_in) => (float[B, 2] y, float h_out) {
        y = Add(x, h_in)
        h_out = Concat <axis = 0> (x, h_in)
    }"""
    with graphs.load(text) as model, opened(model) as stream:
        with pytest.raises(StreamError, match="Expected a state like"):
            stream.step(x=X[0])
        assert stream.snapshot() == {}
