"""Inputs to try a model on: made up from what the graph says of them, or given by the user.

Made-up floats are normal, made-up integers stay within the table that they index. Sizes of named dimensions start at
the smallest that the model runs at, since that is where padding and slicing go wrong.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from omni_sdk.errors import InputError
from omni_sdk.tools.prepare.rules.base import constant, made_by

Feeds = dict[str, NDArray[Any]]

SIZES = (1, 2, 5, 16)
"""Tried for every named dimension but the batch."""

BATCHES = (1, 1, 2, 1)
"""Tried for the batch (see `batches`), beside `SIZES`."""

BATCH_NAMES = frozenset(("b", "n", "batch", "batch_size", "bsz"))

MOST_ONE_BY_ONE = 8
"""Dimensions that are tried apart from all others."""

LARGEST_UNKNOWN_INTEGER = 2
"""Integers that index no table are 0 or 1: flags, positions and counts all bear these."""


@dataclass(frozen=True, slots=True)
class InputSpec:
    """What the graph says of one input."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | str, ...]
    highest: int  # of integers, exclusive


def specs_of(model: ir.Model) -> list[InputSpec]:
    """Inputs that must be fed, in the graph's order.

    Raises
    ------
    InputError
        Where an input is no tensor of known rank.
    """
    specs = []
    for value in model.graph.inputs:
        if value.const_value is not None:
            continue
        if value.dtype is None or value.shape is None:
            raise InputError(f"Expected a tensor of known type and rank, got neither - at input {value.name}")
        shape = tuple(
            dim if isinstance(dim, int) else dim.value or unnamed(str(value.name), axis)
            for axis, dim in enumerate(value.shape)
        )
        specs.append(InputSpec(str(value.name), np.dtype(value.dtype.numpy()), shape, highest_index(value)))
    return specs


def highest_index(value: ir.Value, offset: int = 0) -> int:
    """How far the integers of an input may go, from the tables that they index."""
    found: list[int] = []
    for node, index in value.uses():
        output = node.outputs[0] if node.outputs else None
        if node.op_type == "Gather" and index == 1 and node.inputs[0] is not None and node.inputs[0].shape is not None:
            rows = node.inputs[0].shape[node.attributes["axis"].as_int() if "axis" in node.attributes else 0]
            found.append(rows - offset if isinstance(rows, int) else LARGEST_UNKNOWN_INTEGER)
        elif node.op_type == "Add" and output is not None:
            added = _constant_of(node.inputs[1 - index])
            if added is not None and added.size:
                found.append(highest_index(output, offset + int(added.max())))
        elif (
            node.op_type in ("Cast", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze")
            and index == 0
        ):
            found += [highest_index(each, offset) for each in node.outputs]
    useful = [limit for limit in found if limit > LARGEST_UNKNOWN_INTEGER]
    return min(useful, default=LARGEST_UNKNOWN_INTEGER)


def _constant_of(value: ir.Value | None) -> NDArray[Any] | None:
    """The array of an initializer or of a `Constant` node."""
    node = made_by(value, "Constant")
    if node is not None and "value" in node.attributes:
        return np.asarray(node.attributes["value"].as_tensor().numpy())
    return constant(value)


def make_feeds(specs: Sequence[InputSpec], sizes: Mapping[str, int], seed: int) -> Feeds:
    """Random feeds at the given sizes of the named dimensions."""
    source = np.random.default_rng(seed)
    feeds: Feeds = {}
    for spec in specs:
        shape = [dim if isinstance(dim, int) else sizes[dim] for dim in spec.shape]
        if spec.dtype.kind == "f":
            feeds[spec.name] = source.standard_normal(shape).astype(spec.dtype)
        elif spec.dtype.kind == "b":
            feeds[spec.name] = source.integers(0, 2, shape).astype(bool)
        else:
            feeds[spec.name] = source.integers(0, spec.highest, shape).astype(spec.dtype)
    return feeds


def named_dimensions(specs: Sequence[InputSpec]) -> list[str]:
    """Names of the dimensions that callers choose, each once."""
    return list(dict.fromkeys(dim for spec in specs for dim in spec.shape if isinstance(dim, str)))


def batches(specs: Sequence[InputSpec]) -> set[str]:
    """Dimensions that count independent items: first of several wherever they stand, and called so or without a name.

    The name alone says nothing, for a time axis is called `n` as well.
    """
    first = {spec.shape[0]: spec.name for spec in specs if len(spec.shape) > 1}
    others = {dim for spec in specs for dim in (spec.shape[1:] if len(spec.shape) > 1 else spec.shape)}
    return {
        dim
        for dim, name in first.items()
        if isinstance(dim, str) and dim not in others and (dim.lower() in BATCH_NAMES or dim == unnamed(name, 0))
    }


def unnamed(name: str, axis: int) -> str:
    """What a dimension without a name is called here; it is no other input's."""
    return f"{name}.{axis}"


def at_size(specs: Sequence[InputSpec], size: int, batch: int = 1) -> dict[str, int]:
    """Sizes of the named dimensions: one for all but the batch."""
    counted = batches(specs)
    return {name: batch if name in counted else size for name in named_dimensions(specs)}


def trials(specs: Sequence[InputSpec]) -> Iterator[dict[str, int]]:
    """Sizes of the named dimensions to try, the smallest first; all that are no batch have one size."""
    for size, batch in zip(SIZES, BATCHES, strict=True):
        sizes = at_size(specs, size, batch)
        yield sizes
        if not sizes:
            return


def apart(specs: Sequence[InputSpec], sizes: Mapping[str, int], number: int) -> dict[str, int]:
    """The same sizes, but no two that are no batch alike: rising with the order of the names, or falling.

    A rule that takes one dimension for another is right where both have one size, and where a slice to the larger one
    ends at the smaller one anyway: so trials take turns.
    """
    counted = batches(specs)
    names = [name for name in sizes if name not in counted]
    return {**sizes, **{name: sizes[name] + place for place, name in enumerate(names[:: 1 if number % 2 else -1])}}


def one_by_one(specs: Sequence[InputSpec], sizes: Mapping[str, int]) -> Iterator[dict[str, int]]:
    """Each dimension but the batch in turn larger and smaller than the others, for models where some must agree."""
    counted = batches(specs)
    names = [name for name in sizes if name not in counted]
    for name in names[:MOST_ONE_BY_ONE] if len(names) > 1 else ():
        for change in (1, -1):
            yield {**sizes, name: sizes[name] + change}


def checked(feeds: Mapping[str, Any], specs: Sequence[InputSpec], where: str, state: Collection[str] = ()) -> Feeds:
    """A user's feeds as arrays, or an error that says what does not fit.

    Inputs of carried state that are not given are zeros, as in a fresh stream, where their shape is fixed.

    Raises
    ------
    InputError
        Where a name, type or shape does not fit, or a float is not finite.
    """
    wanted = {spec.name: spec for spec in specs}
    fresh = {
        spec.name: np.zeros([dim for dim in spec.shape if isinstance(dim, int)], spec.dtype)
        for spec in specs
        if spec.name in state and all(isinstance(dim, int) for dim in spec.shape)
    }
    feeds = {**fresh, **feeds}
    if missing := sorted(wanted.keys() - feeds.keys()):
        raise InputError(f"Expected all inputs, got none for {', '.join(missing)} - at {where}")
    if unknown := sorted(feeds.keys() - wanted.keys(), key=str):
        raise InputError(f"Expected inputs {', '.join(wanted)}, got {', '.join(map(str, unknown))} too - at {where}")
    result: Feeds = {}
    sizes: dict[str, int] = {}
    for name, spec in wanted.items():
        try:
            array = np.asarray(feeds[name], order="C")
        except ValueError as error:  # ragged lists
            raise InputError(f"Expected an array, got something else ({error}) - at {where}, input {name}") from error
        if array.dtype != spec.dtype:
            raise InputError(f"Expected {spec.dtype}, got {array.dtype} - at {where}, input {name}")
        fits = array.ndim == len(spec.shape) and array.size > 0
        for dim, size in zip(spec.shape, array.shape, strict=False):
            fits &= size == (dim if isinstance(dim, int) else sizes.setdefault(dim, size))
        if not fits:
            raise InputError(f"Expected shape {list(spec.shape)}, got {list(array.shape)} - at {where}, input {name}")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise InputError(f"Expected finite numbers, got NaN or infinity - at {where}, input {name}")
        result[name] = array
    return result
