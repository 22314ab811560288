"""What the contenders are fed: made up from the model's specs, read from `.npz` files, or made by a function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omni_sdk.errors import InputError
from omni_sdk.specs import TensorSpec
from omni_sdk.tools.evaluate.callables import load_callable

Feeds = dict[str, NDArray[Any]]
Shapes = Mapping[str, Sequence[int]]
Values = Mapping[str, Any]
"""Of made-up inputs, by name: one number for every element, or the whole array as lists."""

HIGHEST_INTEGER = 2
"""Made-up integers are 0 or 1: any table, flag or count bears these."""


def make_up(specs: Sequence[TensorSpec], shapes: Shapes, seed: int, values: Values | None = None) -> Feeds:
    """Feeds from what a model says of its inputs: normal floats, integers 0 or 1.

    Parameters
    ----------
    specs : sequence of TensorSpec
    shapes : mapping of str to shape
        Of the inputs with symbolic dimensions; the others may be left out.
    seed : int
    values : mapping of str to number or lists, optional
        Of inputs that nothing else will do for, such as a sample rate.

    Raises
    ------
    InputError
        When a symbolic dimension has no size, a shape or a value does not fit, or an input is no tensor of numbers.
    """
    values = values or {}
    for given, what in ((shapes, "shapes"), (values, "values")):
        unknown = sorted(given.keys() - {spec.name for spec in specs})
        if unknown:
            known = ", ".join(spec.name for spec in specs)
            raise InputError(f"Expected {what} of {known}, got {unknown[0]!r} - at {what}")
    source = np.random.default_rng(seed)
    return {
        spec.name: _given(spec, shapes.get(spec.name), values[spec.name])
        if spec.name in values
        else _array(spec, _shape(spec, shapes.get(spec.name)), source)
        for spec in specs
    }


def call(name: str) -> Feeds:
    """Feeds from a function `module:function` that takes nothing and returns a mapping of arrays.

    Raises
    ------
    InputError
        When it cannot be imported, raises, or returns something else.
    """
    try:
        made = load_callable(name, folder=Path.cwd())()
        return {str(key): np.asarray(value) for key, value in dict(made).items()}
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # an exit would end the command, with status 0 as if all were well
        raise InputError(f"Expected arrays by name, got {type(error).__name__}: {error} - at {name}") from error


def _given(spec: TensorSpec, shape: Sequence[int] | None, value: Any) -> NDArray[Any]:
    where = f"at values[{spec.name!r}]"
    _check_numbers(spec)
    try:
        exact = np.asarray(value)
        with np.errstate(all="ignore"):
            array = exact.astype(spec.dtype)
    except (ValueError, TypeError, OverflowError) as error:
        raise InputError(f"Expected numbers of type {spec.type_name}, got {value!r} - {where}") from error
    is_number = exact.dtype.kind in "fiub"
    if not is_number or np.any(np.isfinite(exact) & np.isinf(array) if spec.dtype.kind == "f" else exact != array):
        raise InputError(f"Expected numbers of type {spec.type_name}, got {value!r} - {where}")
    if array.ndim == 0:
        return np.full(_shape(spec, shape), array)
    fitting = _shape(spec, array.shape)
    if shape is not None and tuple(shape) != fitting:
        raise InputError(f"Expected a value of the shape {list(shape)}, got {list(fitting)} - {where}")
    return array


def _shape(spec: TensorSpec, given: Sequence[int] | None) -> tuple[int, ...]:
    if given is None and spec.symbols:
        example = ",".join("1" if not isinstance(size, int) else str(size) for size in spec.shape)
        raise InputError(
            f"Expected a size for each symbolic dimension, got none - at input {spec}",
            hint=f"give its shape, such as --shape {spec.name}={example}, or inputs from a file",
        )
    shape = tuple(given if given is not None else (size for size in spec.shape if isinstance(size, int)))
    fits = len(shape) == len(spec.shape) and all(
        not isinstance(size, int) or size == mine for size, mine in zip(spec.shape, shape, strict=True)
    )
    if not fits or min(shape, default=1) < 1:
        raise InputError(f"Expected a shape that fits {spec}, got {list(shape)} - at shapes[{spec.name!r}]")
    return shape


def _array(spec: TensorSpec, shape: tuple[int, ...], source: np.random.Generator) -> NDArray[Any]:
    _check_numbers(spec)
    if spec.dtype.kind == "f":
        return source.standard_normal(shape).astype(spec.dtype)
    return source.integers(0, HIGHEST_INTEGER, shape).astype(spec.dtype)


def _check_numbers(spec: TensorSpec) -> None:
    if spec.element is None:
        raise InputError(f"Expected a tensor of numbers, got {spec.type} - at input {spec.name}", hint="give an .npz")
