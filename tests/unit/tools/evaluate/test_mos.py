"""Which windows count, and what other models and files get; the real predictor is in tests/real."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from omni_sdk.errors import InputError, ModelError
from omni_sdk.tools.evaluate.mos import POLYNOMIALS, WINDOW, Dnsmos, Prediction, predict_mos, window_starts

onnx = pytest.importorskip("onnx")

# Raw scores: the window's mean, its largest sample, and one.
STAND_IN = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[N, 144160] input_1) => (float[N, 3] scores) {
  m = ReduceMean<axes = [1]>(input_1)
  p = ReduceMax<axes = [1]>(input_1)
  z = Sub(m, m)
  o = Exp(z)
  scores = Concat<axis = 1>(m, p, o)
}
"""


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    path = tmp_path / "stand_in.onnx"
    onnx.save(onnx.parser.parse_model(STAND_IN), path)
    return path


@pytest.mark.parametrize(("size", "windows"), [(WINDOW, 1), (159_999, 1), (160_000, 1), (176_000, 2), (960_000, 51)])
def test_windows_hop_by_a_second(size: int, windows: int) -> None:
    starts, heard = window_starts(size)
    assert starts.tolist() == [16_000 * n for n in range(windows)]
    assert heard[0]
    assert (starts + WINDOW <= size).all()


def test_windows_that_rounding_cuts_short_are_known() -> None:
    _, heard = window_starts(960_000)
    assert np.flatnonzero(~heard).tolist() == list(range(7, 24))


def test_scores_are_means_of_mapped_windows(stand_in: Path) -> None:
    samples = np.zeros(960_000, np.float32)
    samples[8 * 16_000 :] = 0.5
    with Dnsmos(stand_in) as predictor:
        found = predictor.score(samples)
    assert (found.windows, found.lost) == (51, 17)
    starts = 16_000 * np.arange(51)
    means = np.array([samples[s : s + WINDOW].mean() for s in starts])
    expected = np.polyval(POLYNOMIALS[0], means)
    assert found.every_window.sig == pytest.approx(expected.mean(), abs=1e-6)
    assert found.mos.sig == pytest.approx(expected[[*range(7), *range(24, 51)]].mean(), abs=1e-6)
    assert found.mos.ovrl == pytest.approx(POLYNOMIALS[2].sum(), abs=1e-6)


def test_a_short_clip_is_doubled_until_it_fills_a_window(stand_in: Path) -> None:
    samples = np.linspace(0, 1, 50_000, dtype=np.float32)
    with Dnsmos(stand_in) as predictor:
        found = predictor.score(samples)
    repeated = np.tile(samples, 4)
    expected = [np.polyval(POLYNOMIALS[0], repeated[s : s + WINDOW].mean()) for s in (0, 16_000, 32_000)]
    assert (found.windows, found.lost) == (3, 0)
    assert found.mos.sig == pytest.approx(np.mean(expected), abs=1e-6)


def test_files_that_cannot_be_read_are_reported(
    stand_in: Path, tmp_path: Path, write_audio: Callable[..., Path]
) -> None:
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    files = [
        write_audio("a.wav"),
        tmp_path / "bad.wav",
        write_audio("b.flac", sample_rate=48_000),
        tmp_path / "none.wav",
    ]
    seen = []
    report = predict_mos(files, stand_in, on_clip=lambda clip: seen.append(clip.path))
    assert [clip.prediction is not None for clip in report.clips] == [True, False, True, False]
    assert seen == [str(path) for path in files]
    assert "bad.wav" in report.clips[1].detail
    assert report.clips[2].source_rate == 48_000
    assert report.sig is not None
    assert predict_mos([tmp_path / "none.wav"], stand_in).sig is None


def test_a_clip_whose_scores_are_not_finite_is_reported(
    stand_in: Path, tmp_path: Path, write_audio: Callable[..., Path]
) -> None:
    soundfile = pytest.importorskip("soundfile")
    soundfile.write(str(tmp_path / "huge.wav"), np.full(16_000, 3e38, np.float32), 16_000, subtype="FLOAT")
    report = predict_mos([write_audio("a.wav"), tmp_path / "huge.wav"], stand_in)
    assert report.ovrl is not None
    assert report.clips[1].prediction is None
    assert report.clips[1].detail == "the model's scores of it are not finite"


def test_an_interrupted_run_goes_on_where_it_was(
    stand_in: Path, tmp_path: Path, write_audio: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    files, journal, scored = [write_audio(name) for name in ("a.wav", "b.wav", "c.wav")], tmp_path / "run.jsonl", []
    scores = Dnsmos.score

    def score(self: Dnsmos, samples: npt.NDArray[np.float32]) -> Prediction:
        scored.append(samples.size)
        if len(scored) == 2:
            raise KeyboardInterrupt
        return scores(self, samples)

    monkeypatch.setattr(Dnsmos, "score", score)
    broken_off = predict_mos(files, stand_in, journal=journal)
    assert broken_off.interrupted
    assert len(broken_off.clips) == 1
    whole = predict_mos(files, stand_in, journal=journal)
    assert len(scored) == 4, "the first clip was scored once, the others after the interruption"
    assert whole.clips[0] == broken_off.clips[0]
    assert predict_mos(files, stand_in, journal=journal) == whole == predict_mos(files, stand_in)
    assert len(scored) == 7


def test_a_file_that_changed_is_scored_again(stand_in: Path, tmp_path: Path, write_audio: Callable[..., Path]) -> None:
    journal, path = tmp_path / "run.jsonl", tmp_path / "late.wav"
    assert predict_mos([path], stand_in, journal=journal).clips[0].prediction is None
    write_audio("late.wav")
    first = predict_mos([path], stand_in, journal=journal)
    assert first.clips[0].prediction is not None
    write_audio("late.wav", sample_rate=48_000)
    assert predict_mos([path], stand_in, journal=journal).clips[0].source_rate == 48_000


def test_journals_of_other_models_and_broken_rows_are_refused(
    stand_in: Path, tmp_path: Path, write_audio: Callable[..., Path]
) -> None:
    journal, other = tmp_path / "run.jsonl", tmp_path / "other.onnx"
    predict_mos([write_audio("a.wav")], stand_in, journal=journal)
    onnx.save(onnx.parser.parse_model(STAND_IN.replace("Exp", "Cos")), other)
    with pytest.raises(InputError, match="Expected the run that was begun here"):
        predict_mos([], other, journal=journal)
    for row in ('{"path": "b"}', '{"path": "b", "prediction": {}, "seconds": 1, "source_rate": 1, "detail": ""}'):
        whole = journal.read_text()
        journal.write_text(f"{whole}{row}\n")
        with pytest.raises(InputError, match="without a usable"):
            predict_mos([], stand_in, journal=journal)
        journal.write_text(whole)


def test_another_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.onnx"
    onnx.save(onnx.parser.parse_model(STAND_IN.replace("144160", "16000")), path)
    with pytest.raises(ModelError, match=r"Expected DNSMOS P\.835"):
        Dnsmos(path)
