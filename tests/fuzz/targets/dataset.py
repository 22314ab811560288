"""Evaluation manifests, a JSON object a line."""

from __future__ import annotations

from omni_sdk.tools.evaluate import dataset
from targets import as_file


def read(data: bytes) -> None:
    dataset.read_dataset(as_file(data, "set.jsonl"))
