"""Prepared models against what users run without us: one table, measured in one run.

    python -m pytest bench/test_prepare.py -s

Models are built once in `OMNI_SDK_BENCH_CACHE` (else the user's cache), which takes minutes and 6 GB. The table is
written there as `prepare.json` and `prepare.md`. `OMNI_SDK_BENCH_SMALL=1` tries the suite out on small models,
`OMNI_SDK_BENCH_FRAMES` sets the length (128). Goals are shown, not asserted: they are set for a CPU with VNNI.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import onnx_ir as ir
import pytest

sys.path.insert(0, str(Path(__file__).parent))

import peers
from models import Models, cache_folder, size_on_disk, zeros
from peaks import byte_peak, float_peak, operations
from table import Row, Table, describe_machine

from omni_sdk.session import open_session as runtime_session
from omni_sdk.settings import Settings
from omni_sdk.source import Source
from omni_sdk.tools.metrics import snr_db
from omni_sdk.tools.prepare.sessions import has_operators, open_session, run
from omni_sdk.tools.prepare.timing import race, seconds_of

pytestmark = pytest.mark.skipif(not has_operators(), reason="the operators' library is not built")

FRAMES = int(os.environ.get("OMNI_SDK_BENCH_FRAMES", "128"))
STEP = 4
DECIBELS = 101  # asked of tiles on prepare's own trials, so that 100 are left on longer inputs


@pytest.fixture(scope="module")
def models() -> Models:
    return Models(cache_folder(), full=os.environ.get("OMNI_SDK_BENCH_SMALL", "0") in ("", "0"))


@pytest.fixture(scope="module")
def table(models):
    made = Table(models.folder, describe_machine())
    yield made
    print("\n" + made.markdown())


@pytest.fixture(scope="module")
def expected(models):
    """The original's waveform, for each set of weights."""
    feeds = models.codes(FRAMES)
    return {weights: run(open_session(models.exported(weights)), feeds)["waveform"] for weights in ("unit", "init")}


def quality(graph, feeds, reference) -> float:
    return snr_db(reference, run(open_session(graph), feeds)["waveform"])


def test_rewritten(models, table, expected):
    pace = race(models.exported("unit"), models.rewritten("unit"), models.codes(FRAMES))
    decibels = quality(models.rewritten("unit"), models.codes(FRAMES), expected["unit"])
    note = f"{pace.before:.2f} -> {pace.after:.2f} s, {decibels:.0f} dB"
    table.add(Row("FP32 rewritten alone, channels first, against ORT default FP32", pace.ratio, 1.0, True, note))


def test_float(models, table, expected):
    feeds, graph = models.codes(FRAMES), models.prepared("unit", min_snr_db=DECIBELS)
    pace = race(models.exported("unit"), graph, feeds)
    decibels = quality(graph, feeds, expected["unit"])
    note = f"{pace.before:.2f} -> {pace.after:.2f} s"
    table.add(Row(f"FP32 prepared within {DECIBELS} dB against ORT default FP32", pace.ratio, 0.65, True, note))
    table.add(Row("the same: dB against the original", decibels, 100, False))
    peak = float_peak()
    reached = operations(ir.load(models.rewritten("unit")), FRAMES) / pace.after
    note = f"{reached / 1e9:.0f} of {peak / 1e9:.0f} GFLOP/s, products of direct convolution counted"
    table.add(Row("the same: share of the convolution and GEMM peak", reached / peak, 0.93, False, note))


def test_bytes_everywhere(models, table, expected):
    feeds, graph = models.codes(FRAMES), models.quantized("unit", "all")
    pace = race(models.exported("unit"), graph, feeds)
    note = f"{pace.after:.2f} s, {quality(graph, feeds, expected['unit']):.1f} dB on unit-scale weights"
    table.add(Row("INT8 all layers against ORT default FP32", pace.ratio, 0.18, True, note))
    peak, reached = byte_peak(), operations(ir.load(models.rewritten("unit")), FRAMES) / pace.after
    note = f"{reached / 1e9:.0f} of {peak / 1e9:.0f} GOP/s"
    table.add(Row("INT8 all layers: share of the QLinearConv peak", reached / peak, 0.88, False, note))


def test_bytes_against_ultra(models, table):
    feeds, plain = models.codes(FRAMES), models.plain_int8("unit")
    ultra = Settings.preset("ultra")
    seconds: dict[str, list[float]] = {"ultra": [], "ours": []}
    for name in ("ultra", "ours", "ours", "ultra"):
        graph = plain if name == "ultra" else models.quantized("unit", "all")
        session = runtime_session(Source(graph), ultra) if name == "ultra" else open_session(graph)
        seconds[name] += seconds_of(session, feeds)
        del session
    ratio = min(seconds["ours"]) / min(seconds["ultra"])
    note = f"plain {min(seconds['ultra']):.2f} s"
    table.add(Row("INT8 all layers against ULTRA settings on a plain QDQ INT8 export", ratio, 0.28, True, note))


def test_bytes_but_in_the_transformer(models, table, expected):
    feeds, graph = models.codes(FRAMES), models.quantized("unit", "decoder")
    pace = race(models.exported("unit"), graph, feeds)
    note = f"{quality(graph, feeds, expected['unit']):.1f} dB"
    table.add(Row("INT8 with the transformer FP32 against ORT default FP32", pace.ratio, 0.20, True, note))


def test_thirty_decibels(models, table, expected):
    feeds, graph = models.codes(FRAMES), models.gated("init", 30.0)
    pace = race(models.exported("init"), graph, feeds)
    note = f"{quality(graph, feeds, expected['init']):.1f} dB at {FRAMES} frames; judged on shorter samples"
    table.add(Row("30 dB on the library-default random weights", pace.ratio, 0.45, True, note))


def test_size(models, table):
    ratio = size_on_disk(models.quantized("unit", "all")) / size_on_disk(models.exported("unit"))
    table.add(Row("INT8 model size against FP32", ratio, 0.28, True))


def test_step(models, table):
    prepared, quantized = (
        models.prepared("unit", streaming=True),
        models.quantized("unit", "all", streaming=True),
    )
    pace = race(prepared, quantized, {**zeros(prepared), **models.codes(STEP)})
    note = f"{1e3 * pace.before:.0f} -> {1e3 * pace.after:.0f} ms"
    table.add(Row(f"step of {STEP} frames, INT8 against FP32 prepared", pace.ratio, 0.40, True, note))


ENGINES = ("openvino", "torch")


@pytest.mark.filterwarnings("ignore")  # the engines warn of their own deprecations
@pytest.mark.parametrize("engine", ENGINES)
def test_peers(models, table, expected, engine):
    needed = (engine,) if engine == "openvino" else (engine, "transformers")
    if not all(importlib.util.find_spec(name) for name in needed):
        pytest.skip(f"{engine} is not installed")
    feeds, reference = models.codes(FRAMES), expected["unit"]
    if engine == "openvino":
        results = list(
            peers.openvino({"FP32": models.exported("unit"), "INT8": models.plain_int8("unit")}, feeds, reference)
        )
    else:
        results = list(peers.pytorch(models.checkpoint("unit"), feeds, reference))
    ours = {
        "FP32": models.prepared("unit"),
        f"FP32 within {DECIBELS} dB": models.prepared("unit", min_snr_db=DECIBELS),
        "FP32 without tiles": models.direct("unit"),
        "INT8": models.quantized("unit", "all"),
    }
    pace = {name: min(seconds_of(open_session(graph), feeds)) for name, graph in ours.items()}
    decibels = {name: quality(graph, feeds, reference) for name, graph in ours.items()}
    for peer in results:
        rivals = [name for name in ours if decibels[name] >= peer.snr_db - 0.5]
        name = min(rivals, key=pace.__getitem__, default=max(ours, key=decibels.__getitem__))
        note = (
            f"{peer.seconds:.2f} s at {peer.snr_db:.0f} dB; ours {name} {pace[name]:.2f} s at {decibels[name]:.0f} dB"
        )
        table.add(Row(f"ours against {peer.name}", pace[name] / peer.seconds, 1.0, True, note))
