"""How deep JSON is nested, known before it is parsed: the parser takes a stack frame for each level."""

from __future__ import annotations

import numpy as np

from omni_sdk.tools.scale.problems import Problem

MAX_DEPTH = 64
"""A tensor of the highest rank stands in 36: the request, its inputs, one of them, its data."""
PIECE = 1 << 20
_QUOTE = ord('"')
_STEPS = np.zeros(256, np.int8)
_STEPS[list(b"[{")] = 1
_STEPS[list(b"]}")] = -1


def check_depth(text: bytes | memoryview) -> None:
    """Refuse what is nested deeper than any request. Of what is no JSON, the part before the first fault is right.

    Parameters
    ----------
    text : bytes
        JSON in UTF-8.

    Raises
    ------
    Problem
        When it has more than `MAX_DEPTH` levels.
    """
    plain = bytes(text)
    if b"\\" in plain:  # outside of strings it is a fault; inside, what it escapes may be a quote
        plain = plain.replace(b"\\\\", b"").replace(b'\\"', b"")
    depth, is_quoted = 0, False
    for begin in range(0, len(plain), PIECE):
        characters = np.frombuffer(plain, np.uint8, min(PIECE, len(plain) - begin), begin)
        quoted = np.logical_xor.accumulate(characters == _QUOTE) ^ is_quoted
        levels = np.cumsum(np.where(quoted, 0, _STEPS[characters]), dtype=np.int64) + depth
        if levels.max() > MAX_DEPTH:
            raise Problem(f"Expected JSON of at most {MAX_DEPTH} levels, got more - at the request's body")
        depth, is_quoted = int(levels[-1]), bool(quoted[-1])
