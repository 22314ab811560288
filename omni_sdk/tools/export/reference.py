"""Reference checkpoints: seeded weights in Hugging Face layout, to test and to measure with.

Trained weights are 60 GB away; random ones of the right scale exercise every layer as well. `unit` weights follow the
variance of the activations from layer to layer by formula, so that each layer's output has a scale near one and the
waveform that of speech, far from clipping. `init` weights are what the library's class starts training from.
"""

from __future__ import annotations

import json
import math
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from omni_sdk.errors import ModelError
from omni_sdk.tools.export import safetensors
from omni_sdk.tools.export.checkpoint import CONFIG, INDEX, PREFIX, SINGLE
from omni_sdk.tools.export.config import DILATIONS, KERNEL, SECTION, Config

SMALL = Config(
    hidden_size=32,
    num_attention_heads=4,
    num_key_value_heads=4,
    intermediate_size=64,
    num_hidden_layers=2,
    decoder_dim=64,
)
"""Sizes for tests: the default's sample accounting and state names at a thousandth of its work."""

MARK = "omni_sdk_reference"
"""Key in `config.json` by which a reference checkpoint is known and may be replaced."""

RESIDUAL_GAIN = 0.5
LAYER_SCALE = 0.3
SHARPNESS = 1.5
"""Standard deviation of attention scores: keys differ, and none drowns the others."""

LOUDNESS = 0.1
"""RMS of the waveform: -20 dB of full scale, as speech is commonly levelled."""

SNAKE_SPREAD = 0.3
BIAS = 0.05
INIT_SPREAD = 0.02
GELU_POWER = 0.425
SILU_POWER = 0.356
"""Mean squares of the activations on standard normal input, by numerical integration."""

MIXING_POWER = 0.18
"""Mean square of an attention's output on values of mean square one, as measured at this sharpness."""

Weights = Literal["unit", "init"]


@dataclass(frozen=True, slots=True)
class _Tensor:
    """One tensor: normal with this mean and spread; `settled` kernels sum to zero, which keeps silence level."""

    name: str
    shape: tuple[int, ...]
    spread: float
    mean: float = 0.0
    settled: bool = False

    def values(self, seed: int) -> np.ndarray:
        source = np.random.default_rng([seed, zlib.crc32(self.name.encode())])
        array = source.standard_normal(self.shape, dtype=np.float32)
        array *= np.float32(self.spread)
        array += np.float32(self.mean)
        return array - array.mean(axis=-1, keepdims=True) if self.settled else array


def reference_checkpoint(
    folder: str | os.PathLike[str],
    *,
    full: bool = False,
    seed: int = 0,
    weights: Weights = "unit",
    dtype: Literal["BF16", "F16", "F32"] = "BF16",
    config: Config | None = None,
) -> Path:
    """Write a checkpoint with seeded weights.

    Parameters
    ----------
    folder : str or os.PathLike
        Where it goes; an earlier reference checkpoint there is replaced.
    full : bool, default False
        Qwen3-Omni's own sizes, 216 million parameters, instead of small ones for tests.
    seed : int, default 0
        Seed of all weights; each tensor has a stream of its own.
    weights : "unit" or "init", default "unit"
        Scaled so that every layer's output has a scale near one; or as the library initializes them for training.
    dtype : "BF16", "F16" or "F32", default "BF16"
        What the weights are stored in.
    config : Config, optional
        Other sizes; goes before `full`.

    Returns
    -------
    pathlib.Path
        The folder.

    Raises
    ------
    ModelError
        Where another checkpoint stands in the folder, or the disk does not take the files.
    """
    place = Path(folder)
    sizes = config or (Config() if full else SMALL)
    make = _unit if weights == "unit" else _init
    _check_replaceable(place)
    section = {name: value for name, value in asdict(sizes).items() if name != "head_dim"}
    if sizes.head_dim * sizes.num_attention_heads != sizes.hidden_size:
        section["head_dim"] = sizes.head_dim
    document = {"model_type": "qwen3_omni_moe", MARK: {"seed": seed, "weights": weights}, SECTION: section}

    def maker(tensor: _Tensor) -> Callable[[], np.ndarray]:
        return lambda: tensor.values(seed)

    try:
        place.mkdir(parents=True, exist_ok=True)
        listed = [(PREFIX + tensor.name, tensor.shape, maker(tensor)) for tensor in make(sizes)]
        # At every instant the folder may be replaced, and holds no weights but those that its configuration tells of.
        (place / SINGLE).unlink(missing_ok=True)
        (place / CONFIG).write_text(json.dumps(document, indent=1) + "\n")
        safetensors.write(place / SINGLE, listed, dtype)
    except OSError as error:
        raise ModelError(f"Expected to write a checkpoint, got {error.strerror or error} - at {place}") from error
    return place


def _check_replaceable(place: Path) -> None:
    try:
        ours = MARK in json.loads((place / CONFIG).read_bytes())
    except (OSError, ValueError):
        ours = False
    if not ours and any((place / name).exists() for name in (CONFIG, SINGLE, INDEX)):
        raise ModelError(
            f"Expected a new folder or a reference checkpoint to replace, got another checkpoint - at {place}",
            hint="choose another folder",
        )


def _init(config: Config) -> Iterator[_Tensor]:
    """What the library's class starts from: normal weights, biases and Snakes 0, norms 1, faint residuals."""
    means = {"scale": 0.01, "gamma": 1e-6, "alpha": 0.0, "beta": 0.0, "bias": 0.0}
    for tensor in _unit(config):
        parent, part = tensor.name.rsplit(".", 2)[-2:]
        if "norm" in parent:
            means_of_norm = {"weight": 1.0, "bias": 0.0}
            yield _Tensor(tensor.name, tensor.shape, 0.0, means_of_norm[part])
        elif part in means:
            yield _Tensor(tensor.name, tensor.shape, 0.0, means[part])
        else:
            yield _Tensor(tensor.name, tensor.shape, INIT_SPREAD)


def _unit(config: Config) -> Iterator[_Tensor]:
    rows = config.codebook_size * config.num_quantizers
    yield _Tensor("code_embedding.weight", (rows, config.hidden_size), math.sqrt(config.num_quantizers))
    for layer in range(config.num_hidden_layers):
        yield from _unit_layer(config, f"pre_transformer.layers.{layer}")
    yield _Tensor("pre_transformer.norm.weight", (config.hidden_size,), 0.1, 1.0)
    power = 1.0
    for stage, factor in enumerate(config.upsampling_ratios):
        yield from _convolution(f"upsample.{stage}.0.conv", (config.hidden_size,) * 2 + (factor,), power, taps=1)
        yield from _unit_convnext(config.hidden_size, f"upsample.{stage}.1")
        power = 1.0 + LAYER_SCALE**2
    yield from _convolution("decoder.0.conv", (config.decoder_dim, config.hidden_size, KERNEL), power)
    power = 1.0
    blocks = len(config.upsample_rates)
    for block in range(blocks):
        yield from _unit_block(config, block, power)
        power = 1.0 + len(DILATIONS) * RESIDUAL_GAIN**2
    last = config.block_channels(blocks)
    yield from _snake(f"decoder.{blocks + 1}", last)
    spread = LOUDNESS / math.sqrt((KERNEL - 1) * last * _snake_power(power))
    yield _Tensor(f"decoder.{blocks + 2}.conv.weight", (1, last, KERNEL), spread, settled=True)
    yield _Tensor(f"decoder.{blocks + 2}.conv.bias", (1,), 0.0)


def _unit_layer(config: Config, root: str) -> Iterator[_Tensor]:
    hidden, inner, size = config.hidden_size, config.intermediate_size, config.head_dim
    queries, kept = config.num_attention_heads * size, config.num_key_value_heads * size
    attention = f"{root}.self_attn"
    scored = math.sqrt(SHARPNESS / hidden)
    for part, width, inputs, spread in (
        ("q", queries, hidden, scored),
        ("k", kept, hidden, scored),
        ("v", kept, hidden, 1 / math.sqrt(hidden)),
        ("o", hidden, queries, 1 / math.sqrt(MIXING_POWER * queries)),
    ):
        yield _Tensor(f"{attention}.{part}_proj.weight", (width, inputs), spread)
        if config.attention_bias:
            yield _Tensor(f"{attention}.{part}_proj.bias", (width,), BIAS)
    for part in ("gate", "up"):
        yield _Tensor(f"{root}.mlp.{part}_proj.weight", (inner, hidden), 1 / math.sqrt(hidden))
    yield _Tensor(f"{root}.mlp.down_proj.weight", (hidden, inner), 1 / math.sqrt(SILU_POWER * inner))
    for part in ("input_layernorm", "post_attention_layernorm"):
        yield _Tensor(f"{root}.{part}.weight", (hidden,), 0.1, 1.0)
    for part in ("self_attn", "mlp"):
        yield _Tensor(f"{root}.{part}_layer_scale.scale", (hidden,), 0.1 * LAYER_SCALE, LAYER_SCALE)


def _unit_convnext(hidden: int, root: str) -> Iterator[_Tensor]:
    inner = 4 * hidden
    yield from _convolution(f"{root}.dwconv.conv", (hidden, 1, KERNEL), 1.0)
    yield _Tensor(f"{root}.norm.weight", (hidden,), 0.1, 1.0)
    yield _Tensor(f"{root}.norm.bias", (hidden,), BIAS)
    yield _Tensor(f"{root}.pwconv1.weight", (inner, hidden), 1 / math.sqrt(hidden))
    yield _Tensor(f"{root}.pwconv1.bias", (inner,), BIAS)
    yield _Tensor(f"{root}.pwconv2.weight", (hidden, inner), 1 / math.sqrt(GELU_POWER * inner))
    yield _Tensor(f"{root}.pwconv2.bias", (hidden,), BIAS)
    yield _Tensor(f"{root}.gamma", (hidden,), 0.1 * LAYER_SCALE, LAYER_SCALE)


def _unit_block(config: Config, block: int, power: float) -> Iterator[_Tensor]:
    root = f"decoder.{block + 1}.block"
    wide, narrow, rate = config.block_channels(block), config.block_channels(block + 1), config.upsample_rates[block]
    yield from _snake(f"{root}.0", wide)
    yield from _convolution(f"{root}.1.conv", (wide, narrow, 2 * rate), _snake_power(power), taps=2)
    power = 1.0
    for unit in range(len(DILATIONS)):
        name = f"{root}.{unit + 2}"
        yield from _snake(f"{name}.act1", narrow)
        yield from _convolution(f"{name}.conv1.conv", (narrow, narrow, KERNEL), _snake_power(power))
        yield from _snake(f"{name}.act2", narrow)
        yield from _convolution(f"{name}.conv2.conv", (narrow, narrow, 1), _snake_power(1.0) / RESIDUAL_GAIN**2)
        power += RESIDUAL_GAIN**2


def _convolution(root: str, shape: tuple[int, ...], power: float, taps: int | None = None) -> Iterator[_Tensor]:
    """Weight and bias for inputs of this mean square; `taps` marks a transposed one: columns that an output sees."""
    summed = shape[1] * shape[2] if taps is None else shape[0] * taps
    yield _Tensor(f"{root}.weight", shape, 1 / math.sqrt(summed * power))
    yield _Tensor(f"{root}.bias", (shape[0] if taps is None else shape[1],), BIAS)


def _snake(root: str, channels: int) -> Iterator[_Tensor]:
    for part in ("alpha", "beta"):
        yield _Tensor(f"{root}.{part}", (channels,), SNAKE_SPREAD)


def _snake_power(power: float) -> float:
    """Mean square of `x + sin(a x)^2 / b` for normal x of mean square `power`, over lognormal a and b.

    The cross term is odd and vanishes; E sin^4(a x) = 3/8 - exp(-2 a^2 power)/2 + exp(-8 a^2 power)/8.
    """
    nodes, masses = np.polynomial.hermite_e.hermegauss(24)
    scale = np.exp(2 * SNAKE_SPREAD * nodes) * power
    fourth = 3 / 8 - np.exp(-2 * scale) / 2 + np.exp(-8 * scale) / 8
    return power + float(fourth @ masses / masses.sum()) * math.exp(2 * SNAKE_SPREAD**2)
