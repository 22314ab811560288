"""Silero VAD with its real weights over a minute of real speech, against raw ONNX Runtime."""

from __future__ import annotations

import os
import wave
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

import omni_sdk as omni

ROOT = Path(__file__).parents[2]
DATA = ROOT / os.environ.get("OMNI_SDK_TEST_DATA", "../shared/data")
MODEL, SPEECH = DATA / "silero_vad.onnx", DATA / "speech_16k_60s.wav"
CONTEXT, WINDOW = 64, 512  # samples

pytestmark = pytest.mark.skipif(not (MODEL.exists() and SPEECH.exists()), reason=f"no test data in {DATA}")


@pytest.fixture(scope="module")
def windows():
    with wave.open(str(SPEECH)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float32) / 32768
    padded = np.concatenate([np.zeros(CONTEXT, np.float32), samples])
    return [padded[start : start + CONTEXT + WINDOW][None] for start in range(0, len(samples) - WINDOW + 1, WINDOW)]


def probabilities(run, windows):
    state = np.zeros((2, 1, 128), np.float32)
    rate = np.array(16000, np.int64)
    found = []
    for window in windows:
        probability, state = run({"input": window, "state": state, "sr": rate})
        found.append(probability)
    return np.concatenate(found)[:, 0], state


def test_a_minute_of_speech_equals_raw_onnx_runtime(windows):
    settings = omni.Settings(intra_op_num_threads=1)
    session = ort.InferenceSession(str(MODEL), settings.session_options(), providers=["CPUExecutionProvider"])
    expected, last = probabilities(lambda feeds: session.run(None, feeds), windows)
    with omni.load(MODEL, settings, cache_dir=None) as model:

        def infer(feeds):
            results = model.infer(feeds)
            return results["output"], results["stateN"]

        got, state = probabilities(infer, windows)
        stats = model.stats()
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(state, last)
    assert len(got) == 1875
    assert round(100 * float((got > 0.5).mean()), 1) == 77.4
    assert stats.runs == 1875
    assert stats.bytes_copied == 0
