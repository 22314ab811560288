"""Tensors of the Open Inference Protocol: JSON values or binary blocks on one side, numpy arrays on the other."""

from __future__ import annotations

import itertools
import json
import math
import struct
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from omni_sdk.tools.scale.datatypes import BINARY_ONLY, BYTES, FIXED
from omni_sdk.tools.scale.problems import Problem

MAX_RANK = 32
PART = 1 << 15
"""Values of JSON that are turned at once, which takes a few milliseconds."""
ASK_BINARY = "ask for binary data: parameters binary_data or binary_data_output"
_LENGTH = struct.Struct("<I")
_JSON_TYPES: dict[str, set[type]] = {"b": {bool}, "u": {int}, "i": {int}, "f": {int, float}}


def read_shape(value: object, where: str) -> tuple[int, ...]:
    """A shape as it stands in a request. `Problem` unless it is a list of sizes that numpy can hold."""
    if not isinstance(value, list) or not all(type(size) is int and 0 <= size < 2**63 for size in value):
        raise Problem(f"Expected a list of sizes, got {shown(value)} - at {where}.shape")
    if len(value) > MAX_RANK:
        raise Problem(f"Expected at most {MAX_RANK} dimensions, got {len(value)} - at {where}.shape")
    return tuple(value)


def from_binary(block: memoryview, datatype: str, shape: tuple[int, ...], where: str) -> np.ndarray:
    """An array over a binary block, without a copy; strings are taken out of it.

    Parameters
    ----------
    block : memoryview
        Little-endian, row-major; of strings each is preceded by its length as 4 bytes.
    datatype : str
        The protocol's.
    shape : tuple of int
    where : str
        For the message.

    Raises
    ------
    Problem
        When the block is not of the size that shape and type have.
    """
    count = math.prod(shape)
    if datatype == BYTES:
        return _shaped(_strings(block, count, where), shape, where)
    dtype = FIXED[datatype]
    if len(block) != count * dtype.itemsize:
        raise Problem(
            f"Expected {count * dtype.itemsize} bytes ({datatype} {list(shape)}), got {len(block)} - at {where}"
        )
    flat = np.frombuffer(block, dtype)
    if datatype == "BOOL" and flat.view(np.uint8).max(initial=0) > 1:
        raise Problem(f"Expected bytes of 0 and 1, got others - at {where}")
    return _shaped(flat, shape, where)


def from_json(data: object, datatype: str, shape: tuple[int, ...], where: str) -> np.ndarray:
    """An array of JSON values, in one flat list or nested like the shape, row-major.

    Raises
    ------
    Problem
        When they are not as many as the shape has, of another type, or out of the type's range.
    """
    if datatype in BINARY_ONLY:
        raise Problem(f"Expected binary data for {datatype}, got JSON - at {where}.data")
    flat = _flat(data, shape, where)
    if datatype == BYTES:
        if not all(type(value) is str and _is_text(value) for value in flat):
            raise Problem(f"Expected strings, got other values - at {where}.data")
        return _shaped(_objects(flat), shape, where)
    dtype = FIXED[datatype]
    if not all(set(map(type, part)) <= _JSON_TYPES[dtype.kind] for part in _parts(flat)):
        raise Problem(f"Expected values of {datatype}, got others - at {where}.data")
    try:
        array = _numbers(flat, dtype)
    except OverflowError:
        raise Problem(f"Expected values that fit {datatype}, got larger ones - at {where}.data") from None
    return _shaped(array, shape, where)


def to_binary(array: np.ndarray, datatype: str) -> bytes | memoryview:
    """The block of an array; of a contiguous one without a copy."""
    if datatype != BYTES:
        plain = np.ascontiguousarray(array, FIXED[datatype])
        return plain.reshape(-1).view(np.uint8).data
    values = [str(value).encode() for value in array.reshape(-1)]
    return b"".join(_LENGTH.pack(len(value)) + value for value in values)


def to_json(array: np.ndarray, datatype: str, where: str) -> Iterator[bytes]:
    """The values of an array as one flat list in JSON, in pieces as they are turned.

    Raises
    ------
    Problem
        When JSON cannot hold them: NaN, infinity, bfloat16. Before the first piece.
    """
    if datatype in BINARY_ONLY:
        raise Problem(f"Expected binary output for {datatype}, got JSON asked for - at {where}", hint=ASK_BINARY)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise Problem(f"Expected finite values for JSON, got NaN or infinity - at {where}", hint=ASK_BINARY)
    return _listed(array.reshape(-1), datatype)


def _listed(flat: np.ndarray, datatype: str) -> Iterator[bytes]:
    yield b"["
    for begin in range(0, flat.size, PART):
        part: list[Any] = flat[begin : begin + PART].tolist()
        if datatype == BYTES:
            part = [str(value) for value in part]
        text = json.dumps(part, separators=(",", ":")).encode()
        yield (b"," if begin else b"") + text[1:-1]
    yield b"]"


def _parts(values: list[Any]) -> Iterator[list[Any]]:
    """A list in slices: between two of them another thread has its turn, which one long call in C gives none."""
    return (values[begin : begin + PART] for begin in range(0, len(values), PART))


def _numbers(flat: list[Any], dtype: np.dtype[Any]) -> np.ndarray:
    """Numbers and truth values as an array; `OverflowError` for one that the type does not hold."""
    array, begin = np.empty(len(flat), dtype), 0
    for part in _parts(flat):
        if dtype.kind in "iu":  # compared as Python's: before numpy 2, -1 became the largest number without a word
            limits = np.iinfo(dtype)
            if min(part) < limits.min or max(part) > limits.max:
                raise OverflowError
        with np.errstate(over="ignore"):
            array[begin : begin + len(part)] = np.array(part, "f8" if dtype.kind == "f" else dtype)
        begin += len(part)
    if dtype.kind == "f" and not np.isfinite(array).all():  # JSON spells no infinity, but larger numbers than there are
        raise OverflowError
    return array


def _strings(block: memoryview, count: int, where: str) -> np.ndarray:
    if len(block) < count * _LENGTH.size:
        raise Problem(f"Expected {count} strings, got {len(block)} bytes - at {where}")
    found: list[str] = []
    begin = 0
    for _ in range(count):
        end = begin + _LENGTH.size
        if end > len(block):
            raise Problem(f"Expected {count} strings, got {len(found)} - at {where}")
        begin = end + _LENGTH.unpack(block[begin:end])[0]
        if begin > len(block):
            raise Problem(f"Expected a string of {begin - end} bytes, got {len(block) - end} - at {where}")
        try:
            found.append(str(block[end:begin], "utf-8"))
        except UnicodeDecodeError:
            raise Problem(f"Expected strings in UTF-8, got other bytes - at {where}") from None
    if begin != len(block):
        raise Problem(f"Expected {begin} bytes of strings, got {len(block)} - at {where}")
    return _objects(found)


def _flat(data: object, shape: tuple[int, ...], where: str) -> list[Any]:
    """The values of a list that is flat already, or nested exactly like the shape."""
    if not isinstance(data, list):
        raise Problem(f"Expected a list of values, got {shown(data)} - at {where}.data")
    values, nested = data, any(isinstance(value, list) for value in data)
    if nested:
        for axis, size in enumerate(shape):
            if axis and not all(isinstance(part, list) for part in values):
                raise Problem(f"Expected lists nested like {list(shape)}, got fewer - at {where}.data")
            parts: Sequence[list[Any]] = values if axis else [values]
            if any(len(part) != size for part in parts):
                raise Problem(f"Expected lists of {size} in dimension {axis}, got others - at {where}.data")
            values = list(itertools.chain.from_iterable(parts))
    if len(values) != math.prod(shape) or any(isinstance(value, list) for value in values):
        raise Problem(f"Expected {math.prod(shape)} values {list(shape)}, got {len(values)} - at {where}.data")
    return values


def _is_text(value: str) -> bool:
    """Whether it has an encoding: JSON can spell halves of surrogate pairs."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _objects(values: Sequence[object]) -> np.ndarray:
    array = np.empty(len(values), object)
    array[:] = values
    return array


def _shaped(flat: np.ndarray, shape: tuple[int, ...], where: str) -> np.ndarray:
    try:
        return flat.reshape(shape)
    except ValueError:  # empty, with sizes whose strides no machine can count
        raise Problem(f"Expected a shape that memory can hold, got {list(shape)} - at {where}.shape") from None


def shown(value: object) -> str:
    """A value of a request as a message may repeat it: short."""
    text = repr(value) if not isinstance(value, (list, dict)) else f"a {type(value).__name__}"
    return text if len(text) <= 40 else f"{text[:40]}..."
