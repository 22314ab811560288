"""Voice activity on real speech, and a whole pipeline with it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from omni_sdk.tools.evaluate.latency import draw_timeline, measure_latency, read_pipeline
from omni_sdk.tools.evaluate.latency.config import VoiceConfig
from omni_sdk.tools.evaluate.latency.voice import WINDOW, VoiceActivity

soundfile = pytest.importorskip("soundfile")

DATA = Path(os.environ.get("OMNI_SDK_TEST_DATA", Path(__file__).parents[2] / "../shared/data"))
VAD, SPEECH = DATA / "silero_vad.onnx", DATA / "speech_16k_60s.wav"
EXAMPLE = Path(__file__).parents[2] / "examples" / "pipeline.toml"
pytestmark = pytest.mark.skipif(not VAD.is_file() or not SPEECH.is_file(), reason=f"no real data in {DATA}")


@pytest.fixture(scope="module")
def vocoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reference Code2Wav at its smallest."""
    export = pytest.importorskip("omni_sdk.tools.export")
    folder = tmp_path_factory.mktemp("vocoder")
    export.code2wav(export.reference_checkpoint(folder / "checkpoint"), folder / "bundle")
    return folder / "bundle"


def test_voice_activity_hears_what_is_speech() -> None:
    audio, _ = soundfile.read(SPEECH, dtype="float32")
    with VoiceActivity(VoiceConfig(str(VAD))) as voice:
        heard = np.array([voice.probability(window) for window in audio.reshape(-1, WINDOW)])
        again = voice.probability(audio[:WINDOW])
        voice.warmup()
        fresh = voice.probability(audio[:WINDOW])
    assert heard.size == 1_875
    assert np.mean(heard >= 0.5) == pytest.approx(0.774, abs=5e-4)
    assert fresh == heard[0] != again


def test_the_example_answers_every_turn(vocoder: Path, tmp_path: Path) -> None:
    audio, rate = soundfile.read(SPEECH, dtype="float32", frames=16_000 * 12)
    soundfile.write(tmp_path / "speech.wav", audio, rate)
    config = read_pipeline(EXAMPLE, models={"voice": str(VAD), "code2wav": str(vocoder)})
    report = measure_latency(config, tmp_path / "speech.wav", realtime=False)
    assert report.turns >= 3
    assert report.unanswered == 0
    assert report.total is not None
    assert report.detection is not None
    # The silence that makes sure of an end bounds every answer from below.
    assert report.detection.p50 == pytest.approx(config.voice.min_silence_seconds)
    assert report.total.p50 >= report.detection.p50
    assert report.sample_rate == 24_000
    for turn in report.recording.turns:
        # 25 frames in steps of 4: the first is short by the transposed convolutions' deficits, the last is one frame.
        assert [chunk.samples for chunk in turn.chunks] == [4 * 1920 - 555, *[4 * 1920] * 5, 1920]
    assert draw_timeline(report, tmp_path / "t.png", goal_seconds=0.24).stat().st_size > 10_000
