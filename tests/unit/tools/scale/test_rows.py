"""Rows into runs and back: nothing padded, nothing lost, and stacked only where that is sure to be right."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni_sdk.errors import InputError
from omni_sdk.specs import TensorSpec
from omni_sdk.tools.scale.rows import buckets, column, constants, feeds_of, has_rows, is_stackable, kept


def spec(name: str, *shape: int | str | None, kind: str = "float") -> TensorSpec:
    return TensorSpec.of(name, f"tensor({kind})", list(shape))


X, Y = spec("x", "batch", "time"), spec("y", "batch", "time")


@given(st.lists(st.integers(0, 4), max_size=12), st.integers(1, 5), st.booleans())
def test_every_row_runs_once_on_its_own_values(lengths, most, stackable):
    rows = {place: {"x": np.full(length, place, np.float32)} for place, length in enumerate(lengths)}
    seen = {}
    for bucket in buckets(rows, [X], stackable=stackable, most=most):
        assert len(bucket.rows) <= (most if stackable else 1)
        assert bucket.feeds["x"].shape == (len(bucket.rows), lengths[bucket.rows[0]])
        for row, part in zip(bucket.rows, bucket.apart(bucket.feeds["x"] * 2, "y", keep_first=False), strict=True):
            assert row not in seen
            seen[row] = part
    assert seen.keys() == rows.keys()
    for row, part in seen.items():
        np.testing.assert_array_equal(part, rows[row]["x"] * 2)


def test_a_column_that_would_be_replaced_is_refused():
    table = {"x": [1], "id": [2]}
    assert kept(table, ["x"], ["y", "error"]) == {"id": [2]}
    assert kept(table, ["x"], ["x", "error"]) == {"id": [2]}
    for name in ("y", "error"):
        with pytest.raises(InputError, match=f"other names than y, error, got {name} - at the batch"):
            kept({**table, name: [3]}, ["x"], ["y", "error"])


def test_a_row_may_bring_its_own_first_dimension():
    rows = {0: {"x": np.ones((1, 3), np.float32)}, 1: {"x": np.ones(3, np.float32)}}
    own, lone = buckets(rows, [X], stackable=True, most=8)
    assert (own.lead, own.feeds["x"].shape) == ("own", (1, 3))
    assert (lone.lead, lone.feeds["x"].shape) == ("stacked", (1, 3))
    for bucket in (own, lone):
        assert bucket.apart(np.zeros((1, 6)), "y", keep_first=False)[0].shape == (6,)
        assert bucket.apart(np.zeros((1, 6)), "y", keep_first=True)[0].shape == (1, 6)
    assert own.apart(np.array(3), "y", keep_first=False)[0].shape == ()
    with pytest.raises(InputError, match=r"^Expected one result for the row, got 2 - at output 'y'"):
        own.apart(np.zeros((2, 6)), "y", keep_first=False)


@pytest.mark.parametrize(
    ("inputs", "want"),
    [
        ([X], True),
        ([spec("x", 1, 16, "time"), spec("rate", 1)], True),
        ([spec("x", "samples")], False),
        ([spec("x", 8, 4)], False),
        ([spec("rate")], False),
    ],
)
def test_where_the_first_dimension_counts_rows(inputs, want):
    assert has_rows(inputs) == want


@pytest.mark.parametrize(
    ("inputs", "outputs", "want"),
    [
        ([X], [Y], True),
        ([X, spec("n", "batch")], [Y], True),
        ([spec("x", 1, "time")], [spec("y", 1, "time")], False),
        ([X], [spec("y", "other", "time")], False),
        ([X], [spec("y", None, "time")], False),
        ([X, spec("rate")], [Y], False),
        ([spec("x", "batch", "batch")], [Y], False),
    ],
)
def test_what_may_be_stacked(inputs, outputs, want):
    assert is_stackable(inputs, outputs) == want


@pytest.mark.parametrize("value", [[[1, 2], [3, 4]], np.array([[1, 2], [3, 4]], np.int32), "nested"])
def test_values_become_arrays(value):
    if isinstance(value, str):
        value = np.empty(2, object)
        value[:] = [np.array([1, 2]), np.array([3, 4])]
    feeds = feeds_of({"x": [value]}, 0, [spec("x", "a", "b", kind="int64")])
    assert feeds["x"].dtype == np.int64
    assert feeds["x"].tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("value", "kind"),
    [([[1, 2], [3]], "int64"), ([1.5], "int64"), ([1], "float"), (["a"], "float"), (None, "float"), ([300], "uint8")],
)
def test_wrong_values_are_refused(value, kind):
    with pytest.raises(InputError, match=r"^Expected .* - at input 'x'"):
        feeds_of({"x": [value]}, 0, [spec("x", "n", kind=kind)])


RATE, LEVEL, TEXT = spec("sr", kind="int64"), spec("level", 1, 1), spec("text", "n", kind="string")


def test_constants_are_arrays_of_their_inputs():
    made = constants({"sr": 16_000, "level": [[0.5]], "text": ["a"]}, [X, RATE, LEVEL, TEXT])
    assert [(name, array.dtype.kind, array.shape) for name, array in made.items()] == [
        ("sr", "i", ()),
        ("level", "f", (1, 1)),
        ("text", "U", (1,)),
    ]
    assert made["sr"] == 16_000


@pytest.mark.parametrize(
    ("wrong", "where"),
    [
        ({"sr": 16_000.5}, r"constants\['sr'\]"),
        ({"sr": 1 << 70}, r"constants\['sr'\]"),
        ({"level": [[1e300]]}, r"constants\['level'\]"),
        ({"level": [["loud"]]}, r"constants\['level'\]"),
        ({"level": [0.5]}, r"constants\['level'\]"),
        ({"rate": 1}, "constants"),
    ],
)
def test_constants_that_do_not_fit_are_refused(wrong, where):
    """None of them is cut to fit: a sample rate of 16000.5 is no 16000."""
    with pytest.raises(InputError, match=f"^Expected .* - at {where}"):
        constants(wrong, [X, RATE, LEVEL, TEXT])


def test_columns_are_of_one_kind():
    ragged = column([np.ones((1, 2), np.float32), None, np.ones((1, 3), np.float32)], spec("y", 1, 1, "n"))
    assert ragged.dtype == object
    assert [value.shape for value in ragged] == [(1, 2), (0, 0), (1, 3)]
    alike = column([np.ones((1, 2), np.float32)] * 2, spec("y", 1, 1, "n"))
    assert alike.dtype == object
    dense = column([np.ones(2, np.float32), None], spec("y", "batch", 2))
    np.testing.assert_array_equal(dense, [[1, 1], [np.nan, np.nan]])
    scalars = column([np.array(3), None], spec("y", "batch", kind="int64"))
    np.testing.assert_array_equal(scalars, [3, 0])
    assert column([None], spec("y", 1, 1, "n")).shape == (1,)


@pytest.mark.parametrize("keep_first", [False, True])
@pytest.mark.parametrize("sizes", [(1, 4), ("batch", 4), (1, 1, "n"), ("batch",), (1,)])
def test_a_batch_whose_rows_all_failed_looks_like_the_others(sizes, keep_first):
    """Arrow takes no column whose type changes from one batch to the next."""
    made = spec("y", *sizes)
    value = np.ones([size if isinstance(size, int) else 1 for size in sizes[not keep_first :]], np.float32)
    columns = [column(some, made, keep_first=keep_first) for some in ([value] * 2, [None, value], [None, None], [])]
    assert len({(one.dtype, one.shape[1:]) for one in columns}) == 1
    ranks = {part.ndim for one in columns if one.dtype == object for part in one}
    assert len(ranks) <= 1
