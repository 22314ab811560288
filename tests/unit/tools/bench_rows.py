"""Rows of a benchmark with figures that a test chooses, without measuring anything."""

from __future__ import annotations

from collections.abc import Sequence

from omni_sdk import Settings
from omni_sdk.tools.measure.contenders import Contender
from omni_sdk.tools.measure.results import Benchmark, Row, Run, machine


def run(latency: float = 0.010, *, load: float = 0.1, warmup: float = 0.02, peak: int = 100 << 20) -> Run:
    """One process's figures."""
    return Run(
        import_seconds=0.5,
        load_seconds=load,
        warmup_seconds=(warmup / 2, warmup / 2),
        first_seconds=latency * 1.2,
        latencies=(latency * 0.99, latency, latency * 1.01),
        cpu_seconds=latency * 2,
        paced_cpu_seconds=latency * 3,
        minor_faults=1.5,
        major_faults=0.0,
        peak_bytes=peak,
        audio_seconds=0.08,
        hit_seconds=(1e-5, 2e-5),
        hit_rate=1.0,
        memory=((0.0, 10 << 20), (0.5, 60 << 20), (0.9, peak)),
        phases=(("load", 0.5), ("warmup", 0.6)),
    )


def row(name: str, latencies: Sequence[float], settings: Settings | None = None, **figures: float) -> Row:
    """A row with one run for each latency."""
    contender = Contender(name, "settings", "model.onnx", settings or Settings())
    return Row(
        contender, runs={index: run(each, **figures) for index, each in enumerate(latencies)}, snr_db=float("inf")
    )


def benchmark(*rows: Row, ablation: tuple[str, str] | None = None) -> Benchmark:
    """A benchmark of these rows on this machine."""
    return Benchmark("model.onnx", machine(), {"x": [1, 4]}, list(rows), "omni-sdk bench", "2030-01-01", ablation)
