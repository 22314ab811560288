"""Tables of embeddings as bytes: what is one, how near bytes come, and what the gate makes of it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from small_models import noise, save

from omni_sdk.bundle import Bundle
from omni_sdk.tools.metrics import snr_db
from omni_sdk.tools.prepare import prepare
from omni_sdk.tools.prepare.quantize import gate as gate_module
from omni_sdk.tools.prepare.quantize.tables import row_bytes, tables_of, tables_to_bytes
from omni_sdk.tools.prepare.sessions import open_session, run
from omni_sdk.tools.prepare.timing import Pace

ROWS, WIDTH = 4096, 64


def embedding(folder: Path, *, tail: str = "y = Neg(g)", axis: int = 0, rows: int = ROWS) -> Path:
    text = f"""<ir_version: 9, opset_import: ["" : 18]>
    agraph (int64[N, T] codes, float[{rows}, {WIDTH}] table) => (float[N, T, {WIDTH}] y) {{
        g = Gather <axis = {axis}> (table, codes) {tail}
    }}"""
    array = noise(rows, WIDTH) * np.exp(noise(rows, 1, seed=1) * 2)
    return save(ir.from_onnx_text(text), {"table": array}, folder / "embedding.onnx")


def codes(count: int = 3) -> list[dict[str, np.ndarray]]:
    source = np.random.default_rng(5)
    return [{"codes": source.integers(0, ROWS, (1, 50))} for _ in range(count)]


@pytest.fixture
def paces(monkeypatch):
    """Time that tests dictate: of every model the same, and `ratio` for one with bytes against the one before."""
    dictated = {"ratio": 1.0}
    monkeypatch.setattr(gate_module, "fastest_seconds", lambda graph, feeds, threads=None: 1.0)
    monkeypatch.setattr(gate_module, "race", lambda before, after, feeds, threads=None: Pace(1.0, dictated["ratio"]))
    return dictated


def table_types(bundle: Path) -> list[ir.DataType]:
    graph = ir.load(Bundle.open(bundle).graph_path).graph
    return [node.inputs[0].dtype for node in graph if node.op_type == "Gather"]


def test_rows_keep_their_own_scale():
    table = noise(100, 64) * np.exp(noise(100, 1, seed=1) * 5)
    table[7] = 0
    packed, scales = row_bytes(table)
    assert packed.dtype == np.int8 and scales.shape == (100, 1)
    assert np.all(np.abs(packed * scales - table) <= scales * 0.5001)
    assert np.array_equal(packed[7], np.zeros(64)) and np.abs(packed).max() == 127
    others = np.delete(np.arange(100), 7)
    assert min(snr_db(table[row], packed[row] * scales[row]) for row in others) > 38


def test_the_model_with_bytes_is_a_quarter_as_large_and_says_nearly_the_same(tmp_path):
    path = embedding(tmp_path)
    model = ir.load(path)
    (group,) = tables_of(model)
    assert (group.name, group.saved_bytes) == (f"Gather {ROWS}x{WIDTH}", ROWS * (3 * WIDTH - 4))
    tables_to_bytes(model, group.nodes, tmp_path)
    ir.save(model, tmp_path / "bytes.onnx")
    left = sum(value.const_value.nbytes for value in model.graph.initializers.values())
    assert left == ROWS * (WIDTH + 4)
    expected, got = (run(open_session(graph), codes()[0])["y"] for graph in (path, tmp_path / "bytes.onnx"))
    assert got.shape == expected.shape and snr_db(expected, got) > 35


def test_a_gather_that_makes_the_output_keeps_its_name(tmp_path):
    path = embedding(tmp_path, tail="y = Identity(g)")
    model = ir.load(path)
    tables_to_bytes(model, tables_of(model)[0].nodes, tmp_path)
    ir.save(model, tmp_path / "bytes.onnx")
    assert set(run(open_session(tmp_path / "bytes.onnx"), codes()[0])) == {"y"}


@pytest.mark.parametrize(
    "form",
    [
        {"rows": 64},
        {"axis": 1},
        {"tail": "t = Transpose <perm = [1, 0]> (table) y = MatMul(g, t)"},
    ],
    ids=["small", "columns", "tied to a product"],
)
def test_what_is_no_table(tmp_path, form):
    assert tables_of(ir.load(embedding(tmp_path, **form))) == []


def test_a_table_becomes_bytes_where_time_is_not_worse(tmp_path, paces):
    path = embedding(tmp_path)
    report = prepare(path, tmp_path / "out", calibration=codes(), min_snr_db=30, measure=False)
    assert "1 of 1 tables are bytes" in report.quantization
    assert table_types(tmp_path / "out") == [ir.DataType.INT8, ir.DataType.FLOAT]
    assert [point.chosen for point in report.frontier] == [False, True]
    (bargain,) = report.bargains
    assert bargain.saved_bytes == ROWS * (3 * WIDTH - 4) and bargain.snr_db > 35
    assert report.bytes_after < 0.3 * report.bytes_before


@pytest.mark.parametrize(("ratio", "kept"), [(0.9, True), (1.019, True), (1.03, False)])
def test_a_table_stays_float_where_it_costs_time(tmp_path, paces, ratio, kept):
    paces["ratio"] = ratio
    prepare(embedding(tmp_path), tmp_path / "out", calibration=codes(), min_snr_db=0, measure=False)
    assert (ir.DataType.INT8 in table_types(tmp_path / "out")) == kept


def test_a_table_stays_float_where_the_target_would_be_missed(tmp_path, paces):
    report = prepare(embedding(tmp_path), tmp_path / "out", calibration=codes(), min_snr_db=60, measure=False)
    assert "0 of 1 tables are bytes" in report.quantization
    assert table_types(tmp_path / "out") == [ir.DataType.FLOAT]
    assert report.frontier[0].chosen


def test_the_source_is_not_touched(tmp_path, paces):
    path = embedding(tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    prepare(path, tmp_path / "out", calibration=codes(), min_snr_db=0, measure=False)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()} == before
