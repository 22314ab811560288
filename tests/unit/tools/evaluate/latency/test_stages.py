"""Each kind of stage on small models: what goes in, what comes out, and what is kept from turn to turn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from omni_sdk import bundle
from omni_sdk.errors import InputError, ModelError
from omni_sdk.tools.evaluate.latency.config import StageConfig, VoiceConfig
from omni_sdk.tools.evaluate.latency.stages import open_stage, sample_rate_of
from omni_sdk.tools.evaluate.latency.voice import VoiceActivity

onnx = pytest.importorskip("onnx")

# A sample a frame: the first code, plus how many frames came before in this stream.
COUNTING = """
<ir_version: 8, opset_import: ["" : 17]>
g (int64[1, 2, frames] audio_codes, float[1, 1, 1] past)
  => (float[1, 1, frames] waveform, float[1, 1, 1] present) {
  axis = Constant<value_ints = [1]>()
  zero = Constant<value_ints = [0]>()
  one = Constant<value_ints = [1]>()
  row = Slice(audio_codes, zero, one, axis)
  values = Cast<to = 1>(row)
  waveform = Add(values, past)
  shape = Shape<start = 2, end = 3>(audio_codes)
  count = Cast<to = 1>(shape)
  present = Add(past, count)
}
"""
DOUBLE = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[n] x) => (float[n] y) { y = Add(x, x) }
"""


def save(path: Path, text: str) -> str:
    onnx.save(onnx.parser.parse_model(text), path)
    return str(path)


@pytest.fixture
def counting(tmp_path: Path) -> str:
    with bundle.create(tmp_path / "counting") as draft:
        save(draft.folder / "model.onnx", COUNTING)
        draft.graph, draft.state = "model.onnx", {"past": "present"}
        draft.audio = bundle.Audio(sample_rate=8_000, hop=1, input="audio_codes", output="waveform")
    return str(tmp_path / "counting")


def codes(*values: int) -> np.ndarray:
    return np.array([[values, [9] * len(values)]], dtype=np.int64)


def test_a_stream_is_fed_in_steps_and_keeps_what_is_short_of_one(counting: str) -> None:
    stage = open_stage(StageConfig("s", "stream", model=counting, step_frames=2))
    stage.begin()
    assert list(stage.take(codes(10))) == []
    out = list(stage.take(codes(20, 30, 40, 50)))
    assert [chunk.tolist() for chunk in out] == [[10, 20], [32, 42]]
    assert [chunk.tolist() for chunk in stage.end()] == [[54]]
    assert list(stage.end()) == []
    stage.begin()
    assert [chunk.tolist() for chunk in stage.take(codes(1, 2))] == [[1, 2]], "a new turn is a new stream"
    stage.close()


def test_a_dropped_turn_leaves_nothing_behind(counting: str) -> None:
    stage = open_stage(StageConfig("s", "stream", model=counting, step_frames=2))
    stage.begin()
    list(stage.take(codes(10, 20, 30)))
    stage.begin()
    assert list(stage.end()) == []
    assert [chunk.tolist() for chunk in stage.take(codes(1, 2))] == [[1, 2]]
    stage.close()


def test_the_manifest_knows_the_sample_rate(counting: str) -> None:
    assert sample_rate_of(StageConfig("s", "stream", model=counting)) == 8_000
    assert sample_rate_of(StageConfig("s", "call", function="m:f", sample_rate=16_000)) == 16_000


def test_a_model_takes_an_array_or_a_mapping(tmp_path: Path) -> None:
    stage = open_stage(StageConfig("m", "model", model=save(tmp_path / "double.onnx", DOUBLE)))
    stage.begin()
    x = np.float32([1, 2])
    (array,) = stage.take(x)
    (mapping,) = stage.take({"x": x})
    assert array.tolist() == mapping["y"].tolist() == [2, 4]
    assert list(stage.end()) == []
    stage.close()


@pytest.mark.parametrize(("shape", "warm"), [("2", True), ("n", False)])
def test_a_model_of_fixed_shapes_is_warm_before_the_first_turn(
    shape: str, warm: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warmed: list[object] = []
    monkeypatch.setattr("omni_sdk.Model.warmup", lambda model: warmed.append(model))
    model = save(tmp_path / "double.onnx", DOUBLE.replace("[n]", f"[{shape}]"))
    open_stage(StageConfig("m", "model", model=model)).close()
    assert bool(warmed) == warm


def test_a_model_that_is_no_vocoder_is_refused(tmp_path: Path) -> None:
    model = save(tmp_path / "double.onnx", DOUBLE)
    with pytest.raises(InputError, match="input audio_codes and the output waveform, got x and y"):
        open_stage(StageConfig("s", "stream", model=model))
    with pytest.raises(ModelError, match="Expected Silero VAD"):
        VoiceActivity(VoiceConfig(model))


def test_codes_are_seeded_and_below_their_number() -> None:
    config = StageConfig("t", "codes", frames=50, quantizers=3, codebook=7, seed=4)
    (one,) = open_stage(config).take(None)
    (same,) = open_stage(config).take(None)
    assert (one.shape, one.dtype, one.min(), one.max()) == ((1, 3, 50), np.int64, 0, 6)
    np.testing.assert_array_equal(one, same)


def test_codes_may_come_frame_by_frame() -> None:
    config = StageConfig("t", "codes", frames=4, quantizers=2, frames_per_second=400.0)
    frames = list(open_stage(config).take(None))
    assert [frame.shape for frame in frames] == [(1, 2, 1)] * 4
    (at_once,) = open_stage(StageConfig("t", "codes", frames=4, quantizers=2)).take(None)
    np.testing.assert_array_equal(np.concatenate(frames, axis=2), at_once)


def test_a_function_is_found_by_name() -> None:
    stage = open_stage(StageConfig("f", "call", function="math:sqrt"))
    assert list(stage.take(9.0)) == [3.0]
    with pytest.raises(InputError, match="Expected a function"):
        open_stage(StageConfig("f", "call", function="math:nothing"))
