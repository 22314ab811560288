"""Sizes that exercise every feature of the architecture in a few thousand weights, at a hop of 12 samples."""

from __future__ import annotations

from omni_sdk.tools.export.config import Config

TINY = Config(
    codebook_size=16,
    num_quantizers=4,
    hidden_size=16,
    num_attention_heads=4,
    num_key_value_heads=2,
    attention_bias=True,
    sliding_window=5,
    intermediate_size=24,
    num_hidden_layers=2,
    upsampling_ratios=(2,),
    upsample_rates=(3, 2),
    decoder_dim=16,
)
