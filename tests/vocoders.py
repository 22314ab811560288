"""Vocoders in the shapes of two families, with seeded weights, written as exporters write them.

Both are [1, bands, frames] to [1, 1, samples]. The BigVGAN-shaped one has no anti-aliasing filters around its
activations: they are depthwise, and not what is fused here.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir

from omni_sdk.tools.saving import save_model


class Net:
    """A graph under construction whose layers keep the scale of their input near one.

    Parameters
    ----------
    bands : int
        Channels of the input.
    seed : int
        Of the weights.
    """

    def __init__(self, bands: int, seed: int) -> None:
        self.input = ir.val("x", ir.DataType.FLOAT, [1, bands, "frames"])
        self._source = np.random.default_rng(seed)
        self._graph = ir.Graph([self.input], [], nodes=[], name="vocoder", opset_imports={"": 18})
        self._count = 0

    def op(self, kind: str, *inputs: ir.Value | np.ndarray, **attributes: int | list[int]) -> ir.Value:
        """A node; arrays become initializers."""
        values = [self._constant(each) if isinstance(each, np.ndarray) else each for each in inputs]
        node = ir.node(kind, values, attributes)
        self._graph.append(node)
        return node.outputs[0]

    def conv(
        self, x: ir.Value, inputs: int, outputs: int, kernel: int, dilation: int = 1, gain: float = 1.0
    ) -> ir.Value:
        """A convolution that keeps the length."""
        pad = (kernel - 1) * dilation // 2
        weight = self._normal((outputs, inputs, kernel), gain / np.sqrt(inputs * kernel))
        return self.op("Conv", x, weight, self._normal((outputs,), 0.05), pads=[pad, pad], dilations=[dilation])

    def upsample(self, x: ir.Value, inputs: int, outputs: int, stride: int) -> ir.Value:
        """A transposed convolution of twice the stride, trimmed to `stride` times the length where that is even."""
        weight = self._normal((inputs, outputs, 2 * stride), 1 / np.sqrt(2 * inputs))
        pad = -(-stride // 2)
        return self.op(
            "ConvTranspose", x, weight, self._normal((outputs,), 0.05), strides=[stride], pads=[pad, stride - pad]
        )

    def snake(self, x: ir.Value, channels: int) -> ir.Value:
        """x + 1 / (alpha + 1e-9) * sin(alpha x)^2."""
        alpha = np.exp(self._normal((1, channels, 1), 0.3))
        wave = self.op("Pow", self.op("Sin", self.op("Mul", x, alpha)), np.float32([2.0]).reshape(()))
        scale = self.op("Reciprocal", self.op("Add", self._constant(alpha), np.float32([1e-9]).reshape(())))
        return self.op("Add", x, self.op("Mul", scale, wave))

    def save(self, waveform: ir.Value, path: Path) -> Path:
        """Write the model."""
        waveform.name, waveform.type = "waveform", ir.TensorType(ir.DataType.FLOAT)
        waveform.shape = ir.Shape([1, 1, "samples"])
        self._graph.outputs.append(waveform)
        save_model(path, ir.Model(self._graph, ir_version=10))
        return path

    def _normal(self, shape: tuple[int, ...], spread: float) -> np.ndarray:
        return (self._source.standard_normal(shape) * spread).astype(np.float32)

    def _constant(self, array: np.ndarray) -> ir.Value:
        name = f"c{self._count}"
        self._count += 1
        value = ir.Value(name=name, const_value=ir.tensor(array, name=name), shape=ir.Shape(array.shape))
        value.type = ir.TensorType(ir.DataType.from_numpy(array.dtype))
        self._graph.register_initializer(value)
        return value


def dac(path: Path, *, bands: int = 8, width: int = 32, rates: tuple[int, ...] = (4, 2), seed: int = 0) -> Path:
    """A decoder like DAC's: each stage Snake, transposed convolution, three residual units of dilation 1, 3 and 9."""
    net = Net(bands, seed)
    x = net.conv(net.input, bands, width, 7)
    for rate in rates:
        x, width = net.upsample(net.snake(x, width), width, width // 2, rate), width // 2
        for dilation in (1, 3, 9):
            inner = net.conv(net.snake(x, width), width, width, 7, dilation)
            x = net.op("Add", x, net.conv(net.snake(inner, width), width, width, 1, gain=0.3))
    return net.save(net.op("Tanh", net.conv(net.snake(x, width), width, 1, 7, gain=0.1)), path)


def bigvgan(path: Path, *, bands: int = 8, width: int = 32, rates: tuple[int, ...] = (4, 2), seed: int = 0) -> Path:
    """A generator like BigVGAN's: each stage a transposed convolution, then the mean of three residual blocks."""
    net = Net(bands, seed)
    x = net.conv(net.input, bands, width, 7)
    for rate in rates:
        x, width = net.upsample(x, width, width // 2, rate), width // 2
        total = None
        for kernel in (3, 7, 11):
            branch = x
            for dilation in (1, 3, 5):
                inner = net.conv(net.snake(branch, width), width, width, kernel, dilation)
                inner = net.conv(net.snake(inner, width), width, width, kernel, gain=0.3)
                branch = net.op("Add", inner, branch)
            total = branch if total is None else net.op("Add", total, branch)
        x = net.op("Div", total, np.float32([3.0]).reshape(()))
    return net.save(net.op("Tanh", net.conv(net.snake(x, width), width, 1, 7, gain=0.1)), path)
