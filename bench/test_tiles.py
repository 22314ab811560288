"""Channels last and Winograd tiles: the FP32 model as `prepare` makes it against what it replaces, in one run.

    python -m pytest bench/test_tiles.py -s

Models, cache and `OMNI_SDK_BENCH_*` as for `test_prepare.py`. Prints each layer's tile, time, share of the peak and
error, then the table, which is written as `tiles.json` and `tiles.md`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from models import Models, cache_folder, zeros
from peaks import float_peak, operations
from table import Row, Table, describe_machine

from omni_sdk.tools.metrics import snr_db
from omni_sdk.tools.prepare import prepare
from omni_sdk.tools.prepare.rules.conv1d_node import is_conv1d, weight_shape
from omni_sdk.tools.prepare.sessions import has_operators, open_session, run
from omni_sdk.tools.prepare.symbols import Symbols
from omni_sdk.tools.prepare.timing import race

pytestmark = pytest.mark.skipif(not has_operators(), reason="the operators' library is not built")

FRAMES = int(os.environ.get("OMNI_SDK_BENCH_FRAMES", "128"))
PROBE = Path(__file__).with_name("memory_probe.py")


@pytest.fixture(scope="module")
def models() -> Models:
    return Models(cache_folder(), full=os.environ.get("OMNI_SDK_BENCH_SMALL", "0") in ("", "0"))


@pytest.fixture(scope="module")
def table(models):
    made = Table(models.folder, describe_machine(), "tiles")
    yield made
    print("\n" + made.markdown())


@pytest.fixture(scope="module")
def peak() -> float:
    return float_peak()


def columns(graph: ir.Model, frames: int) -> dict[str, int]:
    """Output columns of each `Conv1d`, by the node's name."""
    symbols, found = Symbols(graph), {}
    for node in filter(is_conv1d, graph.graph):
        length = symbols.shape(node.outputs[0])[1]
        found[node.name] = int(length.subs(dict.fromkeys(length.free_symbols, frames)))
    return found


def test_layers(models, peak):
    graph = models.prepared("unit")
    report = json.loads((models.report_of(graph.parent) / "report.json").read_text())["tiling"]
    model = ir.load(graph)
    lengths, nodes = columns(model, report["step_frames"][0]), {node.name: node for node in model.graph}
    print(f"\nat {report['step_frames'][0]} frames, peak {peak / 1e9:.0f} GFLOP/s of direct products")
    print("| layers | count | tile | ms | x direct | of the peak | alone, dB |\n|---|---|---|---|---|---|---|")
    for group in report["groups"]:
        work = sum(2.0 * np.prod(weight_shape(nodes[name])) * lengths[name] for name in group["layers"])
        seconds, direct = group["seconds"][0], group["direct_seconds"][0]
        print(
            f"| {group['group'].removeprefix('Conv1d ')} | {len(group['layers'])} | {group['tile']} | "
            f"{1e3 * seconds:.2f} | {seconds / direct:.2f} | {work / seconds / peak:.2f} | "
            f"{group['layer_snr_db']:.0f} |"
        )


def test_one_shot(models, table, peak):
    feeds = models.codes(FRAMES)
    pace = race(models.exported("unit"), models.prepared("unit"), feeds)
    note = f"{pace.before:.2f} -> {pace.after:.2f} s"
    table.add(Row("FP32 prepared against ORT default FP32", pace.ratio, 0.42, True, note))
    floor = operations(ir.load(models.rewritten("unit")), FRAMES) / peak
    note = f"{floor:.2f} s at {peak / 1e9:.0f} GFLOP/s"
    table.add(Row("the same against the direct-convolution floor", pace.after / floor, 0.70, True, note))


@pytest.mark.parametrize(("weights", "goal"), [("unit", 70), ("init", 80)])
def test_exactness(models, table, weights, goal):
    feeds = models.codes(FRAMES)
    expected, got = (
        run(open_session(graph), feeds)["waveform"] for graph in (models.exported(weights), models.prepared(weights))
    )
    table.add(Row(f"FP32 prepared: dB against the original, {weights} weights", snr_db(expected, got), goal, False))


@pytest.mark.parametrize(("frames", "goal"), [(4, 0.80), (1, 1.0)])
def test_steps(models, table, frames, goal):
    direct, tiled = models.direct("unit", streaming=True), models.prepared("unit", streaming=True)
    pace = race(direct, tiled, {**zeros(direct), **models.codes(frames)})
    note = f"{1e3 * pace.before:.1f} -> {1e3 * pace.after:.1f} ms"
    table.add(Row(f"step of {frames} against the same without tiles", pace.ratio, goal, True, note))
    first = models.rewritten("unit", streaming=True)
    pace = race(first, tiled, {**zeros(first), **models.codes(frames)})
    note = f"{1e3 * pace.before:.1f} -> {1e3 * pace.after:.1f} ms"
    table.add(Row(f"step of {frames} against channels first", pace.ratio, goal, True, note))


def test_nothing_is_left_between_the_layers(models, table):
    nodes = list(ir.load(models.prepared("unit")).graph)
    first = next(index for index, node in enumerate(nodes) if node.op_type == "LayerNormalization")
    kinds = Counter(node.op_type for node in nodes[first:])
    left = sum(kinds[kind] for kind in ("Snake", "AddSnake", "ShuffleSnake"))
    note = f"{kinds['Add']} sums, one in each GELU"
    table.add(Row("activations as nodes of their own in the decoder", left, 0, True, note))


@pytest.mark.parametrize(
    ("other", "engine", "name"),
    [
        ("direct", "omni", "the same without tiles"),
        ("rewritten", "omni", "channels first"),
        ("exported", "ort", "ORT default FP32"),
    ],
)
def test_memory(models, table, other, engine, name):
    peaks = [peak_memory(engine, getattr(models, other)("unit")), peak_memory("omni", models.prepared("unit"))]
    note = f"{peaks[0] / 1e6:.0f} -> {peaks[1] / 1e6:.0f} MB"
    table.add(Row(f"peak of memory at {FRAMES} frames against {name}", peaks[1] / peaks[0], 1.0, True, note))


def peak_memory(engine: str, graph: Path) -> int:
    path = graph if engine == "ort" else graph.parent
    job = {"engine": engine, "path": str(path), "frames": FRAMES, "runs": 2, "cache_dir": None}
    done = subprocess.run([sys.executable, PROBE, json.dumps(job)], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)["peak"]


@pytest.mark.parametrize("family", ["dac", "bigvgan"])
def test_other_vocoders(models, table, family, tmp_path):
    source = models.vocoder(family)
    prepare(source, tmp_path / "out", step_frames=(64,))
    signal = np.random.default_rng(0).standard_normal((1, 8, 64)).astype(np.float32)
    pace = race(source, tmp_path / "out" / "model.onnx", {"x": signal})
    note = f"{pace.before:.2f} -> {pace.after:.2f} s"
    table.add(Row(f"{family}-shaped vocoder against ORT default FP32", pace.ratio, 0.75, True, note))
