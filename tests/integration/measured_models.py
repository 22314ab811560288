"""Small models and contenders of the measuring tests; a worker imports this file too."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WIDTH = 256
Run = Callable[[Mapping[str, Any]], dict[str, Any]]


def chain(path: Path, layers: int = 3, factor: float = 1.0) -> Path:
    """`y = tanh(x W) ...` on x [n, 256]."""
    source, nodes, weights, last = np.random.default_rng(0), [], [], "x"
    for layer in range(layers):
        values = (source.standard_normal((WIDTH, WIDTH)) * factor / np.sqrt(WIDTH)).astype("f4")
        weights.append(numpy_helper.from_array(values, f"w{layer}"))
        nodes.append(helper.make_node("MatMul", [last, f"w{layer}"], [f"m{layer}"]))
        last = "y" if layer == layers - 1 else f"t{layer}"
        nodes.append(helper.make_node("Tanh", [f"m{layer}"], [last]))
    value = helper.make_tensor_value_info
    ends = [value("x", TensorProto.FLOAT, ["n", WIDTH])], [value("y", TensorProto.FLOAT, ["n", WIDTH])]
    graph = helper.make_graph(nodes, "chain", *ends, weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def ragged(path: Path) -> Path:
    """An input named `file`; a sequence of unlike tensors and a tensor of strings come out."""
    value, size = helper.make_tensor_value_info, helper.make_tensor("sizes", TensorProto.INT64, [2], [2, 3])
    nodes = [helper.make_node("SplitToSequence", ["file", "sizes"], ["parts"], axis=0),
             helper.make_node("Cast", ["file"], ["words"], to=TensorProto.STRING)]  # fmt: skip
    outputs = [helper.make_tensor_sequence_value_info("parts", TensorProto.FLOAT, None),
               value("words", TensorProto.STRING, [5])]  # fmt: skip
    graph = helper.make_graph(nodes, "ragged", [value("file", TensorProto.FLOAT, [5])], outputs, [size])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def sleeper(model: str) -> Run:
    """A peer with a latency that is known: 3 ms."""

    def run(feeds: Mapping[str, Any]) -> dict[str, Any]:
        time.sleep(0.003)
        return {"y": feeds["x"]}

    return run


def slow_sleeper(model: str) -> Run:
    """A peer of 6 ms, and a start that is half a second longer."""
    time.sleep(0.5)

    def run(feeds: Mapping[str, Any]) -> dict[str, Any]:
        time.sleep(0.006)
        return {"y": feeds["x"]}

    return run


def killed(model: str) -> Run:
    """Is killed while it warms up, as by the kernel."""
    return lambda feeds: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[return-value]


def crashing(model: str) -> Run:
    """Crashes while it loads."""
    os.kill(os.getpid(), signal.SIGSEGV)
    raise AssertionError


def leaving(model: str) -> Run:
    """Ends its process without a word."""
    os._exit(7)


def raising(model: str) -> Run:
    """Cannot take these inputs."""

    def run(feeds: Mapping[str, Any]) -> dict[str, Any]:
        raise ValueError("no such inputs")

    return run


def talkative(model: str) -> Run:
    """Fails with pages of words."""
    raise ValueError("first\n" + "and so on " * 1000)


def hanging(model: str) -> Run:
    """Never comes back."""
    return lambda feeds: time.sleep(3600)  # type: ignore[return-value]


def hanging_with_a_child(model: str) -> Run:
    """Never comes back, nor does a process that it began, whose number is left beside the model."""
    child = subprocess.Popen(["sleep", "3600"])
    Path(model).with_suffix(".child").write_text(str(child.pid))
    return lambda feeds: time.sleep(3600)  # type: ignore[return-value]


def torch_chain(model: str) -> Run:
    """The same model in PyTorch."""
    import torch

    weights = [torch.from_numpy(numpy_helper.to_array(each).copy()) for each in onnx.load(model).graph.initializer]

    def run(feeds: Mapping[str, Any]) -> dict[str, Any]:
        values = torch.from_numpy(feeds["x"])
        for weight in weights:
            values = torch.tanh(values @ weight)
        return {"y": values.numpy()}

    return run
