"""Which values an input of integers may have, as the graph's own metadata says.

A graph that indexes tables with an input, as a decoder does with codes, carries an entry `range.<input>` with the
least and the highest value, such as `"0 2047"`. Without it a negative code would count from the table's end, and one
that is too high would be looked up among the next quantizer's: neither is an error to ONNX Runtime.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from omni_sdk.errors import InputError

PREFIX = "range."
_RANGE = re.compile(r"(-?[0-9]{1,20}) (-?[0-9]{1,20})")

Range = tuple[int, int]


def entry(name: str, low: int, high: int) -> tuple[str, str]:
    """The metadata that tells the range of an input, both ends included: key and value."""
    return f"{PREFIX}{name}", f"{low} {high}"


def of(metadata: Mapping[str, str]) -> dict[str, Range]:
    """Least and highest value of each input that a graph's metadata tells them of; other entries are not ours."""
    found = {}
    for key, text in metadata.items():
        numbers = _RANGE.fullmatch(text) if key.startswith(PREFIX) else None
        if numbers is not None:
            found[key.removeprefix(PREFIX)] = int(numbers[1]), int(numbers[2])
    return found


def check(array: np.ndarray[Any, Any], name: str, allowed: Range) -> None:
    """Hold an input against its range.

    Parameters
    ----------
    array : ndarray of integers
    name : str
        The input's, for errors.
    allowed : (int, int)
        Least and highest value.

    Raises
    ------
    InputError
        When there is no value at all, or one is out of range: it names the first such value and its position.
    """
    low, high = allowed
    if array.size == 0:
        raise InputError(f"Expected at least one value, got shape {array.shape} - at input {name!r}")
    if array.min() >= low and array.max() <= high:
        return
    position = tuple(int(index[0]) for index in np.nonzero((array < low) | (array > high)))
    raise InputError(f"Expected values from {low} to {high}, got {array[position]} - at input {name!r}{list(position)}")
