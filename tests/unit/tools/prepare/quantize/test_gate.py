"""The gate: which layers become INT8, by measurements that the tests dictate where they are about time."""

from __future__ import annotations

import math
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from small_models import mels, noise, save, vocoder

from omni_sdk.bundle import Bundle
from omni_sdk.tools.prepare import api, prepare
from omni_sdk.tools.prepare.hardware import ByteProducts
from omni_sdk.tools.prepare.pictures import save_report
from omni_sdk.tools.prepare.quantize import gate as gate_module
from omni_sdk.tools.prepare.sessions import has_operators, open_session, run
from omni_sdk.tools.prepare.timing import Pace

pytestmark = pytest.mark.skipif(not has_operators(), reason="the operators' library is not built")

QUANTIZED = ("QConv1d", "QSnake", "QAddSnake", "QShuffleSnake", "QuantizeLinear")


@pytest.fixture
def model(tmp_path):
    return vocoder(tmp_path)


@pytest.fixture
def faster_by_bytes(monkeypatch):
    """Seconds that fall with each layer whose weights are bytes: INT8 pays, whatever this machine is busy with."""

    dictate(monkeypatch, lambda graph: 1.0 - 0.2 * quantized_layers(graph))


def dictate(monkeypatch, alone, in_turns=None):
    """Seconds of a graph, timed alone and in turns with another."""
    in_turns = in_turns or alone
    monkeypatch.setattr(gate_module, "fastest_seconds", lambda graph, feeds, threads=None: alone(graph))
    monkeypatch.setattr(
        gate_module, "race", lambda before, after, feeds, threads=None: Pace(in_turns(before), in_turns(after))
    )


def on_bytes(graph: Path) -> list[bool]:
    """Of each convolution, by whichever operator, whether its weights are bytes."""
    layers = [node for node in ir.load(graph).graph if node.op_type in ("Conv", "Conv1d", "QConv1d")]
    return [node.op_type == "QConv1d" or node.inputs[1].producer() is not None for node in layers]


def quantized_layers(graph: Path) -> int:
    return sum(on_bytes(graph))


def ops(bundle: Path) -> Counter[str]:
    return Counter(node.op_type for node in ir.load(Bundle.open(bundle).graph_path).graph)


def test_everything_that_is_faster_where_quality_does_not_matter(model, tmp_path, faster_by_bytes, monkeypatch):
    monkeypatch.setattr(api, "byte_products", lambda: ByteProducts(("avx512_vnni",), "x86_64"))
    report = prepare(model, tmp_path / "out", calibration=mels(), min_snr_db=0, measure=False)
    assert [len(point.groups) for point in report.frontier] == [0, 1, 2, 3]
    assert [point.chosen for point in report.frontier] == [False, False, False, True]
    assert ops(tmp_path / "out")["QConv1d"] == 3, "as fast, by what is dictated, and less noise"
    manifest = Bundle.open(tmp_path / "out").manifest
    assert manifest.quality["int8_snr_db"] == pytest.approx(report.frontier[-1].snr_db, abs=0.01)
    assert len(manifest.provenance["prepared"]["calibration"]) == 32
    assert quantized_layers(Bundle.open(tmp_path / "out").graph_path) == 3


def test_the_target_decides_and_is_kept(model, tmp_path, faster_by_bytes):
    everything = prepare(model, tmp_path / "all", calibration=mels(), min_snr_db=0, measure=False)
    ratios = [point.snr_db for point in everything.frontier[1:]]
    between = (ratios[0] + ratios[1]) / 2
    report = prepare(model, tmp_path / "out", calibration=mels(), min_snr_db=between, measure=False)
    (chosen,) = [point for point in report.frontier if point.chosen]
    assert len(chosen.groups) == 1 and chosen.snr_db >= between
    expected = run(open_session(model), mels()[2])["waveform"]
    got = run(open_session(Bundle.open(tmp_path / "out").graph_path), mels()[2])["waveform"]
    noise = np.sum((expected - got) ** 2)
    assert 10 * math.log10(np.sum(expected**2) / noise) == pytest.approx(chosen.snr_db, abs=0.1)


def test_bargains_are_ordered_by_noise_for_time(model, tmp_path, faster_by_bytes):
    report = prepare(model, tmp_path / "out", calibration=mels(), min_snr_db=0, measure=False)
    price = {each.group: each.price for each in report.bargains}
    added = report.frontier[-1].groups
    assert [price[group] for group in added] == sorted(price.values())
    for each in report.bargains:
        assert each.price == pytest.approx(10 ** (-each.snr_db / 10) / each.saved_seconds)


def test_a_target_that_cannot_be_met_is_an_honest_float_bundle(model, tmp_path, faster_by_bytes):
    report = prepare(model, tmp_path / "out", calibration=mels(), min_snr_db=150, measure=False)
    assert "all layers stay FP32" in report.quantization and "150 dB" in report.quantization
    assert report.frontier[0].chosen
    assert not any(ops(tmp_path / "out")[op] for op in QUANTIZED)


def test_what_is_not_faster_here_stays_float(model, tmp_path, monkeypatch):
    dictate(monkeypatch, lambda graph: 1.0 + quantized_layers(graph))
    report = prepare(model, tmp_path / "out", calibration=mels(), min_snr_db=0, measure=False)
    assert "no selection is faster here" in report.quantization
    assert not any(ops(tmp_path / "out")[op] for op in QUANTIZED)


@pytest.mark.parametrize(
    ("in_turns", "kept", "ratio"),
    [((1.0, 1.1, 1.2, 1.3), 0, 1.0), ((1.0, 0.6, 0.7, 1.1), 2, 0.7), ((1.0, 0.99, 0.98, 0.9), 3, 0.9)],
    ids=["none in turns", "the next fastest", "less in turns"],
)
def test_times_in_turns_decide_not_those_taken_apart(model, tmp_path, monkeypatch, in_turns, kept, ratio):
    dictate(
        monkeypatch, lambda graph: 1.0 - 0.2 * quantized_layers(graph), lambda graph: in_turns[quantized_layers(graph)]
    )
    report = prepare(model, tmp_path / "out", calibration=mels(), min_snr_db=0, measure=False)
    (chosen,) = [point for point in report.frontier if point.chosen]
    assert (len(chosen.groups), chosen.ratio) == (kept, ratio)
    assert report.frontier[3].ratio == in_turns[3]
    assert quantized_layers(Bundle.open(tmp_path / "out").graph_path) == kept


def test_only_a_few_selections_meet_fp32_in_turns(model, tmp_path, monkeypatch):
    monkeypatch.setattr(gate_module, "TRIES", 2)
    dictate(
        monkeypatch,
        lambda graph: 1.0 - 0.2 * quantized_layers(graph),
        lambda graph: (1.0, 0.5, 1.1, 1.1)[quantized_layers(graph)],
    )
    report = prepare(model, tmp_path / "out", calibration=mels(), min_snr_db=0, measure=False)
    assert report.frontier[0].chosen and "no selection is faster here" in report.quantization


def test_a_layer_that_bytes_make_slower_stays_float_whatever_the_target(model, tmp_path, monkeypatch):
    def seconds(graph):
        return 1.0 - 0.2 * quantized_layers(graph) + 0.5 * on_bytes(graph)[-1]

    dictate(monkeypatch, seconds)
    report = prepare(model, tmp_path / "out", calibration=mels(), min_snr_db=0, measure=False)
    assert {each.group: each.saved_seconds > 0 for each in report.bargains}["Conv 1x8x7"] is False
    assert all("Conv 1x8x7" not in point.groups for point in report.frontier)
    assert [len(point.groups) for point in report.frontier if point.chosen] == [2]
    assert quantized_layers(Bundle.open(tmp_path / "out").graph_path) == 2


def test_nothing_to_quantize(tmp_path):
    model = ir.from_onnx_text("""<ir_version: 9, opset_import: ["" : 18]>
        agraph (float[N, T] x) => (float[N, T] y) { y = Sin(x) }""")
    ir.save(model, tmp_path / "sine.onnx")
    samples = [{"x": np.linspace(0, 1, 8, dtype=np.float32)[None]}] * 2
    report = prepare(tmp_path / "sine.onnx", tmp_path / "out", calibration=samples, measure=False)
    assert "nothing to quantize" in report.quantization


def test_old_opsets_stay_float(tmp_path):
    model = ir.from_onnx_text("""<ir_version: 7, opset_import: ["" : 12]>
        agraph (float[N, 2, T] x, float[2, 2, 3] w) => (float[N, 2, L] y) { y = Conv(x, w) }""")
    path = save(model, {"w": noise(2, 2, 3)}, tmp_path / "old.onnx")
    samples = [{"x": noise(1, 2, 9, seed=seed)} for seed in range(3)]
    report = prepare(path, tmp_path / "out", calibration=samples, measure=False)
    assert "need opset 13, the model has 12" in report.quantization


def test_calibration_from_a_folder_and_a_callable(model, tmp_path, faster_by_bytes):
    (tmp_path / "inputs").mkdir()
    for index, feeds in enumerate(mels()):
        np.savez(tmp_path / "inputs" / f"{index}.npz", **feeds)
    made = []
    for number, calibration in enumerate((tmp_path / "inputs", mels, mels())):
        prepare(model, tmp_path / str(number), calibration=calibration, min_snr_db=0, measure=False)
        made.append(Bundle.open(tmp_path / str(number)).manifest.provenance["prepared"]["calibration"])
    assert len(set(made)) == 1


def test_report_on_disk(model, tmp_path, faster_by_bytes):
    report = prepare(model, tmp_path / "out", calibration=mels(), min_snr_db=0, measure=False)
    save_report(report, tmp_path / "report")
    assert (tmp_path / "report" / "frontier.png").read_bytes().startswith(b"\x89PNG")
    text = (tmp_path / "report" / "report.md").read_text()
    assert "| 3 |" in text and "kept" in text
    assert "Infinity" not in (tmp_path / "report" / "report.json").read_text()
