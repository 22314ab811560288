"""Tensors on the wire: what comes back is what went in, and what is malformed is a `Problem`."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from omni_sdk.tools.scale.datatypes import FIXED
from omni_sdk.tools.scale.problems import Problem
from omni_sdk.tools.scale.tensors import PART, from_binary, from_json, read_shape, to_binary, to_json

SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
NUMBERS = sorted(set(FIXED) - {"BF16"})


def as_json(array: np.ndarray, datatype: str) -> list[object]:
    return json.loads(b"".join(to_json(array, datatype, "x")))


def arrays(datatype: str) -> st.SearchStrategy[np.ndarray]:
    finite = {"allow_nan": False, "allow_infinity": False} if datatype.startswith("FP") else {}
    return hnp.arrays(FIXED[datatype], SHAPES, elements=hnp.from_dtype(FIXED[datatype], **finite))


@given(st.sampled_from(sorted(FIXED)).flatmap(lambda name: st.tuples(st.just(name), arrays(name))))
def test_binary_goes_round(case):
    datatype, array = case
    block = bytes(to_binary(array, datatype))
    back = from_binary(memoryview(block), datatype, array.shape, "x")
    assert back.shape == array.shape
    assert back.tobytes() == array.tobytes()


@given(st.sampled_from(NUMBERS).flatmap(lambda name: st.tuples(st.just(name), arrays(name))))
def test_json_goes_round_flat_and_nested(case):
    datatype, array = case
    flat = from_json(as_json(array, datatype), datatype, array.shape, "x")
    np.testing.assert_array_equal(flat, array)
    if array.ndim:
        np.testing.assert_array_equal(from_json(array.tolist(), datatype, array.shape, "x"), array)


@pytest.mark.parametrize("count", [PART - 1, PART, PART + 1, 3 * PART])
def test_values_are_turned_part_by_part(count):
    array = np.arange(count, dtype=np.uint64) + np.uint64(2**63)
    np.testing.assert_array_equal(from_json(as_json(array, "UINT64"), "UINT64", (count,), "x"), array)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=5))
def test_strings_go_round(texts):
    array = np.array([*texts, None], object)[:-1]
    for back in (
        from_binary(memoryview(bytes(to_binary(array, "BYTES"))), "BYTES", array.shape, "x"),
        from_json(as_json(array, "BYTES"), "BYTES", array.shape, "x"),
    ):
        assert back.tolist() == texts


def test_a_binary_block_is_not_copied():
    body = np.arange(6, dtype="<f4").tobytes()
    array = from_binary(memoryview(body), "FP32", (2, 3), "x")
    assert np.shares_memory(array, np.frombuffer(body, np.uint8))


@pytest.mark.parametrize(
    ("data", "datatype", "shape"),
    [
        ("text", "INT64", (1,)),
        (None, "INT64", (1,)),
        ([1, 2], "INT64", (3,)),
        ([[1], [2, 3]], "INT64", (2, 2)),
        ([[1, 2], 3], "INT64", (2, 2)),
        ([1, [2, 3]], "INT64", (2, 2)),
        ([[[1, 2]]], "INT64", (1, 2)),
        ([[1]], "INT64", ()),
        ([True], "INT64", (1,)),
        ([1.0], "INT64", (1,)),
        ([1], "BOOL", (1,)),
        (["1"], "FP32", (1,)),
        ([{}], "FP32", (1,)),
        ([None], "FP32", (1,)),
        ([256], "UINT8", (1,)),
        ([-1], "UINT8", (1,)),
        ([-1], "UINT64", (1,)),
        ([2**64], "UINT64", (1,)),
        ([*[0] * PART, -1], "UINT64", (PART + 1,)),
        ([2**63], "INT64", (1,)),
        ([10**400], "FP64", (1,)),
        (json.loads("[1e999]"), "FP64", (1,)),
        (json.loads("[-1e999]"), "FP32", (1,)),
        ([1e39], "FP32", (1,)),
        ([70_000], "FP16", (1,)),
        ([1], "BF16", (1,)),
        ([1], "BYTES", (1,)),
        (["\ud800"], "BYTES", (1,)),
        ([], "FP32", (0, 2**62, 2**62)),
    ],
)
def test_wrong_json_is_refused(data, datatype, shape):
    with pytest.raises(Problem, match=r"^Expected .*, got .* - at x"):
        from_json(data, datatype, shape, "x")


@pytest.mark.parametrize(
    ("block", "datatype", "shape"),
    [
        (bytes(7), "INT64", (1,)),
        (bytes(9), "INT64", (1,)),
        (bytes(8), "INT64", (2**40, 2**40)),
        (b"", "FP32", (0, 2**62, 2**62)),
        (b"\x02", "BOOL", (1,)),
        (b"\x01", "BYTES", (1,)),
        (struct.pack("<I", 9) + b"short", "BYTES", (1,)),
        (struct.pack("<I", 1) + b"ab", "BYTES", (1,)),
        (struct.pack("<I", 1) + b"\xff", "BYTES", (1,)),
        (b"", "BYTES", (2**60,)),
        (struct.pack("<I", 3) + b"abc" + b"abc", "BYTES", (2,)),
    ],
)
def test_wrong_blocks_are_refused(block, datatype, shape):
    with pytest.raises(Problem, match=r"^Expected .*, got .* - at x"):
        from_binary(memoryview(block), datatype, shape, "x")


@pytest.mark.parametrize("shape", [None, 3, "3", [1.0], [True], [-1], [2**63], [[1]], [1] * 33])
def test_wrong_shapes_are_refused(shape):
    with pytest.raises(Problem, match=r"at x\.shape$"):
        read_shape(shape, "x")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_json_has_no_such_numbers(value):
    with pytest.raises(Problem, match="binary_data"):
        to_json(np.array([value], np.float32), "FP32", "x")
    assert np.frombuffer(to_binary(np.array([value], np.float32), "FP32"), "<f4").tobytes()
