"""How exact one layer is: the operator against float64, on the layer's own weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from omni_sdk.tools.metrics import snr_db
from omni_sdk.tools.prepare.rules.conv1d_node import WEIGHT, number, plain_weights, reach
from omni_sdk.tools.prepare.sessions import open_session, run
from omni_sdk.tools.saving import save_graph

COLUMNS = 48
"""Outputs that are compared: whole tiles of every size."""


def layer_snr_db(direct: Path, tiled: Path, layer: str, seed: int = 0) -> float:
    """Signal-to-noise ratio of a layer's products alone, on normal noise.

    Parameters
    ----------
    direct, tiled : pathlib.Path
        The model with every layer direct, and with tiles; in one folder.
    layer : str
        The node's name.
    seed : int
        Of the noise.

    Returns
    -------
    float
        In dB; infinite where all is exact.
    """
    plain, node = (_node(ir.load(graph), layer) for graph in (direct, tiled))
    weights = plain_weights(plain)().astype(np.float64)
    length = COLUMNS * number(node, "dilation") + reach(node)
    signal = np.random.default_rng(seed).standard_normal((1, length, weights.shape[1])).astype(np.float32)
    alone = tiled.with_name("layer.onnx")
    save_graph(alone, _alone(node))
    got = run(open_session(alone), {"x": signal})["y"]
    return snr_db(_reference(signal[0].astype(np.float64), weights, number(node, "dilation"))[None], got)


def _node(model: ir.Model, name: str) -> ir.Node:
    return next(node for node in model.graph if node.name == name)


def _alone(node: ir.Node) -> ir.Model:
    """A model of one node and its weights, which stay where they are on disk."""
    value = node.inputs[WEIGHT]
    assert value is not None and value.const_value is not None, "weights are constants"
    weight = ir.Value(name="w", const_value=value.const_value, type=value.type, shape=value.shape)
    kept = ("kernel", "tile", "dilation", "out_channels")
    x = ir.val("x", ir.DataType.FLOAT, [1, "time", "channels"])
    attributes = [attribute for name, attribute in node.attributes.items() if name in kept]
    layer = ir.Node("omni", "Conv1d", [x, weight], attributes, version=1, name="layer")
    y = layer.outputs[0]
    y.name, y.type, y.shape = "y", ir.TensorType(ir.DataType.FLOAT), ir.Shape([1, "columns", "outputs"])
    graph = ir.Graph([x], [y], nodes=[layer], initializers=[weight], opset_imports={"": 20, "omni": 1}, name="layer")
    return ir.Model(graph, ir_version=10)


def _reference(signal: NDArray[np.float64], weights: NDArray[np.float64], dilation: int) -> NDArray[np.float64]:
    """The convolution in float64: [time, inputs] and [outputs, inputs, kernel] to [columns, outputs]."""
    kernel = weights.shape[2]
    columns = len(signal) - (kernel - 1) * dilation
    total = np.zeros((columns, weights.shape[0]))
    for tap in range(kernel):
        total += signal[tap * dilation :][:columns] @ weights[:, :, tap].T
    return total
