"""Outputs of any kind as plain arrays by name, and on their way between processes.

A model may give sequences, maps and strings too, as ONNX Runtime hands them out: lists, dicts, arrays of objects. Taken
apart into arrays they are compared and carried like any other output.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from omni_sdk.tools.archives import read_npz

Arrays = dict[str, npt.NDArray[Any]]

PLAIN = "fiubcU"
"""Kinds of dtype that `.npz` holds without pickling."""


def plain_arrays(outputs: Mapping[str, Any]) -> Arrays:
    """Every output as an array, or as several.

    Parameters
    ----------
    outputs : mapping
        By name: arrays, or what can be made one; lists of unlike things; mappings.

    Returns
    -------
    dict
        Strings as arrays of strings. A list that makes no array is its parts, `name[0]` and on, and its length,
        `name[]`; a mapping likewise, by its keys.
    """
    found: Arrays = {}
    for name, value in outputs.items():
        _take_apart(name, value, found)
    return found


def write_arrays(path: str | Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write for `read_written`: by position, names first, for a name may be one that `savez` takes for its own."""
    names = np.frombuffer(json.dumps(list(arrays)).encode(), np.uint8)
    np.savez(path, names, *arrays.values())


def read_written(path: str | Path) -> Arrays:
    """What `write_arrays` wrote."""
    content = read_npz(path)
    names = json.loads(content["arr_0"].tobytes())
    return {name: content[f"arr_{position}"] for position, name in enumerate(names, start=1)}


def _take_apart(name: str, value: Any, found: Arrays) -> None:
    if isinstance(value, Mapping):
        parts = {repr(key): part for key, part in value.items()}
    else:
        try:
            array = np.asarray(value)
        except ValueError:  # arrays of unlike shapes
            array = np.empty(0, object)
        if array.dtype.kind not in PLAIN and isinstance(value, np.ndarray):
            # ONNX's strings; bfloat16 and its like.
            array = array.astype(str if array.dtype.kind == "O" else np.float32)
        if array.dtype.kind in PLAIN:
            found[name] = array
            return
        parts = {str(index): part for index, part in enumerate(value)} if isinstance(value, list | tuple) else {}
    found[f"{name}[]"] = np.array(len(parts))
    for key, part in parts.items():
        _take_apart(f"{name}[{key}]", part, found)
