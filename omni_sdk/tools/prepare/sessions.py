"""ONNX Runtime sessions as this package opens them: on the CPU, with a known number of threads, quiet."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from omni_sdk import cpu
from omni_sdk.errors import ModelError
from omni_sdk.session import explained, kernels_library

LOG_FATAL_ONLY = 4  # errors come as exceptions, with our words before them


def has_operators() -> bool:
    """Whether this installation has the library of the domain `omni`."""
    try:
        kernels_library()
    except ModelError:
        return False
    return True


def open_session(
    graph: str | os.PathLike[str],
    *,
    threads: int | None = None,
    optimize: bool = True,
    memory_pattern: bool = False,
    profile: Path | None = None,
) -> ort.InferenceSession:
    """Open a model on the CPU provider.

    Parameters
    ----------
    graph : str or os.PathLike
        The `.onnx` file.
    threads : int, optional
        Of the operators' pool; by default the physical cores that this process may really use, as `load` takes.
    optimize : bool, default True
        Let ONNX Runtime optimize the graph as it does by default.
    memory_pattern : bool, default False
        Plan memory by shape: pays only where the same shape comes again and again.
    profile : pathlib.Path, optional
        Where to write a profile, as a prefix of its name; ending it is the caller's business.

    Raises
    ------
    ModelError
        With what ONNX Runtime said, where it cannot load the model.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or cpu.usable_cores()
    options.log_severity_level = LOG_FATAL_ONLY
    options.enable_mem_pattern = memory_pattern
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, str(profile)
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        if has_operators():
            options.register_custom_ops_library(str(kernels_library()))
        return ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ModelError(
            f"Expected a model that ONNX Runtime loads, got: {explained(error)[0]} - at {graph}"
        ) from error


def run(session: ort.InferenceSession, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Run a session.

    Raises
    ------
    ModelError
        With what ONNX Runtime said, where the run fails.
    """
    names = [output.name for output in session.get_outputs()]
    try:
        return dict(zip(names, session.run(names, dict(feeds)), strict=True))
    except Exception as error:
        shapes = ", ".join(f"{name} {list(np.shape(array))}" for name, array in feeds.items())
        raise ModelError(f"Expected a model that runs, got: {explained(error)[0]} - at {shapes}") from error
