"""Feeds held against the specs: what fits is passed on as it is, what can be made to fit is copied once, the rest is
refused with a sentence."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from omni_sdk import ranges
from omni_sdk._buffers import BufferPool
from omni_sdk.errors import InputError
from omni_sdk.specs import FOREIGN_NAMES, NATIVE, TensorSpec


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
    _check_names(feeds, specs)
    ready: dict[str, Any] = {}
    copied = 0
    for spec in specs:
        value = feeds[spec.name]
        if spec.element is None:
            ready[spec.name] = _passed(value, spec)
            continue
        array = as_array(value, spec)
        _check_shape(array, spec, f"input {spec.name!r}")
        if spec.allowed is not None:
            ranges.check(array, spec.name, spec.allowed)
        ready[spec.name], moved = _bindable(array, spec, pool)
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
        raise InputError(f"Expected a mapping of output names to arrays, got {type(out).__name__} - at out")
    by_name = {spec.name: spec for spec in specs}
    for name, array in out.items():
        spec = by_name.get(name)
        if spec is None:
            raise InputError(f"Expected an output of the model, got {name!r} - at out", hint=_names(by_name, name))
        if spec.element is None or spec.element.packed:
            raise InputError(f"Expected a tensor of whole bytes, got {spec.type} - at out[{name!r}]")
        if not isinstance(array, np.ndarray) or array.dtype != spec.dtype:
            got = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
            raise InputError(f"Expected an array of {spec.dtype}, got {got} - at out[{name!r}]")
        if not array.flags.writeable:
            raise InputError(f"Expected a writable array, got a read-only one - at out[{name!r}]")
        _check_shape(array, spec, f"out[{name!r}]")
    for (one, first), (other, second) in itertools.combinations(out.items(), 2):
        if np.shares_memory(first, second):
            raise InputError(f"Expected destinations of their own, got the memory of {one!r} - at out[{other!r}]")
    return dict(out)


def arrays(
    shapes: object, specs: Sequence[TensorSpec], make: Callable[[np.dtype[Any], tuple[int, ...]], np.ndarray]
) -> dict[str, np.ndarray]:
    """New arrays for every input.

    Parameters
    ----------
    shapes : mapping of str to shape
        Of the inputs with symbolic dimensions at least.
    specs : sequence of TensorSpec
    make : callable
        Makes an array of a dtype and a shape.

    Raises
    ------
    InputError
        When a shape is missing or does not fit, is larger than any memory, or an input is no tensor of numbers.
    """
    if not isinstance(shapes, Mapping):
        raise InputError(f"Expected a mapping of input names to shapes, got {type(shapes).__name__} - at shapes")
    unknown = [name for name in shapes if all(spec.name != name for spec in specs)]
    if unknown:
        hint = _names([spec.name for spec in specs], unknown[0])
        raise InputError(f"Expected shapes of the model's inputs, got one for {unknown[0]!r} - at shapes", hint=hint)
    made = {}
    for spec in specs:
        if spec.element is None:
            raise InputError(f"Expected inputs that are tensors of numbers, got {spec} - at shapes")
        shape = shapes.get(spec.name, spec.shape)
        if not isinstance(shape, Sequence) or not all(_is_size(size) for size in shape):
            raise InputError(f"Expected a size for every dimension, got {shape} - at shapes[{spec.name!r}]")
        try:
            made[spec.name] = make(spec.dtype, tuple(map(int, shape)))
        except (MemoryError, OverflowError, ValueError) as error:
            raise InputError(
                f"Expected a shape that memory can hold, got {tuple(shape)} - at shapes[{spec.name!r}]"
            ) from error
        _check_shape(made[spec.name], spec, f"shapes[{spec.name!r}]")
    return made


def _is_size(size: object) -> bool:
    return isinstance(size, (int, np.integer)) and bool(size >= 0)


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


def _check_names(feeds: Mapping[str, Any], specs: Sequence[TensorSpec]) -> None:
    names = [spec.name for spec in specs]
    missing = [name for name in names if name not in feeds]
    extra = [name for name in feeds if name not in names]
    if extra:
        raise InputError(
            f"Expected the inputs {', '.join(names) or 'none'}, got {extra[0]!r} as well - at infer",
            hint=_names(names, extra[0]),
        )
    if missing:
        given = ", ".join(feeds) or "nothing"
        raise InputError(f"Expected the inputs {', '.join(names)}, got {given} - at {missing[0]!r}, which is missing")


def _names(known: Any, wrong: object) -> str | None:
    near = difflib.get_close_matches(str(wrong), list(known), n=1)
    return f"did you mean {near[0]!r}?" if near else None


def _passed(value: Any, spec: TensorSpec) -> Any:
    """Strings, sequences, maps and optionals go to ONNX Runtime as they are."""
    if not spec.is_tensor:
        return value
    array = np.asarray(value)
    if array.dtype.kind not in "USO" or (
        array.dtype.kind == "O" and not all(isinstance(text, (str, bytes)) for text in array.flat)
    ):
        raise InputError(f"Expected an array of strings, got {array.dtype} - at input {spec.name!r}")
    _check_shape(array, spec, f"input {spec.name!r}")
    return array if array.dtype.kind != "U" else array.astype(object)


def as_array(value: Any, spec: TensorSpec) -> np.ndarray:
    """The value as an array of the spec's dtype, without a copy where it already is one."""
    if isinstance(value, (bool, int, float, list, tuple)):
        value = _from_python(value, spec)
    if not isinstance(value, (np.ndarray, np.generic)):
        raise InputError(
            f"Expected an array of {spec.dtype} ({spec.type}), got {type(value).__name__} - at input {spec.name!r}"
        )
    array = np.asarray(value)
    if FOREIGN_NAMES.get(array.dtype.name) == spec.type_name and spec.type_name not in NATIVE:
        # Of a value of less than a byte, the byte's other bits are ml_dtypes' own business.
        return array.astype(spec.dtype) if spec.element is not None and spec.element.packed else array.view(spec.dtype)
    if array.dtype.newbyteorder("=") != spec.dtype:
        raise InputError(
            f"Expected an array of {spec.dtype} ({spec.type}), got {array.dtype} - at input {spec.name!r}",
            hint=f"convert it: array.astype(numpy.{spec.dtype})" if array.dtype.kind in "biuf" else None,
        )
    return array


def _from_python(value: Any, spec: TensorSpec) -> np.ndarray:
    if spec.element is not None and not spec.element.packed and spec.type_name not in NATIVE:
        raise InputError(f"Expected an array of bits ({spec}), got plain Python values - at input {spec.name!r}")
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise InputError(f"Expected an array of {spec.dtype}, got a ragged list - at input {spec.name!r}") from error
    whole = array.dtype.kind in "iu" and spec.dtype.kind in "iu"
    if array.size and not whole and not np.can_cast(array.dtype, spec.dtype, "same_kind"):
        raise InputError(f"Expected {spec.dtype}, got values of {array.dtype} - at input {spec.name!r}")
    with np.errstate(over="ignore"):
        converted = array.astype(spec.dtype)
    lost = converted != array if whole else np.isinf(converted) & np.isfinite(array)
    if lost.any():
        raise InputError(f"Expected values that fit {spec.dtype}, got larger ones - at input {spec.name!r}")
    return converted


def _check_shape(array: np.ndarray, spec: TensorSpec, where: str) -> None:
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
    flags = array.flags
    if flags.c_contiguous and flags.aligned and array.dtype.isnative:
        return np.asarray(array), 0
    copy = pool.array(spec.dtype, array.shape)
    np.copyto(copy, array)
    return copy, copy.nbytes


def _signed_range(bits: int) -> tuple[int, int]:
    return -(1 << (bits - 1)), 1 << (bits - 1)
