"""The safetensors format: a reader that takes nothing on trust and reads one tensor at a time, and a writer.

Layout (https://github.com/huggingface/safetensors#format): eight bytes with the header's length, little-endian; the
header, a JSON object of name to dtype, shape and offsets; then the tensors' bytes, which the offsets tile without gap
or overlap. Tensors are read with plain reads at their offsets, not mapped: a file that shrinks meanwhile is an error
here and not a signal, and what was read does not stay resident.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import ml_dtypes
import numpy as np

from omni_sdk.errors import ModelError

MAX_HEADER_BYTES = 100_000_000
"""The format's own limit."""

LENGTH_BYTES = 8
METADATA = "__metadata__"

DTYPES: Mapping[str, np.dtype] = {
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F16": np.dtype(np.float16),
    "F32": np.dtype(np.float32),
    "F64": np.dtype(np.float64),
}
"""The dtypes that weights come in. Tensors of others may stand in a file; they cannot be read."""

ITEM_BITS: Mapping[str, int] = {
    **{name: 8 * dtype.itemsize for name, dtype in DTYPES.items()},
    **{"BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64},
    **{"F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "C64": 64},
}


@dataclass(frozen=True, slots=True)
class Entry:
    """Where one tensor stands in a file.

    Parameters
    ----------
    dtype : str
        The format's name of the dtype, such as `BF16`.
    shape : tuple of int
        Its dimensions.
    start, end : int
        First byte and the byte behind the last, counted from the file's beginning.
    """

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def entries(path: Path) -> dict[str, Entry]:
    """Read and check a file's header.

    Parameters
    ----------
    path : pathlib.Path
        A safetensors file.

    Returns
    -------
    dict of str to Entry
        Every tensor by name.

    Raises
    ------
    ModelError
        Where the header's length, its JSON, a dtype, a shape or an offset does not fit the file.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            header, begin = _header(file, size, path)
    except OSError as error:
        raise ModelError(f"Expected a safetensors file, got {error.strerror or error} - at {path}") from error
    found = {name: _entry(name, fields, begin, size, path) for name, fields in header.items() if name != METADATA}
    position = begin
    for name, entry in sorted(found.items(), key=lambda item: (item[1].start, item[1].end)):
        if entry.start != position:
            trouble = "overlaps the one before" if entry.start < position else "leaves a gap before it"
            raise ModelError(f"Expected tensors side by side, got one that {trouble} - at {name!r} in {path}")
        position = entry.end
    if position != size:
        raise ModelError(f"Expected {position} bytes, got {size} - at {path}", hint="fetch the file again")
    return found


def read(path: Path, name: str, entry: Entry) -> np.ndarray:
    """Read one tensor.

    Parameters
    ----------
    path : pathlib.Path
        The file that `entry` came from.
    name : str
        The tensor's name, for errors.
    entry : Entry
        Where it stands.

    Returns
    -------
    numpy.ndarray
        Of `entry.shape`, in the file's dtype (bfloat16 as that of `ml_dtypes`); memory of its own.

    Raises
    ------
    ModelError
        Where the dtype is none of `DTYPES`, or the file has become shorter.
    """
    dtype = DTYPES.get(entry.dtype)
    if dtype is None:
        raise ModelError(
            f"Expected one of {', '.join(DTYPES)}, got {entry.dtype} - at {name!r} in {path}",
            hint="export from the checkpoint as it was published, before any quantization",
        )
    count = (entry.end - entry.start) // dtype.itemsize
    try:
        array = np.fromfile(path, dtype=dtype, count=count, offset=entry.start)
    except OSError as error:
        raise ModelError(f"Expected a safetensors file, got {error.strerror or error} - at {path}") from error
    if array.size != count:
        raise ModelError(f"Expected {count} values, got {array.size} - at {name!r} in {path}")
    return array.reshape(entry.shape)


def write(
    path: Path, tensors: Iterable[tuple[str, tuple[int, ...], Callable[[], np.ndarray]]], dtype: str = "F32"
) -> None:
    """Write a file tensor by tensor; memory holds one at a time.

    Parameters
    ----------
    path : pathlib.Path
        The file; replaced where it exists.
    tensors : iterable of (str, tuple of int, callable)
        Names, shapes, and functions that give arrays of these shapes.
    dtype : str, default "F32"
        One of `DTYPES`, for all of them; values are rounded to it.
    """
    numpy_dtype = DTYPES[dtype]
    listed = list(tensors)
    header: dict[str, object] = {METADATA: {"format": "pt"}}
    position = 0
    for name, shape, _ in listed:
        end = position + math.prod(shape) * numpy_dtype.itemsize
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [position, end]}
        position = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % LENGTH_BYTES)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(LENGTH_BYTES, "little") + text)
        for _, shape, make in listed:
            file.write(np.ascontiguousarray(make().reshape(shape).astype(numpy_dtype, copy=False)).view(np.uint8).data)


def _header(file: IO[bytes], size: int, path: Path) -> tuple[dict[str, object], int]:
    length = int.from_bytes(file.read(LENGTH_BYTES), "little")
    if size < LENGTH_BYTES or length > size - LENGTH_BYTES:
        raise ModelError(
            f"Expected a safetensors file, got {size} bytes that announce a header of {length} - at {path}",
            hint="the file is truncated or is something else: fetch it again",
        )
    if length > MAX_HEADER_BYTES:
        raise ModelError(f"Expected a header of at most {MAX_HEADER_BYTES} bytes, got {length} - at {path}")
    try:
        header = json.loads(file.read(length), object_pairs_hook=_without_twins)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"Expected a header in JSON, got something else ({error}) - at {path}") from error
    if not isinstance(header, dict):
        raise ModelError(f"Expected a JSON object as header, got {type(header).__name__} - at {path}")
    return header, LENGTH_BYTES + length


def _without_twins(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def _entry(name: str, fields: object, begin: int, size: int, path: Path) -> Entry:
    where = f"at {name!r} in {path}"
    if not isinstance(fields, dict) or not {"dtype", "shape", "data_offsets"} <= fields.keys():
        raise ModelError(f"Expected dtype, shape and data_offsets, got {fields!r:.80} - {where}")
    dtype, shape, offsets = fields["dtype"], fields["shape"], fields["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEM_BITS:
        raise ModelError(f"Expected a dtype of the format, got {dtype!r:.40} - {where}")
    if not _sizes(shape) or not _sizes(offsets) or len(offsets) != 2:
        raise ModelError(f"Expected whole numbers, got shape {shape!r:.80}, offsets {offsets!r:.80} - {where}")
    start, end = offsets
    if not start <= end <= size - begin:
        raise ModelError(
            f"Expected offsets within {size - begin} bytes of data, got {start} to {end} - {where}",
            hint="the file is truncated or damaged: fetch it again",
        )
    if math.prod(shape) * ITEM_BITS[dtype] != (end - start) * 8:
        raise ModelError(f"Expected {end - start} bytes to be {dtype} of shape {shape}, got another count - {where}")
    return Entry(dtype, tuple(shape), begin + start, begin + end)


def _sizes(value: object) -> bool:
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)
