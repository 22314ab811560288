"""Rows of a batch as runs of a model: which go together, and how their results come apart.

Rows whose arrays have the same shapes make a bucket. Where every input and output of the model has one symbolic first
dimension, the rows of a bucket are stacked along it and run at once; else each runs by itself. Nothing is padded, so
no row's result depends on the others'.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from omni_sdk import feeds as feeding
from omni_sdk.errors import InputError
from omni_sdk.specs import TensorSpec

Feeds = dict[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Bucket:
    """Rows that run at once.

    Parameters
    ----------
    rows : tuple of int
        Their places in the batch.
    parts : tuple of feeds
        Each row's own.
    lead : {"stacked", "added", "own"}
        Where the first dimension comes from: the rows themselves, one that was added to the row, or the row has it.
    added : frozenset of str, default empty
        Inputs that it was added to.
    """

    rows: tuple[int, ...]
    parts: tuple[Feeds, ...]
    lead: str
    added: frozenset[str] = frozenset()

    @property
    def feeds(self) -> Feeds:
        """What runs: made when it is asked for, since a stack takes memory that may not be there."""
        if self.lead == "stacked":
            return {name: np.stack([part[name] for part in self.parts]) for name in self.parts[0]}
        return {name: array[None] if name in self.added else array for name, array in self.parts[0].items()}

    def apart(self, result: np.ndarray, name: str, *, keep_first: bool) -> list[np.ndarray]:
        """One output's part of each row, views of it; with or without the model's first dimension, as in every batch.

        Raises
        ------
        InputError
            When they are to be without it, and a row's is not of size 1.
        """
        if not result.ndim:
            return [result]
        if self.lead == "stacked":
            return [result[row : row + 1] for row in range(len(result))] if keep_first else list(result)
        if keep_first:
            return [result]
        if len(result) != 1:
            raise InputError(f"Expected one result for the row, got {len(result)} - at output {name!r}",
                             hint="keep the model's first dimension: keep_first=True")  # fmt: skip
        return [result[0]]


def has_rows(inputs: Sequence[TensorSpec]) -> bool:
    """Whether the first dimension of what rows bring looks like one that counts rows: others stand behind it."""
    return any(len(spec.shape) > 1 and _may_lack_first(spec) for spec in inputs)


def is_stackable(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> bool:
    """Whether one symbol is the first dimension of everything that goes in and comes out, and of nothing else."""
    firsts = {spec.shape[0] if spec.shape else None for spec in (*inputs, *outputs)}
    if len(firsts) != 1:
        return False
    symbol = firsts.pop()
    return isinstance(symbol, str) and all(symbol not in spec.shape[1:] for spec in (*inputs, *outputs))


def kept(table: Mapping[str, Any], taken: Collection[str], made: Collection[str]) -> dict[str, Any]:
    """The columns of a batch that go on as they are.

    Parameters
    ----------
    table : mapping of str to column
        The batch.
    taken : collection of str
        Columns that hold inputs: they end here.
    made : collection of str
        Columns that are added.

    Raises
    ------
    InputError
        When a column has the name of one that is added, which would replace it.
    """
    others = {name: values for name, values in table.items() if name not in taken}
    if twice := [name for name in others if name in made]:
        raise InputError(
            f"Expected columns of other names than {', '.join(made)}, got {', '.join(twice)} - at the batch",
            hint="rename them before: dataset.rename_columns({'old': 'new'})",
        )
    return others


def constants(given: Mapping[str, Any], specs: Sequence[TensorSpec]) -> Feeds:
    """Inputs that are the same for every row, as `Model.infer` takes them.

    Raises
    ------
    InputError
        When one is no input of the model, or does not fit it.
    """
    by_name = {spec.name: spec for spec in specs}
    found: Feeds = {}
    for name, value in given.items():
        spec = by_name.get(name)
        if spec is None:
            raise InputError(f"Expected some of {', '.join(by_name)}, got {name!r} - at constants")
        where = f"constants[{name!r}]"
        found[name] = np.asarray(value) if spec.element is None else feeding.as_array(value, spec, where)
        feeding.check_shape(found[name], spec, where)
    return found


def feeds_of(columns: Mapping[str, Any], row: int, specs: Sequence[TensorSpec]) -> Feeds:
    """One row's arrays, by input, of the input's dtype.

    Raises
    ------
    InputError
        When a value is no array of the input's kind.
    """
    return {spec.name: _array(columns[spec.name][row], spec) for spec in specs}


def buckets(rows: Mapping[int, Feeds], specs: Sequence[TensorSpec], *, stackable: bool, most: int) -> Iterator[Bucket]:
    """Rows in buckets of equal shapes, in the order in which each shape first comes.

    Parameters
    ----------
    rows : mapping of int to feeds
    specs : sequence of TensorSpec
        Of the inputs that rows bring.
    stackable : bool
    most : int
        Rows of a bucket.
    """
    alike: dict[tuple[tuple[int, ...], ...], list[int]] = {}
    for row, feeds in rows.items():
        alike.setdefault(tuple(feeds[spec.name].shape for spec in specs), []).append(row)
    for shapes, members in alike.items():
        missing = [spec for spec, shape in zip(specs, shapes, strict=True) if len(shape) + 1 == len(spec.shape)]
        if stackable and len(missing) == len(specs):
            for begin in range(0, len(members), most):
                some = tuple(members[begin : begin + most])
                yield Bucket(some, tuple(rows[row] for row in some), "stacked")
            continue
        added = frozenset(spec.name for spec in missing if _may_lack_first(spec))
        for row in members:
            yield Bucket((row,), (rows[row],), "added" if added else "own", added)


def column(values: Sequence[np.ndarray | None], spec: TensorSpec, *, keep_first: bool = False) -> np.ndarray:
    """One output of every row as a column: of one kind and one rank in every batch, as Arrow wants it.

    Dense where the model fixes the shape of a row, else an array of arrays. A row without a result has NaN (0 where
    the dtype has none) in the one, an empty array in the other: what the model says of its output decides, whatever
    the rows of one batch are.
    """
    sizes = spec.shape if keep_first else spec.shape[1:]
    fixed = tuple(size for size in sizes if isinstance(size, int))
    if len(fixed) == len(sizes) and all(value is None or value.shape == fixed for value in values):
        missing = np.full(fixed, np.nan if spec.dtype.kind == "f" else 0, spec.dtype)
        return np.stack([missing if value is None else value for value in values]) if values else missing[None][:0]
    empty = np.empty((0,) * max(1, len(sizes)), spec.dtype)
    ragged = np.empty(len(values), object)
    for index, value in enumerate(values):
        ragged[index] = empty if value is None else value
    return ragged


def _may_lack_first(spec: TensorSpec) -> bool:
    return bool(spec.shape) and (spec.shape[0] in (1, None) or isinstance(spec.shape[0], str))


def _array(value: Any, spec: TensorSpec) -> np.ndarray:
    try:
        array = _dense(np.asarray(value))
    except ValueError as error:
        raise InputError(f"Expected an array, got a ragged one - at input {spec.name!r}") from error
    if array.dtype != spec.dtype and array.dtype.kind in "iu" and spec.dtype.kind in "iu":
        limits = np.iinfo(spec.dtype)
        if array.size and (int(array.min()) < limits.min or int(array.max()) > limits.max):
            raise InputError(f"Expected values that fit {spec.dtype}, got larger ones - at input {spec.name!r}")
        array = array.astype(spec.dtype)
    if array.dtype != spec.dtype:
        raise InputError(f"Expected {spec.dtype}, got {array.dtype} - at input {spec.name!r}",
                         hint="convert the column before this step")  # fmt: skip
    return array


def _dense(array: np.ndarray) -> np.ndarray:
    """Nested lists come out of tables as arrays of arrays."""
    if array.dtype.kind != "O" or not array.ndim:
        return array
    return np.stack([_dense(np.asarray(part)) for part in array])
