"""Calibration inputs in `.npz` files."""

from __future__ import annotations

import numpy as np

from omni_sdk.tools.prepare.calibration import read_calibration
from omni_sdk.tools.prepare.feeds import InputSpec
from targets import as_file

SPECS = [InputSpec("x", np.dtype(np.float32), (1, "n"), 0)]


def read(data: bytes) -> None:
    as_file(data, "samples/one.npz")
    read_calibration(as_file(data, "samples/other.npz").parent, SPECS)
