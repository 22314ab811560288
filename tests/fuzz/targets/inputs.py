"""Inputs for measuring, in `.npz` files."""

from __future__ import annotations

from omni_sdk.tools.archives import read_npz
from targets import as_file


def read(data: bytes) -> None:
    read_npz(as_file(data, "inputs.npz"))
