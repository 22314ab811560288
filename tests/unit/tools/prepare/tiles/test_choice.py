"""Tiles by time and by budget; the tests dictate the times, the noise is real."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from small_models import mels, noise, vocoder

from omni_sdk.bundle import Bundle
from omni_sdk.errors import SettingsError
from omni_sdk.tools.metrics import snr_db
from omni_sdk.tools.prepare import prepare
from omni_sdk.tools.prepare.pictures import markdown
from omni_sdk.tools.prepare.rules.conv1d_node import is_conv1d, number
from omni_sdk.tools.prepare.sessions import has_operators, open_session, run
from omni_sdk.tools.prepare.tiles import choice, layout
from omni_sdk.tools.prepare.timing import Pace

pytestmark = pytest.mark.skipif(not has_operators(), reason="the operators' library is not built")


@pytest.fixture
def model(tmp_path):
    return vocoder(tmp_path)


def tiles_in(graph: Path) -> dict[str, int]:
    return {node.name: number(node, "tile") for node in ir.load(graph).graph if is_conv1d(node)}


@pytest.fixture
def paces(monkeypatch):
    """Seconds of a layer at each tile, as a test dictates; larger tiles are faster unless it says otherwise."""
    table = {1: 1.0, 2: 0.8, 4: 0.6, 6: 0.5}
    monkeypatch.setattr(
        choice,
        "seconds_of_layers",
        lambda graph, step, threads: {layer: table[tile] for layer, tile in tiles_in(graph).items()},
    )
    lay_out(monkeypatch, 0.5)
    return table


def of_two_taps(graph):
    return {node.name for node in ir.load(graph).graph if is_conv1d(node) and number(node, "kernel") == 2}


def lay_out(monkeypatch, ratio):
    """Dictate the time of channels last against channels first."""
    monkeypatch.setattr(layout, "race", lambda first, last, feeds, threads: Pace(1.0, ratio))


def prepared(model, place, **options):
    return prepare(model, place, **options)


def test_the_fastest_tile_is_taken_and_its_weights_alone_are_kept(model, tmp_path, paces):
    report = prepared(model, tmp_path / "out", step_frames=(16, 4))
    by_kernel = {each.group.split()[1].split("x")[2]: each for each in report.tiling.groups}
    assert by_kernel["7"].tile == by_kernel["2"].tile == 6
    assert all(each.reason == "fastest here" for each in report.tiling.groups if each.tile == 6)
    assert report.tiling.step_frames == (16, 4) and by_kernel["7"].seconds == (0.5, 0.5)
    bundle = Bundle.open(tmp_path / "out")
    assert sorted(tiles_in(bundle.graph_path).values()) == [6, 6, 6]
    weights = [
        node.inputs[1].const_value.shape.numpy()[0] for node in ir.load(bundle.graph_path).graph if is_conv1d(node)
    ]
    assert sorted(weights) == [7, 12, 12]
    assert bundle.manifest.provenance["prepared"]["tiles"]["Conv1d 16x4x7"] == 6
    feeds = {"mel": noise(2, 4, 23, seed=5)}
    expected, got = (run(open_session(graph), feeds)["waveform"] for graph in (model, bundle.graph_path))
    assert snr_db(expected, got) > 80
    assert "| 16x4x7 | 1 | 6 |" in markdown(report)


@pytest.mark.parametrize(("ratio", "is_kept"), [(0.9, True), (1.01, True), (1.2, False)])
def test_a_model_that_is_faster_channels_first_stays_so(model, tmp_path, paces, monkeypatch, ratio, is_kept):
    lay_out(monkeypatch, ratio)
    report = prepared(model, tmp_path / "out", step_frames=(16, 4))
    assert report.tiling.is_kept is is_kept and report.tiling.channels_first_ratios == (ratio, ratio)
    assert f"{ratio:.2f} x the time of channels first at 16" in str(report)
    assert ("stays channels first" in str(report)) is not is_kept
    bundle = Bundle.open(tmp_path / "out")
    assert bool(tiles_in(bundle.graph_path)) is is_kept is bool(bundle.manifest.provenance["prepared"]["tiles"])
    assert ("conv1d" in report.rules()) is is_kept
    feeds = {"mel": noise(1, 4, 30, seed=7)}
    expected = run(open_session(model), feeds)["waveform"]
    assert snr_db(expected, run(open_session(bundle.graph_path), feeds)["waveform"]) > 70


def test_a_bundle_that_was_prepared_before_keeps_its_tiles(model, tmp_path, paces, monkeypatch):
    monkeypatch.setattr(
        choice,
        "seconds_of_layers",
        lambda graph, step, threads: {
            layer: 1.0 if layer in of_two_taps(graph) else paces[tile] for layer, tile in tiles_in(graph).items()
        },
    )
    prepared(model, tmp_path / "once", step_frames=(16, 4))
    report = prepared(tmp_path / "once", tmp_path / "twice", step_frames=(16, 4))
    once, twice = (Bundle.open(tmp_path / name).graph_path for name in ("once", "twice"))
    assert sorted(tiles_in(twice).values()) == sorted(tiles_in(once).values()) == [1, 6, 6]
    assert [each.group.split("x")[2] for each in report.tiling.groups] == ["2"], "the direct one alone"
    feeds = {"mel": noise(1, 4, 30, seed=7)}
    np.testing.assert_array_equal(*(run(open_session(graph), feeds)["waveform"] for graph in (once, twice)))


def test_a_tile_that_is_slower_at_one_size_may_be_faster_over_all(model, tmp_path, paces, monkeypatch):
    monkeypatch.setattr(
        choice,
        "seconds_of_layers",
        lambda graph, step, threads: {
            layer: {(6, 4): 3.0, (4, 4): 1.1}.get((tile, step.frames), paces[tile])
            for layer, tile in tiles_in(graph).items()
        },
    )
    report = prepared(model, tmp_path / "out", step_frames=(16, 4))
    assert sorted(each.tile for each in report.tiling.groups) == [2, 2, 2]


def test_a_larger_tile_has_to_be_worth_its_weights(model, tmp_path, paces):
    paces.update({2: 0.8, 4: 0.79, 6: 0.78})
    assert {each.tile for each in prepared(model, tmp_path / "nearly").tiling.groups} == {2}
    paces.update({2: 0.8, 4: 0.79, 6: 0.77})
    assert {each.tile for each in prepared(model, tmp_path / "worth").tiling.groups} == {6}


def test_where_no_tile_is_faster_all_stay_direct(model, tmp_path, paces):
    paces.update({2: 1.0, 4: 1.1, 6: 1.2})
    report = prepared(model, tmp_path / "out")
    assert {each.tile for each in report.tiling.groups} == {1}
    assert {each.reason for each in report.tiling.groups} == {"direct: no tile is faster here"}


@pytest.mark.parametrize("options", [{"step_frames": ()}, {"measure": False}])
def test_without_measuring_nothing_is_timed(model, tmp_path, monkeypatch, options):
    monkeypatch.setattr(choice, "seconds_of_layers", None)
    report = prepared(model, tmp_path / "out", **options)
    assert {each.tile for each in report.tiling.groups} == {1} and report.tiling.step_frames == ()


def test_the_budget_takes_tiles_back(model, tmp_path, paces):
    free = prepared(model, tmp_path / "free", min_fp32_snr_db=0).tiling
    direct = prepared(model, tmp_path / "direct", step_frames=()).tiling
    assert free.snr_db < direct.snr_db - 3
    budget = (free.snr_db + direct.snr_db) / 2
    held = prepared(model, tmp_path / "held", min_fp32_snr_db=budget).tiling
    assert held.snr_db >= budget
    back = [each for each in held.groups if each.reason.endswith("misses the budget")]
    assert back and all(each.tile < 6 and each.alone_snr_db is not None for each in back)
    assert "held back by the budget" in str(held)


def test_a_budget_beyond_reach_leaves_all_direct_and_says_so(model, tmp_path, paces):
    tiling = prepared(model, tmp_path / "out", min_fp32_snr_db=200).tiling
    assert {each.tile for each in tiling.groups} == {1}
    assert "even direct they reach only" in str(tiling)


def test_noise_is_spent_where_it_buys_most(model, tmp_path, paces, monkeypatch):
    """Two layers are equally noisy, the budget has room for one and a half, and the first saves ten times as much."""
    monkeypatch.setattr(
        choice,
        "seconds_of_layers",
        lambda graph, step, threads: {
            layer: paces[tile] * (10 if number == 0 else 1)
            for number, (layer, tile) in enumerate(tiles_in(graph).items())
        },
    )
    noise_of = {1: 0.0, 2: 1e-9, 4: 1e-8, 6: 1e-7}
    monkeypatch.setattr(
        choice.Chooser,
        "_measured",
        lambda self, tiles: -10 * np.log10(1e-12 + sum(noise_of[tile] for tile in tiles.values())),
    )
    tiling = prepared(model, tmp_path / "out", min_fp32_snr_db=-10 * np.log10(1.5e-7)).tiling
    first, _, last = tiling.groups
    assert first.tile == 6 and last.tile < 6 and last.reason.endswith("misses the budget")


def test_layers_alone_are_held_against_float64(model, tmp_path, paces):
    free = prepared(model, tmp_path / "free", min_fp32_snr_db=0).tiling
    direct = prepared(model, tmp_path / "direct", step_frames=()).tiling
    for tiled, plain in zip(free.groups, direct.groups, strict=True):
        assert plain.layer_snr_db > 125
        assert tiled.layer_snr_db > 80 and (tiled.layer_snr_db < plain.layer_snr_db - 3) == (tiled.tile == 6)


def test_measured_times_are_of_every_layer(model, tmp_path):
    tiling = prepared(model, tmp_path / "out", step_frames=(9, 2)).tiling
    assert all(len(each.seconds) == 2 and min(each.seconds + each.direct_seconds) > 0 for each in tiling.groups)


def test_other_engines_get_no_tiles(model, tmp_path):
    report = prepared(model, tmp_path / "out", target="openvino")
    assert report.tiling is None and "conv1d" not in report.rules()


def test_a_graph_may_stay_channels_first(model, tmp_path):
    report = prepared(model, tmp_path / "out", skip=["conv1d", "matmul-as-conv1d"])
    assert report.tiling is None and "shuffle-snake" in report.rules()


def test_int8_is_made_from_the_graph_before(model, tmp_path, paces):
    report = prepared(model, tmp_path / "out", calibration=mels(), min_snr_db=0)
    kinds = {node.op_type for node in ir.load(Bundle.open(tmp_path / "out").graph_path).graph}
    assert report.tiling is not None
    is_int8 = any(point.chosen and point.groups for point in report.frontier)
    assert is_int8 == bool(kinds & {"QConv1d", "DequantizeLinear"})
    assert "Conv1d" in kinds or is_int8
    assert "Conv1d" not in kinds or not is_int8 or "QConv1d" in kinds, (
        "beside ONNX Runtime's layers there is none of ours"
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"min_fp32_snr_db": -1.0}, "min_fp32_snr_db"),
        ({"min_fp32_snr_db": 1000.0}, "0 to 200"),
        ({"step_frames": (4, 0)}, "step_frames"),
        ({"step_frames": (1.5,)}, "step_frames"),
    ],
)
def test_what_cannot_be_asked_for(model, tmp_path, options, words):
    with pytest.raises(SettingsError, match=words):
        prepare(model, tmp_path / "out", **options)


def test_results_hold_for_any_batch(model, tmp_path, paces):
    prepared(model, tmp_path / "out")
    session = open_session(Bundle.open(tmp_path / "out").graph_path)
    feeds = noise(3, 4, 13)
    whole = run(session, {"mel": feeds})["waveform"]
    for index in range(3):
        assert np.array_equal(run(session, {"mel": feeds[index : index + 1]})["waveform"][0], whole[index])
