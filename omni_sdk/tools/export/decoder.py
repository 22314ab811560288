"""From frames to samples: ConvNeXt upsampling, then decoder blocks of Snake, transposed and dilated convolutions.

Reference: `Qwen3OmniMoeCode2Wav` of `transformers`. Convolutions are causal and of stride 1. ConvNeXt's gamma is
folded into the matrix before it.
"""

from __future__ import annotations

import onnx_ir as ir

from omni_sdk.tools.export.config import DILATIONS, KERNEL
from omni_sdk.tools.export.forms import Form
from omni_sdk.tools.export.graph import Graph, linear
from omni_sdk.tools.export.transformer import gelu

NORM_EPSILON = 1e-6
"""Of ConvNeXt's LayerNorm; the architecture has no option for it."""

SNAKE_EPSILON = 1e-9
"""Added to Snake's beta before it divides; the architecture has no option for it."""


def upsampler(graph: Graph, form: Form, value: ir.Value) -> ir.Value:
    """Build the stages that multiply the frame rate.

    Parameters
    ----------
    graph : Graph
        Where the nodes go.
    form : Form
        One-shot or streaming.
    value : onnx_ir.Value
        Frames [batch, hidden, frames].

    Returns
    -------
    onnx_ir.Value
        Columns [batch, hidden, frames * product of upsampling_ratios].
    """
    for stage, factor in enumerate(graph.config.upsampling_ratios):
        root = f"upsample.{stage}"
        with graph.scope(f"{root}.0"):
            value = form.upsampled(value, f"{root}.0.conv", factor)
        with graph.scope(f"{root}.1"):
            value = _convnext(graph, form, value, root)
    return value


def decoder(graph: Graph, form: Form, value: ir.Value) -> ir.Value:
    """Build the blocks that turn columns into a waveform.

    Parameters
    ----------
    graph : Graph
        Where the nodes go.
    form : Form
        One-shot or streaming.
    value : onnx_ir.Value
        Columns [batch, hidden, columns].

    Returns
    -------
    onnx_ir.Value
        Waveform [batch, 1, samples], clipped to -1..1.
    """
    config = graph.config
    blocks = len(config.upsample_rates)
    with graph.scope("decoder.0"):
        value = _causal(graph, form, value, "decoder.0", (config.hidden_size, config.decoder_dim), "decoder.0.conv")
    for block in range(blocks):
        value = _block(graph, form, value, block)
    last = config.block_channels(blocks)
    with graph.scope(f"decoder.{blocks + 1}"):
        value = _snake(graph, value, f"decoder.{blocks + 1}", last)
    with graph.scope(name := f"decoder.{blocks + 2}"):
        value = _causal(graph, form, value, name, (last, 1), f"{name}.conv")
    return graph.op("Clip", value, graph.real(-1.0), graph.real(1.0))


def _convnext(graph: Graph, form: Form, value: ir.Value, root: str) -> ir.Value:
    hidden, inner = graph.config.hidden_size, 4 * graph.config.hidden_size
    name = f"{root}.1"
    with graph.scope("dwconv"):
        context = form.context(f"{root}.dwconv", value, hidden, KERNEL - 1)
        weight = graph.tensor(f"{name}.dwconv.conv.weight", (hidden, 1, KERNEL))
        bias = graph.tensor(f"{name}.dwconv.conv.bias", (hidden,))
        mixed = graph.op("Conv", context, weight, bias, kernel_shape=[KERNEL], group=hidden)
    tokens = graph.op("Transpose", mixed, perm=[0, 2, 1])
    norm = [graph.tensor(f"{name}.norm.{part}", (hidden,)) for part in ("weight", "bias")]
    normed = graph.op("LayerNormalization", tokens, *norm, axis=-1, epsilon=NORM_EPSILON)
    with graph.scope("pwconv1"):
        weight = graph.tensor(f"{name}.pwconv1.weight", (inner, hidden), to=lambda matrix: matrix.T)
        wide = linear(graph, normed, weight, graph.tensor(f"{name}.pwconv1.bias", (inner,)))
    wide = gelu(graph, wide)
    with graph.scope("pwconv2"):
        names = [f"{name}.pwconv2.weight", f"{name}.gamma"]
        weight = graph.tensor(names, (hidden, inner), (hidden,), to=lambda matrix, gamma: (matrix * gamma[:, None]).T)
        names = [f"{name}.pwconv2.bias", f"{name}.gamma"]
        bias = graph.tensor(names, (hidden,), (hidden,), to=lambda values, gamma: values * gamma)
        narrow = linear(graph, wide, weight, bias)
    return graph.op("Add", value, graph.op("Transpose", narrow, perm=[0, 2, 1]))


def _block(graph: Graph, form: Form, value: ir.Value, block: int) -> ir.Value:
    root = f"decoder.{block + 1}"
    wide, narrow = graph.config.block_channels(block), graph.config.block_channels(block + 1)
    with graph.scope(f"{root}.block"):
        with graph.scope("0"):
            value = _snake(graph, value, f"{root}.block.0", wide)
        with graph.scope("1"):
            value = form.overlapped(f"{root}.tconv", value, f"{root}.block.1.conv", block)
        for unit, dilation in enumerate(DILATIONS):
            with graph.scope(str(unit + 2)):
                value = _residual(graph, form, value, root, unit, narrow, dilation)
    return value


def _residual(
    graph: Graph, form: Form, value: ir.Value, root: str, unit: int, channels: int, dilation: int
) -> ir.Value:
    name = f"{root}.block.{unit + 2}"
    with graph.scope("act1"):
        inner = _snake(graph, value, f"{name}.act1", channels)
    with graph.scope("conv1"):
        state = f"{root}.res{unit}.conv"
        inner = _causal(graph, form, inner, f"{name}.conv1", (channels, channels), state, dilation)
    with graph.scope("act2"):
        inner = _snake(graph, inner, f"{name}.act2", channels)
    with graph.scope("conv2"):
        weight = graph.tensor(f"{name}.conv2.conv.weight", (channels, channels, 1))
        bias = graph.tensor(f"{name}.conv2.conv.bias", (channels,))
        inner = graph.op("Conv", inner, weight, bias, kernel_shape=[1])
    return graph.op("Add", inner, value)


def _causal(
    graph: Graph, form: Form, value: ir.Value, name: str, channels: tuple[int, int], state: str, dilation: int = 1
) -> ir.Value:
    wide, narrow = channels
    context = form.context(state, value, wide, (KERNEL - 1) * dilation)
    weight = graph.tensor(f"{name}.conv.weight", (narrow, wide, KERNEL))
    bias = graph.tensor(f"{name}.conv.bias", (narrow,))
    return graph.op("Conv", context, weight, bias, kernel_shape=[KERNEL], dilations=[dilation])


def _snake(graph: Graph, value: ir.Value, name: str, channels: int) -> ir.Value:
    """SnakeBeta: `x + sin(e^alpha x)^2 / (e^beta + 1e-9)`, with alpha and beta as the checkpoint has them."""
    alpha, beta = (
        graph.op("Exp", graph.tensor(f"{name}.{part}", (channels,), to=lambda values: values.reshape(1, channels, 1)))
        for part in ("alpha", "beta")
    )
    amplitude = graph.op("Div", graph.real(1.0), graph.op("Add", beta, graph.real(SNAKE_EPSILON)))
    wave = graph.op("Pow", graph.op("Sin", graph.op("Mul", value, alpha)), graph.real(2.0))
    return graph.op("Add", value, graph.op("Mul", amplitude, wave))
