"""The reference decoder from checkpoint to prepared bundle, one-shot and streaming, as a user runs it."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import onnx_ir as ir
import pytest
import vocoders
from click.testing import CliRunner

import omni_sdk as omni
from omni_sdk.bundle import Bundle
from omni_sdk.cli import main
from omni_sdk.tools.export import code2wav, reference_checkpoint
from omni_sdk.tools.prepare import prepare
from omni_sdk.tools.prepare.rules.conv1d_node import is_conv1d, optional_input, places
from omni_sdk.tools.prepare.rules.transposes import turned
from omni_sdk.tools.prepare.sessions import has_operators

pytestmark = pytest.mark.skipif(not has_operators(), reason="the operators' library is not built")

CODES = np.random.default_rng(0).integers(0, 2048, (1, 16, 9))


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exports")
    checkpoint = reference_checkpoint(folder / "checkpoint")
    code2wav(checkpoint, folder / "shot", streaming=False)
    code2wav(checkpoint, folder / "stream", streaming=True)
    return folder


@pytest.fixture(scope="module")
def prepared(exports):
    reports = {form: prepare(exports / form, exports / f"{form}-fast", measure=False) for form in ("shot", "stream")}
    return exports, reports


def test_every_activation_is_found_in_both_forms(prepared):
    _, reports = prepared
    for report in reports.values():
        rules = report.rules()
        assert (rules["snake"], rules["shuffle-snake"], rules["add-snake"], rules["rms-norm"]) == (29, 4, 12, 5)
    assert reports["shot"].rules()["pad-into-conv"] == 16
    assert reports["shot"].rules()["slice-into-conv-transpose"] == 4
    assert reports["shot"].rules()["conv-transpose-as-conv"] == 6


ACTIVATIONS = {"Snake", "AddSnake", "ShuffleSnake"}


def test_the_decoder_is_channels_last_and_fused(prepared):
    folder, reports = prepared
    for form, states in (("shot", 0), ("stream", 18)):
        graph = ir.load(Bundle.open(folder / f"{form}-fast").graph_path).graph
        decoder = list(graph)[next(i for i, node in enumerate(graph) if node.op_type == "LayerNormalization") :]
        kinds = Counter(node.op_type for node in decoder)
        assert not ACTIVATIONS & kinds.keys()
        sums = [node for node in decoder if node.op_type == "Add"]
        assert all("Erf" in node.name or "Erf" in node.inputs[0].name for node in sums), (
            "GELU's, which are ONNX Runtime's"
        )
        layers = [node for node in graph if is_conv1d(node)]
        pasts = [node for node in layers if optional_input(node, places(node).past) is not None]
        assert (len(layers), len(pasts)) == (44, states)
        moved = [node for node in graph if turned(node.outputs[0]) is not None and not touches_state(node)]
        assert len(moved) == 4, "around each of two depthwise convolutions"
        assert {each.reason.split()[-2] for each in reports[form].refused} == {"32"}


def touches_state(node: ir.Node) -> bool:
    users = [user for user, _ in node.outputs[0].uses()]
    cut = node.inputs[0].producer()
    return (
        node.outputs[0].is_graph_output()
        or node.inputs[0].is_graph_input()
        or (cut is not None and cut.op_type == "Slice")
        or any(is_conv1d(user) and optional_input(user, places(user).past) is node.outputs[0] for user in users)
    )


@pytest.mark.heavy
@pytest.mark.parametrize("form", ["shot", "stream"])
def test_tiles_are_chosen_where_they_are_faster(exports, tmp_path, form):
    report = prepare(exports / form, tmp_path / "out", step_frames=(4,))
    assert report.tiling.snr_db >= 70 and report.parity.worst_relative < 1e-4
    for group in report.tiling.groups:
        assert (group.tile > 1) == (group.reason == "fastest here")
        assert group.tile == 1 or group.seconds[0] < group.direct_seconds[0]


@pytest.mark.parametrize("make", [vocoders.dac, vocoders.bigvgan])
def test_other_vocoders_are_channels_last_too(tmp_path, make):
    source = make(tmp_path / "vocoder.onnx")
    report = prepare(source, tmp_path / "out", measure=False)
    kinds = Counter(node.op_type for node in ir.load(Bundle.open(tmp_path / "out").graph_path).graph)
    assert kinds["Conv"] == kinds["ConvTranspose"] == 0
    assert kinds["Transpose"] == 1, "at the input; the waveform's single channel needs none"
    assert kinds["AddSnake"] == kinds["ShuffleSnake"] == 0
    assert report.parity.worst_relative < 1e-4


def test_the_manifest_keeps_state_and_audio(prepared):
    folder, _ = prepared
    for form in ("shot", "stream"):
        before, after = (Bundle.open(folder / name).manifest for name in (form, f"{form}-fast"))
        assert (after.state, after.audio) == (before.state, before.audio)
    assert len(Bundle.open(folder / "stream-fast").manifest.state) > 20


def test_streamed_and_prepared_equals_one_shot_as_exported(prepared):
    folder, _ = prepared
    with omni.load(folder / "shot", cache_dir=None) as model:
        expected = model.infer(audio_codes=CODES)["waveform"].copy()
    with omni.load(folder / "stream-fast", cache_dir=None) as model, model.stream() as stream:
        parts = [
            stream.step(audio_codes=np.ascontiguousarray(CODES[:, :, at : at + 4]))["waveform"].copy()
            for at in range(0, CODES.shape[2], 4)
        ]
    got = np.concatenate(parts, axis=2)
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() < 1e-4 * np.abs(expected).max()


def test_streams_of_the_ultra_preset_are_the_same_from_the_second_on(prepared):
    """ONNX Runtime plans memory by shape from the second run on, and an empty past then has memory too."""
    folder, _ = prepared
    steps = [np.ascontiguousarray(CODES[:, :, at : at + 4]) for at in range(0, 8, 4)]
    with omni.load(folder / "stream-fast", "ultra", cache_dir=None) as model:
        runs = []
        for _ in range(3):
            with model.stream() as stream:
                runs.append([stream.step(audio_codes=codes)["waveform"].copy() for codes in steps])
    for again in runs[1:]:
        for first, second in zip(runs[0], again, strict=True):
            np.testing.assert_array_equal(first, second)


@pytest.mark.heavy
def test_a_stream_is_quantized_from_codes_alone(exports, tmp_path):
    codes = [{"audio_codes": np.random.default_rng(seed).integers(0, 2048, (1, 16, 4))} for seed in range(3)]
    report = prepare(exports / "stream", tmp_path / "out", calibration=codes, min_snr_db=0, measure=False)
    assert len(report.bargains) > 15
    assert Bundle.open(tmp_path / "out").manifest.state == Bundle.open(exports / "stream").manifest.state


def test_the_output_says_how_long_it_is(prepared):
    folder, _ = prepared
    with omni.load(folder / "shot-fast", cache_dir=None) as model:
        assert model.outputs[0].shape == ("batch", 1, "1920*frames - 555")


def test_the_command_explains_and_reports(exports, tmp_path):
    arguments = ["prepare", str(exports / "shot"), str(tmp_path / "out"), "--no-measure", "--explain"]
    result = CliRunner().invoke(main, [*arguments, "--report", str(tmp_path / "report")])
    assert result.exit_code == 0, result.output
    assert "snake" in result.output and "parity" in result.output
    assert json.loads((tmp_path / "report" / "report.json").read_text())["parity"]["trials"] == 6


def test_the_command_prints_json_alone(exports, tmp_path):
    arguments = ["prepare", str(exports / "shot"), str(tmp_path / "out"), "--no-measure", "--json"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0
    assert json.loads(result.stdout)["target"] == "cpu"


def test_the_command_says_what_is_wrong(tmp_path):
    result = CliRunner().invoke(main, ["prepare", str(tmp_path / "absent.onnx"), str(tmp_path / "out")])
    assert result.exit_code == 1
    assert "Expected an .onnx file or a bundle" in result.output
