"""Codes to be heard, as `.npy` or `.npz`."""

from __future__ import annotations

import io

from omni_sdk.tools.synth import read_codes


def read(data: bytes) -> None:
    read_codes(io.BytesIO(data))
