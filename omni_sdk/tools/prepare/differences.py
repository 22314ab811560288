"""How far an array is from what was expected."""

from __future__ import annotations

import numpy as np

TOLERANCE = 1e-4
"""Largest difference of an output, as a fraction of its largest magnitude, that FP32 rewrites may make."""


def relative_difference(expected: np.ndarray, got: np.ndarray | None) -> float:
    """Largest absolute difference over the largest magnitude expected; exact equality is asked of what is no float."""
    if got is None or got.shape != expected.shape or got.dtype != expected.dtype:
        return float("inf")
    if expected.dtype.kind != "f":
        return 0.0 if np.array_equal(expected, got) else float("inf")
    known = np.isfinite(expected)
    if not np.array_equal(known, np.isfinite(got)) or not np.array_equal(expected[~known], got[~known], equal_nan=True):
        return float("inf")
    if not known.any():
        return 0.0
    reference, candidate = expected[known].astype(np.float64), got[known].astype(np.float64)
    scale = float(np.abs(reference).max())
    difference = float(np.abs(reference - candidate).max())
    return difference / scale if scale > 0 else (0.0 if difference == 0 else float("inf"))
