"""QConv1d in steps of a stream: a past of any length, the state that comes out, and both in one memory."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
from kernels import Array, parameters
from onnx import helper
from qconv1d import (
    OUTPUTS,
    check_formula,
    fed,
    layer,
    output_bytes,
    past_of,
    present32,
    qconv1d,
    qconv1d_model,
    qconv1d_session,
)


@pytest.mark.parametrize("out_channels", [24, 96])
@pytest.mark.parametrize("kernel", [1, 2, 7])
@pytest.mark.parametrize("cuts", [(1, 2, 3, 0, 50, 144), (200,), (4,) * 50], ids=["uneven", "one", "fours"])
def test_a_stream_in_steps_is_the_whole(kernel: int, cuts: tuple[int, ...], out_channels: int) -> None:
    """From a past of zeros, present handed on to the next step: bit for bit, because the sums are exact."""
    rng = np.random.default_rng(6)
    feeds, weight = layer(rng, (1, 200, 20), out_channels, kernel)
    feeds |= parameters(rng, out_channels) | output_bytes(rng)
    feeds["past"] = np.zeros((1, (kernel - 1) * 3, 20), np.float32)
    whole = qconv1d(feeds, weight, OUTPUTS, dilation=3)
    check_formula(whole, feeds, weight, dilation=3)
    session = qconv1d_session(qconv1d_model(feeds, weight, OUTPUTS, dilation=3))
    steps: list[dict[str, Array]] = []
    at, state = 0, feeds["past"]
    for cut in cuts:
        step = {**fed(feeds), "X": feeds["X"][:, at : at + cut], "past": state}
        steps.append(dict(zip(OUTPUTS, session.run(list(OUTPUTS), step), strict=True)))
        state = steps[-1]["present"]
        at += cut
    np.testing.assert_array_equal(state, whole["present"])
    for name in ("Y", "sum", "bytes"):
        np.testing.assert_array_equal(np.concatenate([step[name] for step in steps], axis=1), whole[name])


@pytest.mark.parametrize("pattern", [False, True], ids=["arena", "pattern"])
@pytest.mark.parametrize(("kernel", "dilation"), [(2, 1), (3, 2), (7, 3)])
def test_a_past_may_be_shorter_than_what_is_looked_back_at(pattern: bool, kernel: int, dilation: int) -> None:
    """Also of no column at all, and whether or not ORT gives such a tensor memory.

    ORT plans memory by shape from a session's second run on, so all lengths take turns in one session.
    """
    rng = np.random.default_rng(7)
    feeds, weight = layer(rng, (2, 30, 20), 24, kernel)
    feeds |= output_bytes(rng)
    span = (kernel - 1) * dilation
    pasts = [past_of(rng, feeds, length) for length in range(span + 1)]
    asked = ["Y", "present", "bytes"]
    model = qconv1d_model({**feeds, "past": pasts[0]}, weight, asked, dilation=dilation)
    # A past computed inside the graph: what a caller feeds has memory always.
    model.graph.node[0].input[6] = "joined"
    model.graph.node.insert(0, helper.make_node("Neg", ["past"], ["joined"]))
    session = qconv1d_session(model, pattern=pattern)
    for past in pasts * 3:
        for time in (30, max(span - past.shape[1], 1)):
            x = feeds["X"][:, :time]
            got = session.run(asked, {**fed(feeds), "X": x, "past": -past})
            check_formula(
                dict(zip(asked, got, strict=True)), {**feeds, "X": x, "past": past}, weight, dilation=dilation
            )


@pytest.mark.parametrize("time", [0, 1, 5, 12, 40])
def test_past_and_present_may_be_one_memory(time: int) -> None:
    rng = np.random.default_rng(8)
    feeds, weight = layer(rng, (3, time, 8), 24, 5)
    feeds["past"] = past_of(rng, feeds, 12)
    expected = qconv1d(feeds, weight, ["Y", "present"], dilation=3)
    session = qconv1d_session(qconv1d_model(feeds, weight, ["Y", "present"], dilation=3))
    state = ort.OrtValue.ortvalue_from_numpy(feeds["past"].copy())
    binding = session.io_binding()
    for name, array in fed(feeds).items():
        if name != "past":
            binding.bind_cpu_input(name, array)
    binding.bind_ortvalue_input("past", state)
    binding.bind_ortvalue_output("present", state)
    binding.bind_output("Y")
    session.run_with_iobinding(binding)
    np.testing.assert_array_equal(binding.copy_outputs_to_cpu()[1], expected["Y"])
    np.testing.assert_array_equal(state.numpy(), present32(feeds, 12))
    np.testing.assert_array_equal(state.numpy(), expected["present"])


def test_present_keeps_the_floats_of_the_past(variant: str) -> None:
    """Zeros before them where there are fewer than a state holds, and rows of X behind, dequantized."""
    rng = np.random.default_rng(9)
    feeds, weight = layer(rng, (2, 3, 8), 5, 4)
    feeds["past"] = past_of(rng, feeds, 4)
    (present,) = qconv1d(feeds, weight, ["present"], dilation=3, pad_end=2).values()
    x = (feeds["X"] - feeds["x_zero_point"].astype(np.float32)) * feeds["x_scale"]
    np.testing.assert_array_equal(present, np.concatenate([np.zeros((2, 2, 8)), feeds["past"], x], axis=1))
