"""Differences as they count."""

from __future__ import annotations

import numpy as np
import pytest

from omni_sdk.tools.prepare.differences import relative_difference

ONE = np.array([1.0, -4.0], np.float32)


@pytest.mark.parametrize(
    ("expected", "got", "difference"),
    [
        (ONE, ONE, 0.0),
        (ONE, np.array([1.0, -3.0], np.float32), 0.25),
        (ONE, np.array([1.0, np.nan], np.float32), np.inf),
        (ONE, np.array([[1.0, -4.0]], np.float32), np.inf),
        (ONE, ONE.astype(np.float64), np.inf),
        (ONE, None, np.inf),
        (ONE * 0, ONE * 0, 0.0),
        (ONE * 0, ONE, np.inf),
        (np.array([3, 4]), np.array([3, 4]), 0.0),
        (np.array([3, 4]), np.array([3, 5]), np.inf),
        (np.array([np.nan, 2.0]), np.array([np.nan, 2.0]), 0.0),
        (np.array([np.inf, 2.0]), np.array([-np.inf, 2.0]), np.inf),
    ],
)
def test_relative_difference(expected, got, difference):
    assert relative_difference(expected, got) == pytest.approx(difference)
