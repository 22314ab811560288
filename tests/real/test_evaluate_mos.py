"""DNSMOS on real speech: equal to an evaluation of the published arithmetic that shares no code with ours."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from omni_sdk.tools.evaluate.mos import Dnsmos, predict_mos

soundfile = pytest.importorskip("soundfile")

DATA = Path(os.environ.get("OMNI_SDK_TEST_DATA", Path(__file__).parents[2] / "../shared/data"))
MODEL, SPEECH = DATA / "dnsmos_sig_bak_ovr.onnx", DATA / "speech_16k_60s.wav"
pytestmark = pytest.mark.skipif(not MODEL.is_file() or not SPEECH.is_file(), reason=f"no real data in {DATA}")


@pytest.mark.parametrize("seconds", [12, pytest.param(60, marks=pytest.mark.heavy)])
def test_scores_equal_an_independent_evaluation(seconds: int, tmp_path: Path) -> None:
    audio, rate = soundfile.read(SPEECH, frames=seconds * 16_000)
    soundfile.write(tmp_path / "speech.wav", audio, rate)
    session = ort.InferenceSession(MODEL, providers=["CPUExecutionProvider"])
    every, published = [], []
    for second in range(int(len(audio) // rate - 9.01) + 1):
        window = audio[second * rate : second * rate + 144_160].astype(np.float32)
        sig, bak, ovrl = session.run(None, {"input_1": window[None]})[0][0]
        mapped = (
            -0.08397278 * sig**2 + 1.22083953 * sig + 0.0052439,
            -0.13166888 * bak**2 + 1.60915514 * bak - 0.39604546,
            -0.06766283 * ovrl**2 + 1.11546468 * ovrl + 0.04602535,
        )
        every.append(mapped)
        if len(audio[second * rate : int((second + 9.01) * rate)]) == 144_160:
            published.append(mapped)
    (clip,) = predict_mos([tmp_path / "speech.wav"], MODEL).clips
    assert clip.prediction is not None
    ours = clip.prediction
    np.testing.assert_allclose([ours.mos.sig, ours.mos.bak, ours.mos.ovrl], np.mean(published, axis=0), atol=1e-4)
    all_of_ours = [ours.every_window.sig, ours.every_window.bak, ours.every_window.ovrl]
    np.testing.assert_allclose(all_of_ours, np.mean(every, axis=0), atol=1e-4)
    assert (ours.windows, ours.lost) == (len(every), len(every) - len(published))


def test_scores_fall_as_noise_is_added() -> None:
    audio, _ = soundfile.read(SPEECH, dtype="float32", frames=152_000)
    noise = np.random.default_rng(0).standard_normal(audio.size).astype(np.float32)
    power = float(np.sqrt(np.mean(audio**2)))
    scores = []
    with Dnsmos(MODEL) as predictor:
        for snr_db in (np.inf, 30, 20, 10, 0):
            noisy = audio + np.float32(power * 10 ** (-snr_db / 20)) * noise
            scores.append(predictor.score(noisy).mos)
    for name in ("bak", "ovrl"):
        values = [getattr(score, name) for score in scores]
        assert values == sorted(values, reverse=True), f"{name}: {values}"
        assert values[0] - values[-1] > 0.5
    # The signal's own score hears distortion, which a little noise is not: it falls only where noise covers speech.
    assert scores[-1].sig < min(score.sig for score in scores[:-1])
