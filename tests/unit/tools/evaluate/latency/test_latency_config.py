"""Pipelines from files: paths, overrides, and every mistake by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from omni_sdk.errors import InputError
from omni_sdk.tools.evaluate.latency import read_pipeline

GOOD = """
speaker = "interrupts"
[voice]
model = "vad.onnx"
min_silence_seconds = 0.2
settings = { intra_op_num_threads = 1 }
[[stage]]
name = "talker"
kind = "codes"
frames = 8
[[stage]]
name = "vocoder"
kind = "stream"
model = "models/c2w"
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "pipeline.toml"
    path.write_text(text)
    return path


def test_a_pipeline_is_read(tmp_path: Path) -> None:
    config = read_pipeline(write(tmp_path, GOOD))
    assert config.speaker == "interrupts"
    assert config.voice.model == str(tmp_path / "vad.onnx")
    assert (config.voice.min_silence_seconds, config.voice.settings) == (0.2, {"intra_op_num_threads": 1})
    talker, vocoder = config.stages
    assert (talker.kind, talker.frames, talker.model) == ("codes", 8, "")
    assert (vocoder.step_frames, vocoder.model) == (4, str(tmp_path / "models/c2w"))


def test_models_may_be_named_from_outside(tmp_path: Path) -> None:
    config = read_pipeline(write(tmp_path, GOOD), models={"voice": "v.onnx", "vocoder": "other"})
    assert (config.voice.model, config.stages[1].model) == ("v.onnx", "other")
    with pytest.raises(InputError, match="one of voice, vocoder, got one for talker"):
        read_pipeline(write(tmp_path, GOOD), models={"talker": "x"})


def test_the_reference_is_a_word_not_a_path(tmp_path: Path) -> None:
    text = GOOD.replace("models/c2w", "reference")
    assert read_pipeline(write(tmp_path, text)).stages[1].model == "reference"
    assert read_pipeline(write(tmp_path, text), models={"vocoder": "mine"}).stages[1].model == "mine"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("speaker =", "listener ="), "keys among speaker, stage, voice, got listener"),
        (('"interrupts"', '"shouts"'), "one of waits, interrupts, goes on, got 'shouts' - at .*speaker"),
        (("[voice]", "[other]"), "got other"),
        (('model = "vad.onnx"', ""), r"Expected the key model, .* \[voice\]"),
        (("frames = 8", "frames = 0"), "at least 1, got 0 - at .*'talker', frames"),
        (("frames = 8", "seed = -1"), "at least 0, got -1 - at .*'talker', seed"),
        (("frames = 8", 'frames = "8"'), "Expected int, got '8' - at .*stage 1, frames"),
        (("frames = 8", "frames = true"), "Expected int, got True"),
        (("frames = 8", "frame = 8"), "got frame"),
        (("frames = 8", "step_frames = 8"), "got step_frames - at .*'talker' of kind codes"),
        (('kind = "codes"', 'kind = "llm"'), "codes, call, model, stream, got 'llm'"),
        (('kind = "codes"', 'kind = "call"'), "the key function"),
        (('model = "models/c2w"', ""), "the key model in a stage of kind stream"),
        (('name = "vocoder"', 'name = "talker"'), "names of their own, got talker, talker"),
        (("min_silence_seconds = 0.2", "min_silence_seconds = inf"), "Expected 0 to 60, got inf"),
        (("min_silence_seconds = 0.2", "min_silence_seconds = -1"), "Expected 0 to 60, got -1"),
        (("min_silence_seconds = 0.2", "threshold = nan"), "Expected 0 to 1, got nan"),
        (('name = "talker"', 'name = "voice"'), "Expected another name than voice"),
        (("[[stage]]", "[[stage"), "TOMLDecodeError"),
        ((GOOD[GOOD.index("[[stage]]") :], ""), r"one \[\[stage\]\] or more, got None"),
        ((GOOD[GOOD.index("[[stage]]") :], "[stage]\nname = 'x'"), r"one \[\[stage\]\] or more"),
    ],
)
def test_what_mistakes_get(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_pipeline(write(tmp_path, GOOD.replace(*change)))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"FileNotFoundError.*absent\.toml"):
        read_pipeline(tmp_path / "absent.toml")
