"""Quantized models as ONNX text, given to the passes that make `omni::QConv1d` of their layers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
from modeltext import Rewriting, noise, rewriting

from omni_sdk.session import kernels_library
from omni_sdk.tools.prepare.rewriting import settle_shapes
from omni_sdk.tools.prepare.rules.conv1d_node import OUTPUTS
from omni_sdk.tools.prepare.rules.order import QCONV1D_PASSES
from omni_sdk.tools.prepare.sessions import open_session, run

STEP, ZERO = np.float32(0.03), np.uint8(117)
"""How bytes stand for activations, wherever a test does not say otherwise."""

ROUNDING = 1e-5  # of float32 sums of this size
ALIKE_DB = 48.0
"""Reached where bytes differ in a few places at most, and not where a tensor is rounded to bytes once more."""

SIGNAL = "float[N, 8, T] x"
RESULT = "float[N, M, L] y"

TEXT_TYPES = {"float32": "float", "uint8": "uint8", "int8": "int8", "int32": "int32", "int64": "int64"}

Arrays = Mapping[str, np.ndarray]


def pair(value: str, name: str) -> str:
    """Text that quantizes a value and dequantizes it again, as `name`."""
    return f"q_{name} = QuantizeLinear({value}, step, zero) {name} = DequantizeLinear(q_{name}, step, zero) "


def weights(name: str, axis: int = 0) -> str:
    """Text that dequantizes the weights `<name>_bytes`, as `name`."""
    return f"{name} = DequantizeLinear <axis = {axis}> ({name}_bytes, {name}_step, {name}_zero) "


def weight_arrays(name: str, *shape: int, axis: int = 0, per_channel: bool = True, seed: int = 1) -> dict[str, Any]:
    """Bytes, scales and zero points of weights that let a layer's outputs be about as large as its inputs."""
    array = noise(*shape, seed=seed)
    array *= np.sqrt(shape[axis] / array.size) * np.linspace(0.5, 1.5, shape[axis]).reshape(
        [-1 if each == axis else 1 for each in range(len(shape))]
    )
    others = tuple(each for each in range(len(shape)) if each != axis)
    step = (np.abs(array).max(others, keepdims=True) if per_channel else np.abs(array).max(keepdims=True)) / 127
    return {
        f"{name}_bytes": np.rint(array / step).astype(np.int8),
        f"{name}_step": np.float32(step.ravel() if per_channel else step.item()),
        f"{name}_zero": np.zeros(step.size, np.int8) if per_channel else np.int8(0),
    }


def snake_arrays(channels: int) -> dict[str, np.ndarray]:
    return {"alpha": abs(noise(channels, seed=8)) + 0.5, "inv": abs(noise(channels, seed=9)) + 0.5}


def layer(attributes: str = "pads = [0, 0]", inputs: str = "d, w", result: str = "y") -> str:
    return pair("x", "d") + weights("w") + f"{result} = Conv <{attributes}> ({inputs}) "


SNAKE = "{} = omni.Snake ({}, alpha, inv) "
SECOND = weights("v") + "{} = Conv (f, v) "
TWO = {**weight_arrays("w", 8, 8, 3), **weight_arrays("v", 8, 8, 1, seed=2), **snake_arrays(8)}
"""Text that may follow a layer, and the arrays of both."""


def assert_bytes_alike(expected: np.ndarray, got: np.ndarray) -> None:
    """Rounding of what lies between two bytes may go either way, and hardly anything lies so."""
    difference = np.abs(expected.astype(int) - got)
    assert difference.max() <= 1 and np.count_nonzero(difference) <= expected.size // 50


def graph(inputs: str, outputs: str, body: str, arrays: Arrays) -> str:
    """The text of a graph whose initializers are declared as their arrays are."""
    declared = [f"{TEXT_TYPES[str(array.dtype)]}{list(array.shape) or ''} {name}" for name, array in arrays.items()]
    return f"agraph ({', '.join([inputs, *declared])}) => ({outputs}) {{ {body} }}"


class Requantized:
    """A quantized model before and after the passes.

    Parameters
    ----------
    folder : pathlib.Path
        For the models' files.
    inputs, outputs, body : str
        The graph, but for its initializers.
    arrays : mapping of str to array
        The initializers; `step` and `zero` come from here.
    """

    def __init__(self, folder: Path, inputs: str, outputs: str, body: str, arrays: Arrays) -> None:
        self._folder, self._inputs, self._outputs = folder, inputs, outputs
        self.arrays = {"step": STEP, "zero": ZERO, **arrays}
        self._made = self._parsed(body)
        self.reasons: Callable[[str], list[str]] = self._made.reasons
        self.again()

    def again(self) -> None:
        """Run the passes, over what they made where they ran already."""
        for each in QCONV1D_PASSES:
            each(self._made.after, self._made.ledger)
        settle_shapes(self._made.after)

    def _parsed(self, body: str) -> Rewriting:
        named = set(re.findall(r"\w+", body))
        used = {name: array for name, array in self.arrays.items() if name in named}
        return rewriting(self._folder, graph(self._inputs, self._outputs, body, used), **used)

    @property
    def ops(self) -> Counter[str]:
        return self._made.ops

    def nodes(self, op_type: str) -> list[ir.Node]:
        return [node for node in self._made.after.graph if node.op_type == op_type]

    def asked(self, op_type: str, index: int = 0) -> list[str]:
        """Which outputs of a convolution are written."""
        return [name for name, value in zip(OUTPUTS, self.nodes(op_type)[index].outputs, strict=False) if value.name]

    def before(self, feeds: Arrays) -> dict[str, np.ndarray]:
        """What the quantized model gives where every node is computed as it stands."""
        return self._run("before", self._made.before, feeds)

    def of(self, body: str, feeds: Arrays) -> dict[str, np.ndarray]:
        """What a model of another body gives so."""
        return self._run("other", self._parsed(body).before, feeds)

    def after(self, feeds: Arrays) -> dict[str, np.ndarray]:
        return self._run("after", self._made.after, feeds, optimize=True)

    def run_by_onnxruntime(self) -> Counter[str]:
        """Operators that are left once ONNX Runtime has optimized the model."""
        ir.save(self._made.after, self._folder / "after.onnx")
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = str(self._folder / "optimized.onnx")
        options.register_custom_ops_library(str(kernels_library()))
        ort.InferenceSession(str(self._folder / "after.onnx"), options, providers=["CPUExecutionProvider"])
        return Counter(node.op_type for node in ir.load(self._folder / "optimized.onnx").graph)

    def _run(self, name: str, model: ir.Model, feeds: Arrays, optimize: bool = False) -> dict[str, np.ndarray]:
        ir.save(model, self._folder / f"{name}.onnx")
        return run(open_session(self._folder / f"{name}.onnx", threads=1, optimize=optimize), feeds)
