"""A running sum, and what is heard from a stream of it."""

from __future__ import annotations

import numpy as np

# A running sum, so that each step depends on all before it; `i` picks, and an index beyond the end fails the run.
SUMS = """g (float[B, 4] x, int64[1] i, float[B, 4] "past.h") => (float[B, 1] y, float[B, 4] "present.h") {
    "present.h" = Add (x, "past.h")
    y = Gather <axis = 1> ("present.h", i)
}"""
FIRST = np.zeros(1, np.int64)


def ones(value=1.0, batch=1):
    return np.full((batch, 4), value, np.float32)


def heard(stream, values):
    return [float(stream.step(x=ones(value), i=FIRST)["y"][0, 0]) for value in values]
