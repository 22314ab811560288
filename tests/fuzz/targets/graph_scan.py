"""The reader of ONNX files that looks for operators and external data."""

from __future__ import annotations

from omni_sdk.graph_scan import scan


def read(data: bytes) -> None:
    scan(data)
