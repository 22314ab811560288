"""Depth of JSON: what is too deep is known without parsing it, and brackets in strings are none."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni_sdk.tools.scale import depth
from omni_sdk.tools.scale.depth import MAX_DEPTH, check_depth
from omni_sdk.tools.scale.problems import Problem

VALUES = st.recursive(
    st.none() | st.text(st.sampled_from('[]{}"\\\\nä,'), max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.sampled_from('[{"\\\\'), max_size=3), inner),
)


def deepest(value: object) -> int:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if parts is None else 1 + max(map(deepest, parts), default=0)


def is_refused(text: bytes) -> bool:
    try:
        check_depth(text)
    except Problem:
        return True
    return False


@given(VALUES, st.integers(0, 6), st.sampled_from([3, 16, 1 << 20]), st.booleans())
def test_levels_are_counted_as_the_parser_makes_them(value, most, piece, ascii_only):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(depth, "MAX_DEPTH", most)
        patch.setattr(depth, "PIECE", piece)
        assert is_refused(json.dumps(value, ensure_ascii=ascii_only).encode()) == (deepest(value) > most)


@pytest.mark.parametrize("text", [b"", b"1", b"[" * MAX_DEPTH, b'"' + b"[" * 1000 + b'"', b'"\\\\"', b"]" * 1000])
def test_what_is_shallow_passes(text):
    check_depth(text)


@pytest.mark.parametrize(
    "text", [b"[" * (MAX_DEPTH + 1), b'{"a":' * 100_000, b'["]]]]\\\\",' + b"[" * 65, b'["\\\\\\"",' + b"[" * 65]
)
def test_what_is_too_deep_is_refused(text):
    with pytest.raises(
        Problem, match=rf"^Expected JSON of at most {MAX_DEPTH} levels, got more - at the request's body"
    ):
        check_depth(text)
