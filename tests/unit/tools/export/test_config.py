"""A configuration is read from old and new files, checked, and counts samples as the architecture does."""

from __future__ import annotations

import pytest

from omni_sdk.errors import ModelError
from omni_sdk.tools.export.config import Config


def test_defaults_are_those_of_the_published_model() -> None:
    config = Config.from_checkpoint({"code2wav_config": {}})
    assert config == Config()
    assert (config.hop, config.first_chunk_deficit, config.head_dim, config.streams) == (1920, 555, 64, True)


@pytest.mark.parametrize("frames", [1, 2, 73, 200])
def test_counts_samples(frames: int) -> None:
    assert Config().samples(frames) == 1920 * frames - 555


def test_each_block_adds_to_the_deficit() -> None:
    deficits = [
        Config(upsample_rates=(8, 5, 4, 3)[:blocks], decoder_dim=1536).first_chunk_deficit for blocks in range(5)
    ]
    assert deficits == [0, 8, 45, 184, 555]


def test_reads_a_code2wav_alone_and_old_and_new_rotary_options() -> None:
    alone = {"model_type": "qwen3_omni_moe_code2wav", "upsample_rates": [4, 2], "rope_theta": 500}
    assert Config.from_checkpoint(alone) == Config(upsample_rates=(4, 2), rope_theta=500)
    new = {"code2wav_config": {"rope_parameters": {"rope_type": "default", "rope_theta": 7.0}, "head_dim": None}}
    assert Config.from_checkpoint(new).rope_theta == 7.0
    old = {"code2wav_config": {"rope_scaling": None, "rope_theta": 7.0, "codebook_dim": 512}}
    assert Config.from_checkpoint(old).rope_theta == 7.0


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"hidden_size": "1024"}, "whole number above 0, got '1024' - at hidden_size"),
        ({"hidden_size": True}, "at hidden_size"),
        ({"num_hidden_layers": 0}, "at num_hidden_layers"),
        ({"hidden_size": 1000}, "multiple of the heads"),
        ({"head_dim": 7}, "even number"),
        ({"num_key_value_heads": 5}, "divisor of 16 heads"),
        ({"hidden_act": "tanhshrink"}, "one of silu, swish, gelu, relu, got 'tanhshrink'"),
        ({"upsample_rates": [8, 0]}, "at upsample_rates"),
        ({"upsample_rates": 8}, "at upsample_rates"),
        ({"upsample_rates": "85"}, "at upsample_rates"),
        ({"decoder_dim": 100}, "multiple of 16"),
        ({"rms_norm_eps": -1.0}, "at rms_norm_eps"),
        ({"rms_norm_eps": float("nan")}, "at rms_norm_eps"),
        ({"attention_bias": 1}, "true or false"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1.0}}, "'default', got 'yarn'"),
        ({"rope_parameters": {"rope_theta": None}}, "at rope_theta"),
        ({"rope_parameters": [1]}, "at rope_parameters"),
        ({"sliding_window": None}, "whole number above 0, got None - at sliding_window"),
        ({"hidden_act": None}, "one of silu, swish, gelu, relu, got None - at hidden_act"),
        ({"upsample_rates": None}, "got None - at upsample_rates"),
        ({"num_hidden_layers": 2, "layer_types": ["sliding_attention"]}, "2 times 'sliding_attention'.*layer_types"),
        ({"num_hidden_layers": 1, "layer_types": ["full_attention"]}, "got .'full_attention'. - at layer_types"),
        ({"layer_types": None}, "got None - at layer_types"),
    ],
)
def test_refuses_values_that_cannot_be_built(values: dict[str, object], says: str) -> None:
    with pytest.raises(ModelError, match=says):
        Config.from_checkpoint({"code2wav_config": values})


def test_layers_that_are_as_they_are_built_may_be_said() -> None:
    values = {"num_hidden_layers": 2, "layer_types": ["sliding_attention"] * 2}
    assert Config.from_checkpoint({"code2wav_config": values}) == Config(num_hidden_layers=2)


def test_names_the_model_type_of_another_model() -> None:
    with pytest.raises(ModelError, match="got model_type 'llama'"):
        Config.from_checkpoint({"model_type": "llama", "hidden_size": 8})


@pytest.mark.parametrize(
    ("ratios", "rates", "streams"), [((2, 2), (8, 5), True), ((1,), (8, 5), False), ((2,), (1, 2), False)]
)
def test_knows_when_one_frame_is_not_enough(ratios: tuple[int, ...], rates: tuple[int, ...], streams: bool) -> None:
    assert Config(upsampling_ratios=ratios, upsample_rates=rates).streams is streams
