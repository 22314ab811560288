"""Feeds held against the specs: what fits is passed on as it is, what can be made to fit is copied once, the rest is
refused with a sentence."""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from omni_sdk import ranges
from omni_sdk._buffers import BufferPool
from omni_sdk.errors import InputError
from omni_sdk.specs import FOREIGN_NAMES, NATIVE, TensorSpec

# Values of tensors whose element type Python can hand to ONNX Runtime; maps and the rest are none of ours to read.
_NESTED = re.compile(r"(optional\()?(seq\()?tensor\((\w+)\)\)*")


def merged(feeds: object, named: dict[str, Any]) -> dict[str, Any]:
    """Feeds given as a mapping and as keywords, in one dict. `InputError` when a name comes twice."""
    if not isinstance(feeds, Mapping):
        raise InputError(f"Expected a mapping of input names to arrays, got {type(feeds).__name__} - at infer")
    twice = feeds.keys() & named.keys()
    if twice:
        raise InputError(
            f"Expected each input once, got {sorted(twice)[0]!r} in the mapping and as a keyword - at infer"
        )
    return {**feeds, **named}


def checked(feeds: Mapping[str, Any], specs: Sequence[TensorSpec], pool: BufferPool) -> tuple[dict[str, Any], int]:
    """Feeds in the order of the specs, ready to bind, and how many bytes had to be copied for that.

    Parameters
    ----------
    feeds : mapping of str to array
    specs : sequence of TensorSpec
        What the model takes.
    pool : BufferPool
        Where copies are made.

    Raises
    ------
    InputError
        For a name that is missing or unknown, and for a value of the wrong kind, dtype, rank or fixed size, or out of
        the range that the model tells.
    """
    return bindable(fitting(feeds, specs), specs, pool)


def fitting(feeds: Mapping[str, Any], specs: Sequence[TensorSpec]) -> dict[str, Any]:
    """The first half of `checked`: feeds held against the specs, each tensor of numbers an array, nothing copied."""
    check_names(feeds, specs)
    arrays: dict[str, Any] = {}
    for spec in specs:
        value = feeds[spec.name]
        if spec.element is not None:
            value = as_array(value, spec)
            check_shape(value, spec, f"input {spec.name!r}")
            if spec.allowed is not None:
                ranges.check(value, spec.name, spec.allowed)
        arrays[spec.name] = value
    return arrays


def copies(arrays: Mapping[str, Any], specs: Sequence[TensorSpec]) -> int:
    """Bytes that `bindable` would copy of tensors of numbers."""
    tensors = [(arrays[spec.name], spec.element.packed) for spec in specs if spec.element is not None]
    return sum(array.nbytes for array, packs in tensors if packs or not _is_in_one_piece(array))


def bindable(arrays: Mapping[str, Any], specs: Sequence[TensorSpec], pool: BufferPool) -> tuple[dict[str, Any], int]:
    """The second half of `checked`: each value as it can be bound, and the bytes that were copied."""
    ready: dict[str, Any] = {}
    copied = 0
    for spec in specs:
        make = _passed if spec.element is None else _bindable
        ready[spec.name], moved = make(arrays[spec.name], spec, pool)
        copied += moved
    return ready, copied


def check_out(out: object, specs: Sequence[TensorSpec]) -> dict[str, np.ndarray]:
    """The caller's destinations, as far as the specs alone can tell.

    Raises
    ------
    InputError
        For an unknown name, a value that is no writable array of the output's dtype, or a shape that cannot fit.
    """
    if not isinstance(out, Mapping):
        hint = "an input that is called 'out' goes in by a mapping: infer({'out': array})"
        raise InputError(f"Expected a mapping of output names to arrays, got {type(out).__name__} - at out", hint=hint)
    by_name = {spec.name: spec for spec in specs}
    for name, array in out.items():
        spec = by_name.get(name)
        if spec is None:
            raise InputError(f"Expected an output of the model, got {name!r} - at out", hint=nearest(by_name, name))
        if spec.element is None or spec.element.packed:
            raise InputError(f"Expected a tensor of whole bytes, got {spec.type} - at out[{name!r}]")
        if not isinstance(array, np.ndarray) or array.dtype != spec.dtype:
            got = f"one of {array.dtype}" if isinstance(array, np.ndarray) else f"a value of type {_kind(array)}"
            raise InputError(f"Expected an array of {spec.dtype}, got {got} - at out[{name!r}]")
        if not array.flags.writeable:
            raise InputError(f"Expected a writable array, got a read-only one - at out[{name!r}]")
        check_shape(array, spec, f"out[{name!r}]")
    for (one, first), (other, second) in itertools.combinations(out.items(), 2):
        if np.shares_memory(first, second):
            raise InputError(f"Expected destinations of their own, got the memory of {one!r} - at out[{other!r}]")
    return dict(out)


def packed(array: np.ndarray, bits: int) -> np.ndarray:
    """Values of fewer than 8 bits, several to a byte, the first in the lowest bits, in an array of the same shape.

    The tail of the array is unused: a binding needs the shape, and reads only the bytes it needs.
    """
    per_byte = 8 // bits
    flat = array.reshape(-1).view(np.uint8) & np.uint8((1 << bits) - 1)
    flat = np.concatenate([flat, np.zeros(-flat.size % per_byte, np.uint8)]).reshape(-1, per_byte)
    joined = np.bitwise_or.reduce(flat << (np.arange(per_byte, dtype=np.uint8) * np.uint8(bits)), axis=1)
    whole = np.zeros(array.shape, np.uint8)
    whole.reshape(-1)[: joined.size] = joined
    return whole


def unpacked(data: np.ndarray, shape: Sequence[int], bits: int, dtype: np.dtype[Any]) -> np.ndarray:
    """The way back from `packed`: one value an element, in `dtype`."""
    per_byte = 8 // bits
    count = int(np.prod(shape))
    joined = data.reshape(-1).view(np.uint8)[: -(-count // per_byte), None]
    high = (joined << (8 - bits * (1 + np.arange(per_byte, dtype=np.uint8)))).astype(np.uint8)
    return (high.reshape(-1)[:count].view(dtype) >> (8 - bits)).reshape(shape)


def check_names(feeds: Mapping[str, Any], specs: Sequence[TensorSpec]) -> None:
    """`InputError` when a name is missing or unknown."""
    names = [spec.name for spec in specs]
    missing = [name for name in names if name not in feeds]
    extra = [name for name in feeds if name not in names]
    if extra:
        raise InputError(
            f"Expected the inputs {', '.join(names) or 'none'}, got {extra[0]!r} as well - at infer",
            hint=nearest(names, extra[0]),
        )
    if missing:
        given = ", ".join(feeds) or "nothing"
        raise InputError(f"Expected the inputs {', '.join(names)}, got {given} - at {missing[0]!r}, which is missing")


def nearest(known: Iterable[str], wrong: object) -> str | None:
    """A hint with the known name that a wrong one comes near to."""
    near = difflib.get_close_matches(str(wrong), list(known), n=1)
    return f"did you mean {near[0]!r}?" if near else None


def _kind(value: object) -> str:
    return f"{'numpy.' if isinstance(value, np.generic) else ''}{type(value).__name__}"


def _passed(value: Any, spec: TensorSpec, pool: BufferPool) -> tuple[Any, int]:
    """What goes to ONNX Runtime as it is (maps, values of its own), or made so that it reads what was meant.

    It reads the arrays of a sequence or an optional in native byte order and bytes as if a zero ended them, whatever
    they are. Also the bytes that were copied.
    """
    if spec.is_tensor:
        array = _strings(value, f"input {spec.name!r}")
        check_shape(array, spec, f"input {spec.name!r}")
        return array, 0
    nested = _NESTED.fullmatch(spec.type)
    if nested is None or nested[3] not in {*NATIVE, "string"} or hasattr(value, "is_tensor_sequence"):
        return value, 0
    if value is None and nested[1]:
        return None, 0
    element = TensorSpec.of(spec.name, f"tensor({nested[3]})", None)
    if nested[2] is None:
        return _element(value, element, f"input {spec.name!r}", pool)
    if not isinstance(value, (list, tuple)):
        raise InputError(
            f"Expected a list of arrays ({spec.type}), got {type(value).__name__} - at input {spec.name!r}"
        )
    ready = [_element(one, element, f"input {spec.name!r}[{index}]", pool) for index, one in enumerate(value)]
    return [array for array, _ in ready], sum(moved for _, moved in ready)


def _element(value: Any, spec: TensorSpec, where: str, pool: BufferPool) -> tuple[np.ndarray, int]:
    """One array of a sequence, or that of an optional, and the bytes that were copied."""
    if spec.element is None:
        return _strings(value, where), 0
    return _in_one_piece(as_array(value, spec, where), spec, pool)


def _strings(value: Any, where: str) -> np.ndarray:
    """An array of `str` objects; bytes are taken for UTF-8."""
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise InputError(f"Expected an array of strings, got a ragged list - at {where}") from error
    texts = array.astype(object) if array.dtype.kind in "US" else array
    if texts.dtype.kind != "O" or not all(isinstance(text, (str, bytes)) for text in texts.flat):
        raise InputError(f"Expected an array of strings, got {array.dtype} - at {where}")
    if not any(isinstance(text, bytes) for text in texts.flat):
        return texts
    decoded = np.empty(texts.shape, object)
    for index, text in np.ndenumerate(texts):
        try:
            decoded[index] = text.decode() if isinstance(text, bytes) else text
        except UnicodeDecodeError as error:
            raise InputError(f"Expected strings in UTF-8, got the bytes {text!r} - at {where}") from error
    return decoded


def as_array(value: Any, spec: TensorSpec, where: str = "") -> np.ndarray:
    """The value as an array of the spec's dtype, without a copy where it already is one.

    Errors say that it stands at `where`; default the input of the spec's name.
    """
    where = where or f"input {spec.name!r}"
    if isinstance(value, (bool, int, float, list, tuple)):
        value = _from_python(value, spec, where)
    if not isinstance(value, (np.ndarray, np.generic)):
        raise InputError(f"Expected an array of {spec.dtype} ({spec.type}), got {type(value).__name__} - at {where}")
    array = np.asarray(value)
    if FOREIGN_NAMES.get(array.dtype.name) == spec.type_name and spec.type_name not in NATIVE:
        # Of a value of less than a byte, the byte's other bits are ml_dtypes' own business.
        return array.astype(spec.dtype) if spec.element is not None and spec.element.packed else array.view(spec.dtype)
    if array.dtype.newbyteorder("=") != spec.dtype:
        raise InputError(
            f"Expected an array of {spec.dtype} ({spec.type}), got {array.dtype} - at {where}",
            hint=f"convert it: array.astype(numpy.{spec.dtype})" if array.dtype.kind in "biuf" else None,
        )
    return array


def _from_python(value: Any, spec: TensorSpec, where: str) -> np.ndarray:
    if spec.element is not None and not spec.element.packed and spec.type_name not in NATIVE:
        raise InputError(f"Expected an array of bits ({spec}), got plain Python values - at {where}")
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise InputError(f"Expected an array of {spec.dtype}, got a ragged list - at {where}") from error
    whole = array.dtype.kind in "iu" and spec.dtype.kind in "iu"
    if array.size and not whole and not np.can_cast(array.dtype, spec.dtype, "same_kind"):
        raise InputError(f"Expected {spec.dtype}, got values of {array.dtype} - at {where}")
    with np.errstate(over="ignore"):
        converted = array.astype(spec.dtype)
    lost = converted != array if whole else np.isinf(converted) & np.isfinite(array)
    if lost.any():
        raise InputError(f"Expected values that fit {spec.dtype}, got larger ones - at {where}")
    return converted


def check_shape(array: np.ndarray, spec: TensorSpec, where: str) -> None:
    """`InputError` when an array is of another rank or fixed size."""
    if spec.fits(array.shape):
        return
    if array.ndim != len(spec.shape):
        raise InputError(f"Expected rank {len(spec.shape)} ({spec}), got shape {array.shape} - at {where}")
    for axis, (want, got) in enumerate(zip(spec.shape, array.shape, strict=True)):
        if isinstance(want, int) and want != got:
            raise InputError(f"Expected size {want} in dimension {axis} ({spec}), got {array.shape} - at {where}")


def _bindable(array: np.ndarray, spec: TensorSpec, pool: BufferPool) -> tuple[np.ndarray, int]:
    """The array itself when it can be bound in place, else a copy of it, and the bytes that cost."""
    assert spec.element is not None
    if spec.element.packed:
        low, high = (0, 1 << spec.element.bits) if spec.dtype.kind == "u" else _signed_range(spec.element.bits)
        if array.size and (array.min() < low or array.max() >= high):
            raise InputError(f"Expected values from {low} to {high - 1}, got others - at input {spec.name!r}")
        return packed(np.ascontiguousarray(array), spec.element.bits).view(spec.dtype), array.nbytes
    return _in_one_piece(array, spec, pool)


def _in_one_piece(array: np.ndarray, spec: TensorSpec, pool: BufferPool) -> tuple[np.ndarray, int]:
    if _is_in_one_piece(array):
        return np.asarray(array), 0
    copy = pool.array(spec.dtype, array.shape)
    np.copyto(copy, array)
    return copy, copy.nbytes


def _is_in_one_piece(array: np.ndarray) -> bool:
    return bool(array.flags.c_contiguous and array.flags.aligned and array.dtype.isnative)


def _signed_range(bits: int) -> tuple[int, int]:
    return -(1 << (bits - 1)), 1 << (bits - 1)
