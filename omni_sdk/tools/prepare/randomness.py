"""Whether a model gives the same on the same inputs: nothing can be proved of one that does not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir

from omni_sdk.errors import ModelError
from omni_sdk.tools.prepare.differences import TOLERANCE, relative_difference

RANDOM = frozenset(
    ("Bernoulli", "Dropout", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike")
)
"""Operators that may give something else at every run."""


def check_repeats(graph: Path, first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray]) -> None:
    """Refuse a model that is random.

    Parameters
    ----------
    graph : pathlib.Path
        The model.
    first, second : mapping of str to ndarray
        What two runs on the same inputs gave.

    Raises
    ------
    ModelError
        That names the output, and the nodes that are to blame.
    """
    for name, array in first.items():
        difference = relative_difference(array, second[name])
        if difference > TOLERANCE:
            nodes = [f"{node.name or '?'} ({node.op_type})" for node in _random_nodes(graph)]
            raise ModelError(
                f"Expected a model that gives the same on the same inputs, got {difference:.2g} between two runs in "
                f"{name!r}, from random nodes: {', '.join(nodes) or 'none that is known'} - at {graph}",
                hint="make the noise an input of the model, and export dropout for inference",
            )


def _random_nodes(graph: Path) -> list[ir.Node]:
    return [node for node in ir.load(graph).graph.all_nodes() if node.op_type in RANDOM]
