"""Benchmarks kept as JSON."""

from __future__ import annotations

from omni_sdk.tools import report
from targets import as_file


def read(data: bytes) -> None:
    report.load(as_file(data, "benchmark.json"))
