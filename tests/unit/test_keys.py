"""Keys tell inputs apart by dtype, shape and every byte."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from omni_sdk._keys import content_key, same_bytes

NUMBERS = st.one_of(hnp.integer_dtypes(endianness="="), hnp.floating_dtypes(endianness="="), hnp.boolean_dtypes())
ARRAYS = hnp.arrays(NUMBERS, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5))


def key(context=b"", **feeds):
    return content_key(feeds, tuple(feeds), context)


@given(ARRAYS, ARRAYS)
def test_keys_are_equal_exactly_when_the_bytes_are(one, other):
    equal = one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    assert (key(x=one) == key(x=other)) == equal
    assert same_bytes((one,), {"x": other}, ("x",)) == equal
    assert key(x=one) == key(x=one.copy())
    assert len(key(x=one)) == 16


@given(ARRAYS, st.data())
def test_any_flipped_bit_changes_the_key(array, data):
    raw = bytearray(array.tobytes())
    if raw:
        bit = data.draw(st.integers(0, len(raw) * 8 - 1))
        raw[bit // 8] ^= 1 << bit % 8
        other = np.frombuffer(bytes(raw), array.dtype).reshape(array.shape)
        assert key(x=array) != key(x=other)
        assert not same_bytes((array,), {"x": other}, ("x",))


def test_the_context_and_the_order_of_inputs_count():
    a, b = np.ones(3, np.float32), np.zeros(3, np.float32)
    assert key(b"one", x=a) != key(b"two", x=a)
    assert key(x=a, y=b) != key(x=b, y=a)
    assert key(x=np.ones(2, np.int8), y=np.ones(3, np.int8)) != key(x=np.ones(3, np.int8), y=np.ones(2, np.int8))


def test_bits_count_not_values():
    assert key(x=np.float32(0.0).reshape(1)) != key(x=np.float32(-0.0).reshape(1))
    nan = np.full(3, np.nan, np.float32)
    assert key(x=nan) == key(x=nan.copy())


@pytest.mark.parametrize(
    "value", [np.ones(8)[::2], np.ones(3, ">f4"), np.array(["a"]), np.array([None]), [1.0], None, np.ones(2, "M8[s]")]
)
def test_what_has_no_key(value):
    assert key(x=value) is None
    assert not same_bytes((np.ones(3),), {"x": value}, ("x",))


def test_names_must_fit():
    assert content_key({"x": np.ones(1)}, ("y",), b"") is None
    assert content_key({"x": np.ones(1), "y": np.ones(1)}, ("x",), b"") is None
    assert content_key([], (), b"") is None


def test_bytes_beyond_what_is_compared_under_the_lock():
    array = np.zeros(100_000, np.uint8)
    other = array.copy()
    assert same_bytes((array,), {"x": other}, ("x",))
    other[-1] = 1
    assert not same_bytes((array,), {"x": other}, ("x",))
