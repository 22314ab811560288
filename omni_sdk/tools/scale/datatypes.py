"""The Open Inference Protocol's names for element types, beside ONNX's and numpy's."""

from __future__ import annotations

import numpy as np

from omni_sdk.errors import ModelError
from omni_sdk.specs import TensorSpec

DATATYPES = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "bfloat16": "BF16",
    "float": "FP32",
    "double": "FP64",
    "string": "BYTES",
}
"""ONNX's name of an element type -> the protocol's."""

BYTES = "BYTES"
BINARY_ONLY = {"BF16"}
"""What JSON has no numbers for."""

FIXED = {
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
"""Types of fixed size as they travel: little-endian, bfloat16 as its bits."""


def datatype_of(spec: TensorSpec) -> str:
    """The protocol's name for a tensor's element type.

    Raises
    ------
    ModelError
        Where the protocol has none: sequences, maps, floats of 8 bits, integers of fewer.
    """
    datatype = DATATYPES.get(spec.type_name) if spec.is_tensor else None
    if datatype is None:
        known = ", ".join(DATATYPES)
        raise ModelError(f"Expected tensors of {known}, got {spec.type} - at {spec.name!r} of the served model")
    return datatype
