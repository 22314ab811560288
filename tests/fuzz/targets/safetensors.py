"""Checkpoints: the header, and the tensors that it tells of."""

from __future__ import annotations

from omni_sdk.tools.export import safetensors
from targets import as_file


def read(data: bytes) -> None:
    path = as_file(data, "model.safetensors")
    for name, entry in safetensors.entries(path).items():
        safetensors.read(path, name, entry)
