"""Cold start and memory, measured side by side in processes of their own: `pytest bench/test_memory.py -s`.

Models (full-size reference Code2Wav, FP32 and INT8) are built once below `OMNI_BENCH_MODELS`, default `.cache/bench`.
Pairs are interleaved and medians taken; the table stands on standard output and in `memory.json` beside the models.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent
MODELS = Path(os.environ.get("OMNI_BENCH_MODELS", HERE.parent / ".cache" / "bench")).resolve()
FRAMES = int(os.environ.get("OMNI_BENCH_FRAMES", "128"))
LONG_FRAMES = int(os.environ.get("OMNI_BENCH_LONG_FRAMES", "2000"))
ROUNDS = int(os.environ.get("OMNI_BENCH_ROUNDS", "3"))
STEP_FRAMES = 4
TABLE: dict[str, tuple[str, str]] = {}


@pytest.fixture(scope="module", autouse=True)
def table():
    yield
    print()
    for figure, (goal, found) in TABLE.items():
        print(f"| {figure} | {goal} | {found} |")
    (MODELS / "memory.json").write_text(json.dumps(TABLE, indent=1))


@pytest.fixture(scope="module")
def models():
    """Exports of one checkpoint: `plain` without state, `streaming`, both prepared, and `int8` as plain static QDQ."""
    MODELS.mkdir(parents=True, exist_ok=True)
    names = ("plain", "streaming", "prepared-plain", "prepared-streaming")
    paths = {"int8": MODELS / "int8.onnx"} | {name: MODELS / name for name in names}
    checkpoint = MODELS / "checkpoint"
    for name in ("plain", "streaming"):
        if not paths[name].exists():
            export = pytest.importorskip("omni_sdk.tools.export", reason="needs the extra 'export'")
            export.reference_checkpoint(checkpoint, full=True, seed=1)
            export.code2wav(checkpoint, paths[name], streaming=name == "streaming")
    for name in ("plain", "streaming"):
        if not paths[f"prepared-{name}"].exists():
            tools = pytest.importorskip("omni_sdk.tools.prepare", reason="needs the extra 'prepare'")
            tools.prepare(paths[name], paths[f"prepared-{name}"])
    if not paths["int8"].exists():
        quantize(paths["plain"] / "model.onnx", paths["int8"])
    return paths


def quantize(source, target):
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    class One(CalibrationDataReader):
        left = 1

        def get_next(self):
            self.left -= 1
            codes = np.random.default_rng(0).integers(0, 2048, (1, 16, 12))
            return {"audio_codes": codes} if self.left >= 0 else None

    quantize_static(
        source, target, One(), quant_format=QuantFormat.QDQ, per_channel=True, op_types_to_quantize=["Conv", "MatMul"]
    )


def command(engine, path, frames=FRAMES, runs=3, **more):
    graph = path / "model.onnx" if engine == "ort" and path.is_dir() else path
    job = {"engine": engine, "path": str(graph), "frames": frames, "runs": runs, "cache_dir": str(MODELS / "cache")}
    return [sys.executable, str(HERE / "memory_probe.py"), json.dumps(job | more)]


def probe(*given, **more):
    done = subprocess.run(command(*given, **more), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def median(values):
    return statistics.median(values)


@pytest.mark.parametrize(
    ("name", "settings", "goal"),
    [("int8", {}, 0.2), ("prepared-plain", {}, 0.15), ("plain", {"prepacking": False}, 0.15), ("plain", {}, 0.15)],
    ids=["int8", "fp32-prepared", "fp32-mapped", "fp32-prepacked"],
)
def test_second_load(models, request, name, settings, goal):
    title = request.node.callspec.id
    path = models[name]
    probe("omni", path, runs=0, settings=settings)
    ours, theirs = [], []
    for _ in range(ROUNDS):
        theirs.append(probe("ort", models[name.removeprefix("prepared-")], warmup=2))
        ours.append(probe("omni", path, warmup=None, settings=settings))
    load = [median(found["load"] for found in side) for side in (ours, theirs)]
    resident = [int(median(found["resident"] for found in side)) for side in (ours, theirs)]
    steady = median(min(own["runs"]) / min(other["runs"]) for own, other in zip(ours, theirs, strict=True))
    TABLE[f"second load, {title}"] = (f"{goal} x", f"{load[0] / load[1]:.2f} x ({load[0]:.2f} of {load[1]:.2f} s)")
    TABLE[f"resident after it, {title}"] = (
        "0.35 x",
        f"{resident[0] / resident[1]:.2f} x ({resident[0] >> 20} of {resident[1] >> 20} MiB)",
    )
    TABLE[f"steady latency at {FRAMES} frames, {title}"] = ("1.03 x", f"{steady:.2f} x")
    first = median(found["runs"][0] / median(found["runs"]) for found in ours)
    TABLE[f"first inference after warmup(), {title}"] = ("1.05 x the p50", f"{first:.2f} x")


@pytest.mark.parametrize(
    ("name", "settings"), [("int8", {}), ("prepared-plain", {}), ("plain", {}), ("plain", {"prepacking": False})]
)
def test_processes_share_weights(models, name, settings):
    def together(count):
        jobs = [command("omni", models[name], STEP_FRAMES, 10, settings=settings, hold=True) for _ in range(count)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        running = [subprocess.Popen(job, **pipes) for job in jobs]
        assert all(process.stdout.readline() == "ready\n" for process in running)
        found = []
        for process in running:
            process.stdin.write("\n")
            process.stdin.flush()
            found.append(json.loads(process.stdout.readline())["proportional"])
        for process in running:
            process.communicate("\n")
        return sum(found)

    probe("omni", models[name], runs=0, settings=settings)
    one, four = together(1), together(4)
    title = f"{name}{', prepacking off' if settings else ''}"
    found = f"{four / one:.2f} x ({four >> 20} of {one >> 20} MiB)"
    TABLE[f"PSS of four processes, {title}, {STEP_FRAMES} frames"] = ("1.6 x", found)


@pytest.mark.parametrize("name", ["streaming", "prepared-streaming"])
def test_long_input(models, name, tmp_path):
    saved = [str(tmp_path / name) for name in ("ours.npy", "theirs.npy")]
    probe("omni", models[name], runs=0)
    settings = {"max_chunk": 16}
    ours = probe("omni", models[name], LONG_FRAMES, 1, settings=settings, save=saved[0])
    theirs = probe("ort", models["streaming"], LONG_FRAMES, 1, save=saved[1])
    waves = [np.load(name) for name in saved]
    assert waves[0].shape == waves[1].shape
    error = float(np.abs(waves[0] - waves[1]).max())
    TABLE[f"{LONG_FRAMES} frames, peak memory, {name}"] = (
        "0.15 x",
        f"{ours['peak'] / theirs['peak']:.2f} x ({ours['peak'] >> 20} of {theirs['peak'] >> 20} MiB),"
        f" largest difference {error:.1e}, time {ours['runs'][0] / theirs['runs'][0]:.2f} x",
    )


@pytest.mark.parametrize("name", ["int8", "plain"])
@pytest.mark.parametrize("frames", [STEP_FRAMES, 25])
def test_memory_pattern(models, name, frames):
    found = {
        pattern: probe("omni", models[name], frames, 6, settings={"enable_mem_pattern": pattern})
        for pattern in (True, False)
    }
    shown = "; ".join(
        f"{'on' if pattern else 'off'} {found[pattern]['peak'] >> 20} MiB, passes "
        + " ".join(f"{seconds:.2f}" for seconds in found[pattern]["runs"])
        for pattern in (True, False)
    )
    TABLE[f"memory pattern, {name}, {frames} frames"] = ("", shown)
