"""One-node models of the operators of the domain `omni`, run by ONNX Runtime, and their formulas in float64."""

from __future__ import annotations

import importlib.machinery
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

import omni_sdk

FLOAT, UINT8, INT8 = TensorProto.FLOAT, TensorProto.UINT8, TensorProto.INT8
LIBRARY = Path(omni_sdk.__file__).parent / f"_kernels{importlib.machinery.EXTENSION_SUFFIXES[0]}"
SINE_ERROR = 5e-7  # absolute, of sin(alpha * x)^2
LAYOUTS = pytest.mark.parametrize("channels_last", [0, 1], ids=["channels-first", "channels-last"])
needs_shapes = pytest.mark.skipif(
    tuple(map(int, ort.__version__.split(".")[:2])) < (1, 32), reason="before 1.32 ONNX Runtime is told few shapes"
)
lengths_of_past = pytest.mark.parametrize(
    ("time", "past", "columns"),
    [
        ("t", "5", "(t)-7"),
        ("9", "5", 2),
        ("t", "p", "(t)+(p)-12"),
        ("9", "p", "(p)-3"),
        ("t", "", None),
        ("9", "", None),
    ],
)
"""Of X, and of the past of a kernel of 7 taps 2 apart; the columns that follow, None where nobody can know."""
BYTES = pytest.mark.parametrize("element", [UINT8, INT8], ids=["uint8", "int8"])

Array = np.ndarray[Any, Any]


def supported_variants() -> list[str]:
    if platform.machine() not in ("x86_64", "AMD64"):  # an emulated one may see another processor's flags
        return ["generic"]
    flags = Path("/proc/cpuinfo").read_text().split() if Path("/proc/cpuinfo").exists() else []
    wide = ("avx512f", "avx512bw", "avx512dq", "avx512vl")
    needs = {"generic": (), "avx2": ("avx2", "fma"), "avx512": wide, "vnni": (*wide, "avx512_vnni")}
    return [name for name, wanted in needs.items() if set(wanted) <= set(flags)]


def options(threads: int = 2) -> ort.SessionOptions:
    made = ort.SessionOptions()
    made.intra_op_num_threads = threads
    made.log_severity_level = 4
    made.register_custom_ops_library(str(LIBRARY))
    return made


def model(
    operator: str, feeds: Mapping[str, Array], outputs: Sequence[tuple[str, int]], **attributes: object
) -> onnx.ModelProto:
    """One node over inputs of fixed type and free shape; an output named "" is not asked for."""
    node = helper.make_node(operator, list(feeds), [name for name, _ in outputs], domain="omni", **attributes)
    graph = helper.make_graph(
        [node],
        operator,
        [
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(array.dtype), [f"{name}{i}" for i in range(array.ndim)]
            )
            for name, array in feeds.items()
        ],
        [helper.make_tensor_value_info(name, element, None) for name, element in outputs if name],
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 20), helper.make_opsetid("omni", 1)], ir_version=10
    )


def run(
    operator: str,
    feeds: Mapping[str, Array],
    outputs: Sequence[tuple[str, int]] = (("Y", FLOAT),),
    *,
    threads: int = 2,
    **attributes: object,
) -> list[Array]:
    made = model(operator, feeds, outputs, **attributes)
    session = ort.InferenceSession(made.SerializeToString(), options(threads), providers=["CPUExecutionProvider"])
    return list(session.run(None, dict(feeds)))


def laid(signal: Array, channels_last: int) -> Array:
    """From [N, C, T] to the layout under test."""
    return np.ascontiguousarray(signal.transpose(0, 2, 1)) if channels_last else signal


def snake64(x: Array, alpha: Array, inv_beta: Array) -> Array:
    """The formula in float64 over [N, C, T]."""
    x, alpha, inv_beta = (array.astype(np.float64) for array in (x, alpha[:, None], inv_beta[:, None]))
    return np.asarray(x + inv_beta * np.sin(alpha * x) ** 2)


def parameters(rng: np.random.Generator, channels: int) -> dict[str, Array]:
    return {
        "alpha": np.exp(rng.normal(size=channels) * 0.5).astype(np.float32),
        "inv_beta": np.exp(rng.normal(size=channels) * 0.5).astype(np.float32),
    }


def rounding(reference: Array) -> Array:
    """Twice the spacing of floats there: what two roundings may cost."""
    return 2 * np.spacing(np.abs(reference).astype(np.float32)).astype(np.float64)


def random_bytes(rng: np.random.Generator, element: int, shape: tuple[int, ...]) -> Array:
    limits = np.iinfo(helper.tensor_dtype_to_np_dtype(element))
    return rng.integers(limits.min, limits.max + 1, shape).astype(limits.dtype)


def shuffled(x: Array, stride: int, begin: int, end: int) -> Array:
    """[N, S * C, Q], phase-major, to [N, C, S * Q - begin - end]."""
    batch, channels, columns = x.shape
    phases = x.reshape(batch, stride, channels // stride, columns)
    return phases.transpose(0, 2, 3, 1).reshape(batch, channels // stride, stride * columns)[
        :, :, begin : stride * columns - end
    ]
