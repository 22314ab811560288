"""Pipelines in TOML, whose latency is measured."""

from __future__ import annotations

from omni_sdk.tools.evaluate.latency import config
from targets import as_file


def read(data: bytes) -> None:
    config.read_pipeline(as_file(data, "pipeline.toml"))
