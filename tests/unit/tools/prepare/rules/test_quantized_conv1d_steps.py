"""Quantized layers of a stream take its state over, and steps say what the whole says."""

from __future__ import annotations

import numpy as np
import pytest
from modeltext import noise
from qdqtext import ALIKE_DB, ROUNDING, SECOND, SNAKE, STEP, TWO, Requantized, pair, weight_arrays, weights

from omni_sdk.tools.metrics import snr_db
from omni_sdk.tools.prepare.sessions import has_operators

pytestmark = pytest.mark.skipif(not has_operators(), reason="the operators' library is not built")


def state(of: str, columns: int) -> str:
    return f"""start = Constant <value = int64[1] {{{-columns}}}> () time = Constant <value = int64[1] {{2}}> ()
        end = Constant <value = int64[1] {{9223372036854775807}}> () present = Slice ({of}, start, end, time) """


STREAM_IN, STREAM_OUT = "float[N, 8, 4] past, float[N, 8, T] x", "float[N, M, L] y, float[N, 8, K] present"
STREAM = "j = Concat <axis = 2> (past, x) " + pair("j", "d") + state("d", 4) + weights("w")
LAST = "y = Conv <dilations = [2]> (d, w)"


def stepped(model: Requantized, x: np.ndarray, lengths: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """The waveform of steps of these lengths, and the last state."""
    past, heard = np.zeros((len(x), 8, 4), np.float32), []
    for chunk in np.split(x, np.cumsum(lengths)[:-1], axis=2):
        outputs = model.after({"past": past, "x": chunk})
        past = outputs["present"]
        heard.append(outputs["y"])
    return np.concatenate(heard, axis=2), past


def test_steps_of_a_stream_say_what_the_whole_says(requantized):
    model = requantized(
        STREAM_IN, STREAM_OUT, STREAM + "y = Conv <dilations = [2]> (d, w)", weight_arrays("w", 6, 8, 3)
    )
    assert model.ops["Concat"] == model.ops["Slice"] == 0 and model.asked("QConv1d") == ["y", "present"]
    x = noise(2, 8, 30)
    whole = model.before({"past": np.zeros((2, 8, 4), np.float32), "x": x})
    heard, last = stepped(model, x, [9, 1, 2, 3, 15])
    assert np.allclose(heard, whole["y"], rtol=0, atol=ROUNDING)
    assert np.allclose(last, whole["present"], rtol=0, atol=1e-6)


def test_a_state_of_any_floats_is_read_as_bytes(requantized):
    model = requantized(
        STREAM_IN, STREAM_OUT, STREAM + "y = Conv <dilations = [2]> (d, w)", weight_arrays("w", 6, 8, 3)
    )
    for columns in (1, 9):
        feeds = {"past": noise(2, 8, 4, seed=5), "x": noise(2, 8, columns)}
        expected, got = model.before(feeds), model.after(feeds)
        assert np.allclose(got["y"], expected["y"], rtol=0, atol=ROUNDING)
        fresh = min(columns, 4)
        assert np.allclose(got["present"][:, :, -fresh:], expected["present"][:, :, -fresh:], rtol=0, atol=1e-6)
        assert np.array_equal(got["present"][:, :, :-fresh], feeds["past"][:, :, fresh:]), "floats stay as they are"


def test_a_past_shorter_than_what_is_looked_back_at_is_taken(requantized):
    body = "j = Concat <axis = 2> (past, x) " + pair("j", "d") + state("d", 2) + weights("w")
    body += LAST
    inputs = STREAM_IN.replace("8, 4", "8, 2")
    model = requantized(inputs, STREAM_OUT, body, weight_arrays("w", 6, 8, 3))
    assert model.ops["Concat"] == 1 and model.asked("QConv1d") == ["y"], "the state comes from elsewhere"
    feeds = {"past": noise(1, 8, 2, seed=5), "x": noise(1, 8, 9)}
    expected, got = model.before(feeds), model.after(feeds)
    assert np.allclose(got["y"], expected["y"], rtol=0, atol=ROUNDING)
    assert np.array_equal(got["present"], feeds["x"][:, :, -2:]), "in float: nobody asked for bytes"


def test_a_state_of_fewer_columns_than_it_may_have_stays_a_slice(requantized):
    inputs = STREAM_IN.replace("8, 4", "8, 2")
    model = requantized(inputs, STREAM_OUT, STREAM + LAST, weight_arrays("w", 6, 8, 3))
    assert model.ops["Slice"] == 1 and model.asked("QConv1d") == ["y"]
    feeds = {"past": noise(1, 8, 2, seed=5), "x": noise(1, 8, 3)}
    expected, got = model.before(feeds), model.after(feeds)
    assert np.allclose(got["y"], expected["y"], rtol=0, atol=ROUNDING)
    assert np.allclose(got["present"], expected["present"], rtol=0, atol=STEP)


def test_a_longer_past_stays_joined(requantized):
    model = requantized(STREAM_IN, STREAM_OUT, STREAM + "y = Conv (d, w)", weight_arrays("w", 6, 8, 3))
    assert model.ops["Concat"] == 1 and "2 that are looked back at" in model.reasons("conv1d-past")[0]
    feeds = {"past": noise(1, 8, 4, seed=5), "x": noise(1, 8, 9)}
    assert np.allclose(model.after(feeds)["y"], model.before(feeds)["y"], rtol=0, atol=ROUNDING)


def test_a_stream_whose_layer_has_snake_and_bytes_behind_it(requantized):
    def text(between):
        first = STREAM + "c = Conv <dilations = [2]> (d, w) " + between
        return first + SNAKE.format("s", "e") + pair("s", "f") + SECOND.format("y")

    model = requantized(STREAM_IN, STREAM_OUT, text(pair("c", "e")), TWO)
    assert [model.asked("QConv1d", index) for index in range(2)] == [["present", "bytes"], ["y"]]
    x = noise(1, 8, 30)
    whole = model.of(text("e = Identity (c) "), {"past": np.zeros((1, 8, 4), np.float32), "x": x})["y"]
    assert snr_db(whole, stepped(model, x, [10, 20])[0]) > ALIKE_DB


def test_a_layer_in_float_between_them_writes_its_state_and_no_sum(requantized):
    body = "j = Concat <axis = 2> (past, x) " + state("j", 4) + "c = Conv <dilations = [2]> (j, u) "
    body += SNAKE.format("s", "c") + pair("s", "f") + SECOND.format("y")
    model = requantized(STREAM_IN, STREAM_OUT, body, {**TWO, "u": noise(8, 8, 3) / 5})
    assert model.ops["Conv1d"] == model.ops["QConv1d"] == 1 and model.ops["Concat"] == 0
    assert model.asked("Conv1d") == ["y", "present"] and model.asked("QConv1d") == ["y"]
    feeds = {"past": noise(2, 8, 4, seed=5), "x": noise(2, 8, 20)}
    expected, got = model.before(feeds), model.after(feeds)
    assert snr_db(expected["y"], got["y"]) > ALIKE_DB and np.array_equal(expected["present"], got["present"])
