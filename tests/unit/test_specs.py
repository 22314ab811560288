"""Specs say what an array must be, for every element type ONNX Runtime has."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

from omni_sdk.specs import ELEMENT_TYPES, FOREIGN_NAMES, NATIVE, TensorSpec


@pytest.mark.parametrize("name", ELEMENT_TYPES)
def test_numbers_and_sizes_are_onnxs(name):
    element = ELEMENT_TYPES[name]
    assert element.onnx == getattr(TensorProto, name.upper())
    assert element.packed == (element.bits < 8)
    assert element.dtype.itemsize * 8 == max(8, element.bits)


def test_native_types_are_numpys_own():
    for name in NATIVE:
        numpy_name = {"float": "float32", "double": "float64"}.get(name, name)
        assert ELEMENT_TYPES[name].dtype == np.dtype(numpy_name)
    assert ELEMENT_TYPES.keys() - NATIVE == {*FOREIGN_NAMES.values()}


def test_foreign_types_have_ml_dtypes_names():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    for foreign, name in FOREIGN_NAMES.items():
        dtype = np.dtype(getattr(ml_dtypes, foreign))
        assert dtype.name == foreign
        assert dtype.itemsize == ELEMENT_TYPES[name].dtype.itemsize


@pytest.mark.parametrize(
    ("shape", "expected"),
    [([2, "N", None], (2, "N", None)), ([0, ""], (0, None)), ([-1, 3], (None, 3)), ([], ()), (None, ())],
)
def test_dimensions_are_numbers_names_or_unknown(shape, expected):
    spec = TensorSpec.of("x", "tensor(float)", shape)
    assert spec.shape == expected
    assert spec.symbols == tuple(i for i, size in enumerate(expected) if not isinstance(size, int))


@pytest.mark.parametrize(
    ("onnx_type", "dtype", "is_tensor", "name"),
    [
        ("tensor(float16)", "float16", True, "float16"),
        ("tensor(bfloat16)", "uint16", True, "bfloat16"),
        ("tensor(int4)", "int8", True, "int4"),
        ("tensor(string)", "object", True, "string"),
        ("seq(tensor(float))", "object", False, "seq(tensor(float))"),
        ("optional(tensor(float))", "object", False, "optional(tensor(float))"),
        ("tensor(complex64)", "object", True, "complex64"),
    ],
)
def test_types_as_a_session_names_them(onnx_type, dtype, is_tensor, name):
    spec = TensorSpec.of("x", onnx_type, ["N"])
    assert (spec.dtype, spec.is_tensor, spec.type_name) == (np.dtype(dtype), is_tensor, name)
    assert (spec.element is None) == (dtype == "object")
    assert str(spec) == f"x: {name}[N]"


def test_unknown_dimensions_read_as_such():
    assert str(TensorSpec.of("x", "tensor(float)", [2, None, "T"])) == "x: float[2, ?, T]"


@given(st.lists(st.integers(0, 5) | st.sampled_from("NT") | st.none(), min_size=1, max_size=4), st.data())
def test_a_shape_fits_exactly_where_its_fixed_sizes_do(dims, data):
    spec = TensorSpec.of("x", "tensor(float)", dims)
    fitting = [size if isinstance(size, int) else data.draw(st.integers(0, 9)) for size in dims]
    assert spec.fits(fitting)
    assert not spec.fits([*fitting, 1])
    assert not spec.fits(fitting[1:]) or not fitting
    for axis, size in enumerate(dims):
        wrong = [*fitting[:axis], fitting[axis] + 1, *fitting[axis + 1 :]]
        assert spec.fits(wrong) == (not isinstance(size, int))


@pytest.mark.parametrize("shape", [(), (3,), (2, 2)])
def test_a_scalar_or_unknown_rank_takes_all(shape):
    assert TensorSpec.of("x", "tensor(float)", None).fits(shape)
