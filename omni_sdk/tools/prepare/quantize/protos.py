"""Models as onnxruntime.quantization takes them, with no more weights in memory than it looks at.

It reads whole models, weights and all, and writes them to disk several times. Calibration looks at no weight, so it
gets a model whose weights are hollow: declared, and not there. Quantization looks at the weights of its layers alone.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import onnx
from onnx.external_data_helper import load_external_data_for_tensor, uses_external_data

Weights = dict[str, onnx.TensorProto]
"""Initializers by name that say where their data stand, in files beside the model."""


def hollow_out(graph: Path, out: Path) -> Weights:
    """Write a model without its external weights, and return where these are."""
    model = onnx.load(graph, load_external_data=False)
    weights: Weights = {}
    for tensor in filter(uses_external_data, model.graph.initializer):
        weights[tensor.name] = onnx.TensorProto()
        weights[tensor.name].CopyFrom(tensor)
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")
    onnx.save(model, out)
    return weights


def fill_again(graph: Path, weights: Weights) -> None:
    """Let a hollow model, or one made from it, refer to its weights again: it must stand where they do."""
    model = onnx.load(graph, load_external_data=False)
    for tensor in model.graph.initializer:
        if tensor.name in weights:
            tensor.CopyFrom(weights[tensor.name])
    onnx.save(model, graph)


def load_only(graph: Path, nodes: Collection[str]) -> onnx.ModelProto:
    """A model with the weights of the named nodes in memory; all others stay where they are."""
    model = onnx.load(graph, load_external_data=False)
    read = {name for node in model.graph.node if node.name in nodes for name in node.input}
    for tensor in model.graph.initializer:
        if tensor.name in read and uses_external_data(tensor):
            load_external_data_for_tensor(tensor, str(graph.parent))
            tensor.ClearField("external_data")
            tensor.ClearField("data_location")
    return model
