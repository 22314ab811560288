"""Arrays for a model's inputs, of shapes that a caller names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from omni_sdk.errors import InputError
from omni_sdk.feeds import check_shape, nearest
from omni_sdk.specs import TensorSpec
from omni_sdk.states import shapes_at_first

Shapes = Mapping[str, Sequence[int]]
Make = Callable[[np.dtype[Any], tuple[int, ...]], np.ndarray]


def sets(shapes: object) -> list[Any]:
    """What a warm-up was asked for, as a list of mappings: none given is one that names no input."""
    if shapes is None or isinstance(shapes, Mapping):
        return [shapes or {}]
    if not isinstance(shapes, Sequence) or isinstance(shapes, (str, bytes)):
        raise _no_mapping(shapes)
    return list(shapes)


def completed(
    shapes: Shapes, pairs: Mapping[str, str], inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> Shapes:
    """Shapes of a streaming form's inputs: states that are left out, all of them, have those of a stream's first step.

    Parameters
    ----------
    shapes : mapping of str to shape
    pairs : mapping of str to str
        State input -> state output.
    inputs, outputs : sequence of TensorSpec
        Of the model.
    """
    if not isinstance(shapes, Mapping):
        raise _no_mapping(shapes)
    if not pairs or pairs.keys() & shapes.keys():
        return shapes
    told = {name: tuple(shape) for name, shape in shapes.items() if isinstance(shape, Sequence)}
    return {**shapes, **shapes_at_first(pairs, inputs, outputs, told)}


def arrays(shapes: Shapes, specs: Sequence[TensorSpec], make: Make) -> dict[str, np.ndarray]:
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
    unknown = [name for name in shapes if all(spec.name != name for spec in specs)]
    if unknown:
        hint = nearest([spec.name for spec in specs], unknown[0])
        raise InputError(f"Expected shapes of the model's inputs, got one for {unknown[0]!r} - at shapes", hint=hint)
    made = {}
    for spec in specs:
        if spec.element is None:
            raise InputError(f"Expected inputs that are tensors of numbers, got {spec} - at shapes")
        shape: Any = shapes.get(spec.name, spec.shape)
        if not isinstance(shape, Sequence) or not all(_is_size(size) for size in shape):
            raise InputError(f"Expected a size for every dimension, got {shape} - at shapes[{spec.name!r}]")
        try:
            made[spec.name] = make(spec.dtype, tuple(map(int, shape)))
        except (MemoryError, OverflowError, ValueError) as error:
            raise InputError(
                f"Expected a shape that memory can hold, got {tuple(shape)} - at shapes[{spec.name!r}]"
            ) from error
        check_shape(made[spec.name], spec, f"shapes[{spec.name!r}]")
    return made


def zeros(shapes: Shapes, specs: Sequence[TensorSpec]) -> dict[str, np.ndarray]:
    """As `arrays`, of zeros; of the lowest value where an input's range has no zero in it."""
    made = arrays(shapes, specs, lambda dtype, shape: np.zeros(shape, dtype))
    for spec in specs:
        low, high = spec.allowed or (0, 0)
        # A range beyond what the dtype holds allows nothing at all: the check of the feeds says so.
        if spec.allowed and not low <= 0 <= high and np.iinfo(spec.dtype).min <= low <= np.iinfo(spec.dtype).max:
            made[spec.name].fill(low)
    return made


def _is_size(size: object) -> bool:
    return isinstance(size, (int, np.integer)) and bool(size >= 0)


def _no_mapping(shapes: object) -> InputError:
    return InputError(
        f"Expected a mapping of input names to shapes, got {type(shapes).__name__} - at shapes",
        hint="name the inputs: {'input': (1, 80, 100)}",
    )
