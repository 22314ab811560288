"""The transformer before the decoder: attention over a sliding window with rotary positions, then SwiGLU.

Reference: `Qwen3OmniMoeCode2WavTransformerModel` of `transformers`. Layer scale is folded into the matrices before
it, the softmax's scale into the queries', and matrices that share an input are merged; each costs one rounding of a
weight.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from omni_sdk.tools.export.forms import Form
from omni_sdk.tools.export.graph import Graph, linear

ROOT = "pre_transformer"
MASKED = -1e30
"""What is added to a masked score: far below any score, yet finite, so that no row can become NaN."""


def transformer(graph: Graph, form: Form, value: ir.Value) -> ir.Value:
    """Build all layers and the norm behind them.

    Parameters
    ----------
    graph : Graph
        Where the nodes go.
    form : Form
        One-shot or streaming.
    value : onnx_ir.Value
        Frames [batch, frames, hidden].

    Returns
    -------
    onnx_ir.Value
        Frames of the same shape.
    """
    with graph.scope(ROOT):
        rotation = _rotation(graph, form.positions())
        mask = _mask(graph, form)
        for layer in range(graph.config.num_hidden_layers):
            with graph.scope(f"layers.{layer}"):
                value = _layer(graph, form, value, layer, rotation, mask)
        with graph.scope("norm"):
            return _rms_norm(graph, value, f"{ROOT}.norm")


def _layer(
    graph: Graph, form: Form, value: ir.Value, layer: int, rotation: tuple[ir.Value, ir.Value], mask: ir.Value
) -> ir.Value:
    root = f"{ROOT}.layers.{layer}"
    with graph.scope("input_layernorm"):
        normed = _rms_norm(graph, value, f"{root}.input_layernorm")
    with graph.scope("self_attn"):
        value = graph.op("Add", value, _attention(graph, form, normed, layer, rotation, mask))
    with graph.scope("post_attention_layernorm"):
        normed = _rms_norm(graph, value, f"{root}.post_attention_layernorm")
    with graph.scope("mlp"):
        return graph.op("Add", value, _mlp(graph, normed, root))


def _rms_norm(graph: Graph, value: ir.Value, name: str) -> ir.Value:
    weight = graph.tensor(f"{name}.weight", (graph.config.hidden_size,))
    squares = graph.op("ReduceMean", graph.op("Pow", value, graph.real(2.0)), graph.whole(-1), keepdims=1)
    deviation = graph.op("Sqrt", graph.op("Add", squares, graph.real(graph.config.rms_norm_eps)))
    return graph.op("Mul", graph.op("Div", value, deviation), weight)


def _rotation(graph: Graph, positions: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Cosines, and sines with the rotation's sign, each [frames, head_dim]; angles are float32 as in the reference."""
    config = graph.config
    exponents = np.arange(0, config.head_dim, 2, dtype=np.float32) / np.float32(config.head_dim)
    frequencies = (1.0 / np.float32(config.rope_theta) ** exponents).astype(np.float32)
    with graph.scope("rotary_emb"):
        column = graph.op("Unsqueeze", graph.op("Cast", positions, to=ir.DataType.FLOAT), graph.whole(1))
        angles = graph.op("Mul", column, graph.constant(frequencies[None]))
        if graph.dtype != ir.DataType.FLOAT:
            angles = graph.op("Cast", angles, to=graph.dtype)
        cosines, sines = graph.op("Cos", angles), graph.op("Sin", angles)
        signed = graph.op("Concat", graph.op("Neg", sines), sines, axis=-1)
        return graph.op("Concat", cosines, cosines, axis=-1), signed


def _mask(graph: Graph, form: Form) -> ir.Value:
    """What is added to scores, [frames, keys]: 0 where query - window < key <= query and key >= 0."""
    with graph.scope("mask"):
        queries = graph.op("Unsqueeze", form.positions(), graph.whole(1))
        last = graph.op("Gather", form.positions(), graph.whole(-1))
        numbers = (graph.op("Squeeze", graph.op("Add", last, graph.whole(1))), graph.constant(np.array(1, np.int64)))
        keys = graph.op("Range", graph.op("Squeeze", form.keys_start()), *numbers)
        distance = graph.op("Sub", queries, keys)
        near = graph.op("Less", distance, graph.whole(graph.config.sliding_window))
        past = graph.op("GreaterOrEqual", distance, graph.whole(0))
        real = graph.op("GreaterOrEqual", keys, graph.whole(0))
        seen = graph.op("And", graph.op("And", near, past), real)
        return graph.op("Where", seen, graph.real(0.0), graph.real(MASKED))


def _attention(
    graph: Graph, form: Form, value: ir.Value, layer: int, rotation: tuple[ir.Value, ir.Value], mask: ir.Value
) -> ir.Value:
    config = graph.config
    root = f"{ROOT}.layers.{layer}.self_attn"
    heads, kept, size = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    groups = heads // kept
    merged = linear(graph, value, *_projections(graph, root))
    turned, straight = graph.ops("Split", 2, merged, graph.whole((heads + kept) * size, kept * size), axis=-1)
    queries, keys = graph.ops(
        "Split", 2, _rotated(graph, _by_head(graph, turned, heads + kept), rotation), graph.whole(heads, kept), axis=1
    )
    keys = form.extended(f"{layer}.key", keys)
    values = form.extended(f"{layer}.value", _by_head(graph, straight, kept))
    if groups > 1:
        queries = graph.op("Reshape", queries, graph.whole(0, kept, groups, -1, size))
        keys, values = (graph.op("Unsqueeze", each, graph.whole(2)) for each in (keys, values))
    order = [0, 1, 3, 2] if groups == 1 else [0, 1, 2, 4, 3]
    scores = graph.op("Add", graph.op("MatMul", queries, graph.op("Transpose", keys, perm=order)), mask)
    mixed = graph.op("MatMul", graph.op("Softmax", scores, axis=-1), values)
    if groups > 1:
        mixed = graph.op("Reshape", mixed, graph.whole(0, heads, -1, size))
    joined = graph.op("Reshape", graph.op("Transpose", mixed, perm=[0, 2, 1, 3]), graph.whole(0, 0, heads * size))
    return linear(graph, joined, *_scaled(graph, f"{root}.o_proj", f"{root}_layer_scale", heads * size))


def _projections(graph: Graph, root: str) -> tuple[ir.Value, ir.Value | None]:
    """Queries, keys and values in one matrix; the softmax's scale stands in the queries' part."""
    config = graph.config
    scale = config.head_dim**-0.5
    names = [f"{root}.{part}_proj" for part in "qkv"]
    widths = [heads * config.head_dim for heads in (config.num_attention_heads, *[config.num_key_value_heads] * 2)]

    def merge(queries: np.ndarray, keys: np.ndarray, values: np.ndarray) -> np.ndarray:
        merged: np.ndarray = np.concatenate([queries * scale, keys, values]).T
        return merged

    shapes = [(width, config.hidden_size) for width in widths]
    weight = graph.tensor([f"{name}.weight" for name in names], *shapes, to=merge)
    if not config.attention_bias:
        return weight, None
    return weight, graph.tensor([f"{name}.bias" for name in names], *[(width,) for width in widths], to=merge)


def _by_head(graph: Graph, value: ir.Value, heads: int) -> ir.Value:
    """From [batch, frames, heads * size] to [batch, heads, frames, size]."""
    apart = graph.op("Reshape", value, graph.whole(0, 0, heads, graph.config.head_dim))
    return graph.op("Transpose", apart, perm=[0, 2, 1, 3])


def _rotated(graph: Graph, value: ir.Value, rotation: tuple[ir.Value, ir.Value]) -> ir.Value:
    cosines, signed_sines = rotation
    half = graph.config.head_dim // 2
    first, second = graph.ops("Split", 2, value, graph.whole(half, half), axis=-1)
    swapped = graph.op("Concat", second, first, axis=-1)
    return graph.op("Add", graph.op("Mul", value, cosines), graph.op("Mul", swapped, signed_sines))


def _mlp(graph: Graph, value: ir.Value, root: str) -> ir.Value:
    config = graph.config
    inner, hidden = config.intermediate_size, config.hidden_size
    names = [f"{root}.mlp.gate_proj.weight", f"{root}.mlp.up_proj.weight"]
    weight = graph.tensor(names, *[(inner, hidden)] * 2, to=lambda gate, up: np.concatenate([gate, up]).T)
    gate, up = graph.ops("Split", 2, linear(graph, value, weight), graph.whole(inner, inner), axis=-1)
    product = graph.op("Mul", _activated(graph, gate), up)
    down = graph.tensor(
        [f"{root}.mlp.down_proj.weight", f"{root}.mlp_layer_scale.scale"],
        (hidden, inner),
        (hidden,),
        to=lambda matrix, scale: (matrix * scale[:, None]).T,
    )
    return linear(graph, product, down)


def _scaled(graph: Graph, name: str, scale: str, width: int) -> tuple[ir.Value, ir.Value | None]:
    """An output matrix with the layer scale behind it folded in."""
    hidden = graph.config.hidden_size
    weight = graph.tensor(
        [f"{name}.weight", f"{scale}.scale"],
        (hidden, width),
        (hidden,),
        to=lambda matrix, factors: (matrix * factors[:, None]).T,
    )
    if not graph.config.attention_bias:
        return weight, None
    bias = graph.tensor([f"{name}.bias", f"{scale}.scale"], (hidden,), (hidden,), to=lambda b, factors: b * factors)
    return weight, bias


def _activated(graph: Graph, value: ir.Value) -> ir.Value:
    kind = graph.config.hidden_act
    if kind == "relu":
        return graph.op("Relu", value)
    if kind == "gelu":
        return gelu(graph, value)
    return graph.op("Mul", value, graph.op("Sigmoid", value))


def gelu(graph: Graph, value: ir.Value) -> ir.Value:
    """The exact form by the error function, `x / 2 * (1 + erf(x / sqrt(2)))`; ONNX Runtime fuses it."""
    error = graph.op("Erf", graph.op("Div", value, graph.real(np.sqrt(2.0))))
    return graph.op("Mul", graph.op("Mul", value, graph.op("Add", error, graph.real(1.0))), graph.real(0.5))
