"""Inputs that are the same at every call become constants, and sizes that never change become numbers.

What depends on them alone is then computed once, by the rules: an `If` on a sample rate or on a size becomes the branch
that is taken. Some engines take no `If` whose branches give different ranks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from omni_sdk.errors import InputError, ModelError
from omni_sdk.tools.prepare.differences import TOLERANCE
from omni_sdk.tools.prepare.feeds import Feeds, InputSpec, specs_of
from omni_sdk.tools.prepare.parity import compare, make_trials
from omni_sdk.tools.prepare.rewriting import apply_passes
from omni_sdk.tools.prepare.rules import constant_folding
from omni_sdk.tools.prepare.rules.order import Pass
from omni_sdk.tools.prepare.source import SourceModel
from omni_sdk.tools.saving import save_model

FOLDING = (Pass(constant_folding.TITLE, function=constant_folding.fold),)


def fixed(
    source: SourceModel, values: Mapping[str, Any], shapes: Mapping[str, Sequence[int]], folder: Path, seed: int = 0
) -> SourceModel:
    """The model with these inputs and sizes fixed, saved in a folder; the model itself where there are none.

    Parameters
    ----------
    source : SourceModel
    values : mapping of str to array-like
        Inputs that become constants, by name.
    shapes : mapping of str to sequence of int
        Shapes of inputs, by name.
    folder : pathlib.Path
        Where the fixed model goes.
    seed : int
        Of the made-up inputs on which it is compared with the original.

    Raises
    ------
    ModelError
        When the original does not run at these values and shapes, or the fixed model says another thing.
    InputError
        For a name that is no input, a value that does not fit it, a shape that contradicts it, or both of a name.
    """
    if not values and not shapes:
        return source
    model = source.read()
    inputs = {value.name: value for value in model.graph.inputs}
    for name in (*values, *shapes):
        if name not in inputs:
            raise InputError(f"Expected an input ({', '.join(map(str, inputs))}), got {name!r} - at fix or shapes")
    for name in values.keys() & shapes.keys():
        raise InputError(f"Expected a value or a shape of {name!r}, got both - at fix and shapes")
    for name in values.keys() & source.state.keys():
        raise InputError(f"Expected an input that is no state, got {name!r} - at fix")
    for name, shape in shapes.items():
        inputs[name].shape = ir.Shape(_shape(inputs[name], shape))
    constants = {name: _constant(inputs[name], value) for name, value in values.items()}
    for name, constant in constants.items():
        inputs[name].const_value = ir.tensor(constant, name=name)
        model.graph.inputs.remove(inputs[name])
        model.graph.register_initializer(inputs[name])
    # Shapes inferred for any size may contradict the one size there is now: ONNX Runtime has been seen to crash on such
    # a graph, so it gets to see it only once what is fixed has been folded.
    apply_passes(model, FOLDING, lambda what, done: None)
    common.RemoveUnusedNodesPass()(model)
    path = folder / "fixed.onnx"
    save_model(path, model)
    _prove(source.path, path, specs_of(model), constants, seed)
    return dataclasses.replace(source, path=path)


def _prove(original: Path, path: Path, specs: Sequence[InputSpec], constants: Feeds, seed: int) -> None:
    """`ModelError` where the fixed model says another thing than the original on the same values."""
    differences = compare(path, make_trials(original, specs, seed=seed, constants=constants))
    worst = max(differences, key=lambda difference: difference.relative)
    if not worst.agrees:
        raise ModelError(
            f"Expected outputs within {TOLERANCE:g} of the original's, got {worst.relative:.2g} in {worst.output!r}"
            f" - at fix and shapes"
        )


def _constant(value: ir.Value, given: Any) -> np.ndarray:
    kind = value.dtype or ir.DataType.FLOAT
    dtype = kind.numpy()
    try:
        exact = np.asarray(given)
        with np.errstate(all="ignore"):
            array = exact.astype(dtype)
        holds = dtype in (exact.dtype, np.dtype(object)) or _holds(array, exact, kind.is_floating_point())
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"Expected a value of type {dtype}, got {given!r} - at fix[{value.name!r}]") from error
    if not holds:
        raise InputError(f"Expected a value of type {dtype}, got {given!r} - at fix[{value.name!r}]")
    if not _fits(value, array.shape):
        raise InputError(f"Expected a shape like {value.shape}, got {list(array.shape)} - at fix[{value.name!r}]")
    return array


def _holds(array: np.ndarray, exact: np.ndarray, rounds: bool) -> bool:
    """Whether numbers are still what they were before they were cast; a type of floats may round them."""
    if exact.dtype.kind not in "fiub":
        return False
    return np.array_equal(np.isfinite(array), np.isfinite(exact)) if rounds else np.array_equal(array, exact)


def _shape(value: ir.Value, given: Sequence[int]) -> list[int]:
    sizes = [int(size) for size in given]
    if not _fits(value, sizes):
        raise InputError(f"Expected a shape like {value.shape}, got {sizes} - at shapes[{value.name!r}]")
    return sizes


def _fits(value: ir.Value, sizes: Sequence[int]) -> bool:
    if value.shape is None:
        return True
    same_rank = len(value.shape) == len(sizes)
    return same_rank and all(
        not isinstance(known, int) or known == size for known, size in zip(value.shape, sizes, strict=True)
    )
