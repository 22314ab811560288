"""What goes into a model and what comes out: names, element types, shapes."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class ElementType:
    """How one ONNX element type stands in numpy.

    Attributes
    ----------
    dtype : numpy.dtype
        Types that numpy lacks travel as their bits: bfloat16 as uint16, float8 as uint8; 4- and 2-bit integers as
        int8 or uint8, one value an element.
    onnx : int
        Number in ONNX's `TensorProto.DataType`.
    bits : int
        Of one value as ONNX Runtime holds it; below 8 several values share a byte.
    """

    dtype: np.dtype[Any]
    onnx: int
    bits: int

    @property
    def packed(self) -> bool:
        """Whether several values share a byte."""
        return self.bits < 8


def _numpy(name: str, onnx: int) -> ElementType:
    dtype = np.dtype(name)
    return ElementType(dtype, onnx, dtype.itemsize * 8)


ELEMENT_TYPES = {
    "float": _numpy("float32", 1),
    "uint8": _numpy("uint8", 2),
    "int8": _numpy("int8", 3),
    "uint16": _numpy("uint16", 4),
    "int16": _numpy("int16", 5),
    "int32": _numpy("int32", 6),
    "int64": _numpy("int64", 7),
    "bool": _numpy("bool", 9),
    "float16": _numpy("float16", 10),
    "double": _numpy("float64", 11),
    "uint32": _numpy("uint32", 12),
    "uint64": _numpy("uint64", 13),
    "bfloat16": _numpy("uint16", 16),
    "float8e4m3fn": _numpy("uint8", 17),
    "float8e4m3fnuz": _numpy("uint8", 18),
    "float8e5m2": _numpy("uint8", 19),
    "float8e5m2fnuz": _numpy("uint8", 20),
    "uint4": ElementType(np.dtype("uint8"), 21, 4),
    "int4": ElementType(np.dtype("int8"), 22, 4),
    "float8e8m0": _numpy("uint8", 24),
    "uint2": ElementType(np.dtype("uint8"), 25, 2),
    "int2": ElementType(np.dtype("int8"), 26, 2),
}

# Element types that numpy has under the same meaning; the others travel as bits.
NATIVE = {name for name, element in ELEMENT_TYPES.items() if element.onnx <= 13}

# Names that the ml_dtypes package gives to the types numpy lacks.
FOREIGN_NAMES = {
    "bfloat16": "bfloat16",
    "float8_e4m3fn": "float8e4m3fn",
    "float8_e4m3fnuz": "float8e4m3fnuz",
    "float8_e5m2": "float8e5m2",
    "float8_e5m2fnuz": "float8e5m2fnuz",
    "float8_e8m0fnu": "float8e8m0",
    "int4": "int4",
    "uint4": "uint4",
    "int2": "int2",
    "uint2": "uint2",
}


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output.

    Attributes
    ----------
    name : str
    dtype : numpy.dtype
        What arrays have here; `object` for strings and for values that are not tensors.
    shape : tuple of (int, str or None)
        A symbolic dimension is its name, an unknown one None; `()` is a scalar, or of unknown rank.
    type : str
        ONNX's own words, such as `"tensor(bfloat16)"` or `"seq(tensor(float))"`.
    allowed : (int, int), optional
        Least and highest value of an input of integers, where the graph's metadata tells them (`omni_sdk.ranges`).
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | str | None, ...]
    type: str
    allowed: tuple[int, int] | None = None

    @classmethod
    def of(
        cls, name: str, onnx_type: str, shape: list[int | str | None] | None, allowed: tuple[int, int] | None = None
    ) -> TensorSpec:
        """From what a session says of an input or output."""
        element = ELEMENT_TYPES.get(_type_name(onnx_type))
        dims = tuple(
            None if size in (None, "") or (isinstance(size, int) and size < 0) else size for size in shape or ()
        )
        dtype = element.dtype if element else np.dtype(object)
        return cls(name, dtype, dims, onnx_type, allowed if dtype.kind in "iu" else None)

    @property
    def element(self) -> ElementType | None:
        """How its values stand in numpy; None when they are strings or no tensor."""
        return ELEMENT_TYPES.get(self.type_name)

    @property
    def type_name(self) -> str:
        """`"float"` of `"tensor(float)"`; everything else as it is."""
        return _type_name(self.type)

    @property
    def is_tensor(self) -> bool:
        """Whether it is a tensor, of numbers or strings."""
        return self.type.startswith("tensor(")

    @property
    def symbols(self) -> tuple[int, ...]:
        """Indices of the dimensions that no number fixes."""
        return tuple(i for i, size in enumerate(self.shape) if not isinstance(size, int))

    def fits(self, shape: Sequence[int]) -> bool:
        """Whether an array of this shape has the right rank and fixed sizes."""
        if not self.shape:  # a scalar, or of unknown rank: ONNX Runtime tells neither apart, and takes both
            return True
        return len(shape) == len(self.shape) and all(
            want == got for want, got in zip(self.shape, shape, strict=True) if isinstance(want, int)
        )

    def __str__(self) -> str:
        kind = self.type_name if self.is_tensor else self.type
        return f"{self.name}: {kind}[{', '.join('?' if size is None else str(size) for size in self.shape)}]"


@functools.lru_cache
def _type_name(onnx_type: str) -> str:
    match = re.fullmatch(r"tensor\((\w+)\)", onnx_type)
    return match[1] if match else onnx_type
