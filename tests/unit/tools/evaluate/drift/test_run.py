"""Drift of whole models and of recordings, with their determinism."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest

import omni_sdk as omni
from omni_sdk import bundle
from omni_sdk.errors import InputError, OmniError
from omni_sdk.tools.evaluate.drift import DriftReport, Limits, check_determinism, compare, draw_drift, drift, read_case
from omni_sdk.tools.evaluate.drift.picture import _badness, _worst_signal
from omni_sdk.tools.evaluate.drift.run import Pair
from omni_sdk.tools.evaluate.output import check_picture, write_json

Array = npt.NDArray[Any]
WriteModel = Callable[[str, str], Path]
Voice = Callable[..., Array]

TANH = "waveform = Tanh(codes)"
LOUDER = "gain = Constant<value_float = 1.01>() t = Tanh(codes) waveform = Mul(t, gain)"
LATE = """
t = Tanh(codes) pads = Constant<value_ints = [0, 1, 0, -1]>() waveform = Pad(t, pads)
"""
RANDOM = "noise = RandomNormalLike<scale = 0.001>(codes) t = Tanh(codes) waveform = Add(t, noise)"


@pytest.fixture
def feeds(voice: Voice) -> dict[str, Array]:
    return {"codes": np.asarray(voice(0.5, 24_000))[None]}


def test_the_same_model_passes_bit_for_bit(write_model: WriteModel, feeds: dict[str, Array]) -> None:
    path = write_model("a.onnx", TANH)
    report = drift(path, path, {"one": feeds, "two": feeds}, repeats=1)
    assert report.passed
    assert [pair.drift.bit_equal for pair in report.pairs] == [True, True]
    assert {again.way for again in report.repetitions} >= {"runs", "loads", "processes", "1 thread", "2 threads"}
    assert all(again.bit_equal for again in report.repetitions)


@pytest.mark.parametrize(("body", "expected"), [(LOUDER, "gain: 1.0100 (+1.00 %)"), (LATE, "shift: 1 sample late")])
def test_planted_errors_are_named(write_model: WriteModel, feeds: dict[str, Array], body: str, expected: str) -> None:
    report = drift(write_model("a.onnx", TANH), write_model("b.onnx", body), {"": feeds}, repeats=0)
    assert not report.passed
    assert f"waveform: {expected}" in report.faults


def test_a_model_that_does_not_repeat_itself_fails(write_model: WriteModel, feeds: dict[str, Array]) -> None:
    path = write_model("r.onnx", RANDOM)
    found = {again.way: again for again in check_determinism(path, feeds, repeats=2, threads=[1])}
    assert not found["runs"].bit_equal
    assert 0.001 < found["runs"].peak_error < 0.02
    assert found["runs"].count == 2
    report = drift(path, path, {"": feeds}, repeats=1, limits=Limits(snr_db=20))
    assert any(fault.startswith("determinism: runs differ, by 0.00") for fault in report.faults)


def test_runs_again_are_no_answers_from_the_result_cache(write_model: WriteModel, feeds: dict[str, Array]) -> None:
    settings = omni.Settings(cache_bytes=1 << 24, cache_random=True)
    runs, *_ = check_determinism(write_model("r.onnx", RANDOM), feeds, settings=settings, repeats=1, threads=[])
    assert (runs.way, runs.bit_equal) == ("runs", False)


def test_a_waveform_that_no_output_bears_is_refused(write_model: WriteModel, feeds: dict[str, Array]) -> None:
    path = write_model("a.onnx", TANH)
    with pytest.raises(InputError, match=r"Expected outputs among waveform, got sound - at drift, waveforms"):
        drift(path, path, {"": feeds}, waveforms=["waveform", "sound"], repeats=0)


@pytest.mark.parametrize("name", ["speech", "sound"])
def test_either_ones_name_makes_the_only_output_a_waveform(
    write_model: WriteModel, feeds: dict[str, Array], name: str
) -> None:
    paths = []
    for own in ("speech", "sound"):
        model = onnx.load(write_model("a.onnx", TANH))
        model.graph.node[0].output[0] = model.graph.output[0].name = own
        paths.append(write_model("a.onnx", TANH).with_name(f"{own}.onnx"))
        onnx.save(model, paths[-1])
    report = drift(*paths, {"": feeds}, waveforms=[name], sample_rate=16_000, repeats=0)
    assert (report.pairs[0].drift.kind, report.sample_rate) == ("waveform", 16_000)


def test_outputs_that_only_one_has_are_named(write_model: WriteModel, feeds: dict[str, Array]) -> None:
    two = write_model("two.onnx", TANH)
    onnx = pytest.importorskip("onnx")
    model = onnx.load(two)
    model.graph.node.append(onnx.helper.make_node("Neg", ["codes"], ["extra"]))
    model.graph.output.append(onnx.helper.make_tensor_value_info("extra", onnx.TensorProto.FLOAT, None))
    onnx.save(model, two)
    report = drift(write_model("one.onnx", TANH), two, {"": feeds}, repeats=0)
    assert report.faults == ("output: extra is given by only one of both",)


def test_a_bundles_state_begins_as_zeros_and_is_not_compared(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    text = """
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[1, 1, n] codes, float[1, 1, 1] past) => (float[1, 1, n] speech, float[1, 1, 1] present) {
      speech = Add(codes, past)
      present = ReduceMax<axes = [2]>(speech)
    }
    """
    with bundle.create(tmp_path / "stream") as draft:
        onnx.save(onnx.parser.parse_model(text), draft.folder / "model.onnx")
        draft.graph, draft.state = "model.onnx", {"past": "present"}
        draft.audio = bundle.Audio(sample_rate=12_000, hop=1, input="codes", output="speech")
    codes = np.linspace(-0.5, 0.5, 600, dtype=np.float32)[None, None]
    report = drift(tmp_path / "stream", tmp_path / "stream", {"": {"codes": codes}}, repeats=1)
    assert report.passed
    (pair,) = report.pairs
    assert (pair.drift.name, pair.drift.kind, report.sample_rate) == ("speech", "waveform", 12_000)
    np.testing.assert_array_equal(pair.candidate, codes)
    np.save(tmp_path / "codes.npy", codes)
    assert list(read_case(tmp_path / "codes.npy", tmp_path / "stream")) == ["codes"]


def test_recordings_are_compared_as_they_are(write_audio: Callable[..., Path], voice: Voice) -> None:
    speech = voice(0.5)
    one = write_audio("a.wav", speech)
    assert drift(one, one).passed
    report = drift(one, write_audio("b.wav", 1.01 * speech))
    assert report.faults == ("audio: gain: 1.0100 (+1.00 %)",)
    late = drift(one, write_audio("c.wav", np.concatenate([[0.0], speech[:-1]])))
    assert "audio: shift: 1 sample late" in late.faults
    assert report.sample_rate == 16_000


def test_every_channel_of_a_recording_is_compared(write_audio: Callable[..., Path], voice: Voice) -> None:
    both = np.stack([voice(0.5), voice(0.5, seed=1)], axis=1)
    one = write_audio("a.wav", both)
    assert drift(one, one).passed
    assert not drift(one, write_audio("swapped.wav", both[:, ::-1])).passed
    (fault,) = drift(one, write_audio("mono.wav", both.mean(axis=1))).faults
    assert fault == "audio: shape: (1, 8000) where the reference has (2, 8000)"


def test_what_only_models_take_is_refused_beside_recordings(write_audio: Callable[..., Path]) -> None:
    one = write_audio("a.wav")
    with pytest.raises(InputError, match="no inputs beside two recordings"):
        drift(one, one, {"": {"x": np.zeros(1)}})
    with pytest.raises(InputError, match="no waveforms beside two recordings"):
        drift(one, one, waveforms=["audio"])


def test_a_recording_at_another_rate_is_resampled_and_said(write_audio: Callable[..., Path], voice: Voice) -> None:
    report = drift(write_audio("a.wav", voice(0.5)), write_audio("b.wav", voice(0.5, 48_000), 48_000))
    assert report.resampled
    assert report.pairs[0].drift.snr_db > 15


def test_a_model_against_a_recording_is_refused(write_model: WriteModel, write_audio: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match="two models or two recordings"):
        drift(write_model("a.onnx", TANH), write_audio("a.wav"))
    with pytest.raises(InputError, match="at least one case"):
        drift(write_model("a.onnx", TANH), write_model("b.onnx", TANH))


def test_cases_come_from_files(write_model: WriteModel, feeds: dict[str, Array], tmp_path: Path) -> None:
    path = write_model("a.onnx", TANH)
    np.savez(tmp_path / "one.npz", **feeds)
    np.save(tmp_path / "two.npy", feeds["codes"])
    for name in ("one.npz", "two.npy"):
        case = read_case(tmp_path / name, path)
        np.testing.assert_array_equal(case["codes"], feeds["codes"])
    (tmp_path / "bad.npz").write_bytes(b"PK")
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object))
    for name in ("bad.npz", "absent.npz", "objects.npy"):
        with pytest.raises(InputError, match=name):
            read_case(tmp_path / name, path)


def test_pictures_and_figures_are_written(write_model: WriteModel, feeds: dict[str, Array], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    report = drift(write_model("a.onnx", TANH), write_model("b.onnx", LOUDER), {"": feeds}, repeats=0)
    picture = draw_drift(report, tmp_path / "deep" / "d.png")
    assert picture.read_bytes()[:4] == b"\x89PNG"
    content = json.loads(write_json(tmp_path / "d.json", report.to_dict()).read_text())
    assert content["passed"] is False
    assert content["outputs"][0]["diagnosis"]["gain"] == pytest.approx(1.01, abs=1e-5)


def test_the_picture_is_of_the_channel_that_differs() -> None:
    reference = np.random.default_rng(0).standard_normal((3, 200))
    candidate = reference[:, :150].copy()
    candidate[1] += 0.5
    candidate[0, 3] = np.nan
    ref, cand = _worst_signal(Pair(compare(reference, candidate, waveform=True), reference, candidate))
    np.testing.assert_array_equal(ref, reference[1, :150])
    np.testing.assert_array_equal(cand, candidate[1])


def test_a_waveform_without_samples_has_a_picture_too(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    wave, empty = np.ones((1, 9), "f4"), np.ones((1, 0), "f4")
    pair = Pair(compare(wave, empty, name="waveform", waveform=True), wave, empty)
    report = DriftReport("a", "b", (pair,), (), (), Limits(), 24_000)
    assert draw_drift(report, tmp_path / "d.png").stat().st_size > 1000


def test_a_picture_that_nothing_draws_is_refused_before_it_is_measured_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(OmniError, match=r"pip install 'omni-sdk\[eval\]'"):
        check_picture(tmp_path / "d.png")


def test_figures_that_are_not_finite_become_null(tmp_path: Path) -> None:
    path = write_json(tmp_path / "deep" / "x.json", {"a": np.inf, "b": (float("nan"), 1), 3: {"c": -np.inf}})
    assert json.loads(path.read_text()) == {"a": None, "b": [None, 1], "3": {"c": None}}
    assert [p.name for p in path.parent.iterdir()] == ["x.json"]


def odd_model(path: Path) -> Path:
    """A sequence of unlike tensors and a tensor of strings."""
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[5] x) => (seq(float[n]) parts, string[5] words) {
        sizes = Constant<value_ints = [2, 3]>() parts = SplitToSequence<axis = 0>(x, sizes) words = Cast<to = 8>(x)
    }"""
    onnx.save(onnx.parser.parse_model(text), path)
    return path


def test_outputs_that_are_no_tensors_are_compared_part_by_part(tmp_path: Path) -> None:
    path = odd_model(tmp_path / "odd.onnx")
    report = drift(path, path, {"": {"x": np.arange(5, dtype="f4")}}, repeats=1)
    assert report.passed
    assert {pair.drift.name for pair in report.pairs} == {"parts[]", "parts[0]", "parts[1]", "words"}
    assert all(again.bit_equal for again in report.repetitions)


def test_the_picture_is_of_the_output_that_fails(write_model: WriteModel, tmp_path: Path) -> None:
    good, bad = np.zeros(3), np.linspace(0, 1, 300)
    waveform = compare(bad, 1.1 * bad, name="waveform", waveform=True)
    pairs = (Pair(compare(good, good, name="aside"), good, good), Pair(waveform, bad, 1.1 * bad))
    report = DriftReport("a", "b", pairs, (), (), Limits(), 24_000)
    assert "waveform" in draw_drift(report, tmp_path / "d.svg").read_text()
    assert min(pairs, key=_badness).drift.name == "waveform"
    with pytest.raises(InputError, match="a picture as"):
        draw_drift(report, tmp_path / "d.xyz")
