"""The Code2Wav section of a checkpoint's configuration, checked, and what follows from it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from omni_sdk.errors import ModelError

MODEL_TYPE = "qwen3_omni_moe_code2wav"
SECTION = "code2wav_config"

DILATIONS = (1, 3, 9)
"""Of the three residual units in each decoder block; the architecture has no option for them."""

KERNEL = 7
"""Taps of every convolution with context; the architecture has no option for it."""

ACTIVATIONS = ("silu", "swish", "gelu", "relu")

LAYER_TYPE = "sliding_attention"
"""Of all layers; the public implementation knows no other, and refuses a window that is null."""

MAY_BE_NULL = ("head_dim",)
"""Options of which null says that they follow from others."""


@dataclass(frozen=True, slots=True)
class Config:
    """Sizes of a Code2Wav decoder; defaults are those of Qwen3-Omni, names those of its `config.json`.

    Raises
    ------
    ModelError
        Where a value has the wrong type or sign, or values do not fit one another.
    """

    codebook_size: int = 2048
    num_quantizers: int = 16
    hidden_size: int = 1024
    num_attention_heads: int = 16
    num_key_value_heads: int = 16
    head_dim: int = 0
    attention_bias: bool = False
    sliding_window: int = 72
    intermediate_size: int = 3072
    hidden_act: str = "silu"
    rms_norm_eps: float = 1e-5
    rope_theta: float = 10000.0
    num_hidden_layers: int = 8
    upsampling_ratios: tuple[int, ...] = (2, 2)
    upsample_rates: tuple[int, ...] = (8, 5, 4, 3)
    decoder_dim: int = 1536

    def __post_init__(self) -> None:
        self._check_values()
        if self.head_dim == 0:
            self._check(self.hidden_size % self.num_attention_heads == 0, "hidden_size", "a multiple of the heads")
            object.__setattr__(self, "head_dim", self.hidden_size // self.num_attention_heads)
        self._check(self.head_dim % 2 == 0, "head_dim", "an even number, for rotary positions")
        grouped = self.num_attention_heads % self.num_key_value_heads == 0
        self._check(grouped, "num_key_value_heads", f"a divisor of {self.num_attention_heads} heads")
        self._check(self.hidden_act in ACTIVATIONS, "hidden_act", f"one of {', '.join(ACTIVATIONS)}")
        halvings = 2 ** len(self.upsample_rates)
        self._check(self.decoder_dim % halvings == 0, "decoder_dim", f"a multiple of {halvings}: each block halves it")

    def _check_values(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(field.default, bool):
                self._check(isinstance(value, bool), field.name, "true or false")
            elif isinstance(field.default, int):
                least = 0 if field.name == "head_dim" else 1
                self._check(type(value) is int and value >= least, field.name, "a whole number above 0")
            elif isinstance(field.default, float):
                fits = type(value) in (int, float) and math.isfinite(value) and value > 0
                self._check(fits, field.name, "a number above 0")
            elif isinstance(field.default, tuple):
                fits = isinstance(value, tuple) and all(type(item) is int and item > 0 for item in value)
                self._check(fits, field.name, "whole numbers above 0")

    def _check(self, fits: bool, name: str, expected: str) -> None:
        if not fits:
            raise ModelError(f"Expected {expected}, got {getattr(self, name)!r} - at {name} of {SECTION}")

    @classmethod
    def from_checkpoint(cls, document: Mapping[str, object]) -> Config:
        """Take the Code2Wav part out of a checkpoint's `config.json`.

        Parameters
        ----------
        document : mapping
            The whole file: of an omni model, which holds `code2wav_config`, or of a Code2Wav alone.

        Returns
        -------
        Config

        Raises
        ------
        ModelError
            Where the file is of another model, or a value cannot be built.
        """
        section = document.get(SECTION, document if document.get("model_type") == MODEL_TYPE else None)
        if not isinstance(section, Mapping):
            raise ModelError(
                f"Expected {SECTION} or model_type {MODEL_TYPE}, got model_type {document.get('model_type')!r}"
                " - at config.json",
                hint="Code2Wav belongs to Qwen3-Omni checkpoints that speak",
            )
        known = {field.name for field in fields(cls)}
        values = {
            name: tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
            for name, value in section.items()
            if name in known and (value is not None or name not in MAY_BE_NULL)
        }
        config = cls(**{**values, **_rotary(section)})  # type: ignore[arg-type]
        _check_layers(section, config.num_hidden_layers)
        return config

    @property
    def hop(self) -> int:
        """Samples per frame, once a stream has begun."""
        return math.prod(self.upsampling_ratios) * math.prod(self.upsample_rates)

    @property
    def first_chunk_deficit(self) -> int:
        """Samples by which the first chunk is short of `hop * frames`: each block makes rate * (L - 1) of L columns."""
        return self.hop - self.samples(1)

    def samples(self, frames: int) -> int:
        """Length of the one-shot waveform.

        Parameters
        ----------
        frames : int
            How many frames go in; at least one.

        Returns
        -------
        int
            `hop * frames - first_chunk_deficit`; not above 0 where the configuration needs more frames.
        """
        columns = frames * math.prod(self.upsampling_ratios)
        for rate in self.upsample_rates:
            columns = rate * (columns - 1)
        return columns

    @property
    def streams(self) -> bool:
        """Whether one frame is enough for every block to give a column, as carried state needs."""
        columns = math.prod(self.upsampling_ratios)
        for rate in self.upsample_rates:
            columns = rate * (columns - 1)
            if columns < 1:
                return False
        return True

    def block_channels(self, block: int) -> int:
        """Channels that go into a decoder block; `block` counts from 0, and one behind the last gives the output's."""
        return self.decoder_dim >> block


def _check_layers(section: Mapping[str, object], count: int) -> None:
    """Refuse layers of another kind than those that are built."""
    types = section.get("layer_types", [LAYER_TYPE] * count)
    if types != [LAYER_TYPE] * count:
        raise ModelError(f"Expected {count} times {LAYER_TYPE!r}, got {types!r:.80} - at layer_types of {SECTION}")


def _rotary(section: Mapping[str, object]) -> dict[str, object]:
    """Rotary options: `rope_parameters` of newer files; `rope_theta` and `rope_scaling` of older ones."""
    found: dict[str, object] = {}
    for name in ("rope_scaling", "rope_parameters"):
        options = section.get(name) or {}
        if not isinstance(options, Mapping):
            raise ModelError(f"Expected an object, got {options!r:.40} - at {name} of {SECTION}")
        kind = options.get("rope_type", options.get("type", "default"))
        if kind != "default":
            raise ModelError(f"Expected rotary positions of type 'default', got {kind!r} - at {name} of {SECTION}")
        if "rope_theta" in options:
            found["rope_theta"] = options["rope_theta"]
    return found
