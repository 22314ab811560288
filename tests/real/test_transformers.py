"""Exports against `transformers` on PyTorch, to 1e-4, at lengths on both sides of the attention's window.

Skipped where torch and transformers are not installed (`pip install 'omni-sdk[parity]'`). Run with `-s` for the largest
differences.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import omni_sdk as omni
from omni_sdk.tools.export import code2wav, reference_checkpoint
from omni_sdk.tools.export.config import Config
from omni_sdk.tools.export.reference import SMALL

pytest.importorskip("torch", reason="needs the extra 'parity'")
pytest.importorskip("transformers", reason="needs the extra 'parity'")

pytestmark = [pytest.mark.heavy, pytest.mark.filterwarnings("default")]

FRAMES = (1, 2, 3, 7, 72, 73, 128, 200)
TOLERANCE = 1e-4
AUDIBLE = 0.05
"""Least RMS of a waveform that is worth comparing: unit-scale weights give 0.1."""

GROUPED = replace(
    SMALL, num_attention_heads=8, num_key_value_heads=2, head_dim=0, attention_bias=True, sliding_window=9
)
OTHER = replace(
    SMALL, num_quantizers=8, codebook_size=100, hidden_act="gelu", upsampling_ratios=(3,), upsample_rates=(7, 4, 2),
    num_hidden_layers=3, rms_norm_eps=1e-3, rope_theta=500.0,
)  # fmt: skip
CASES = [("small", SMALL, seed) for seed in range(3)] + [
    ("grouped heads, biases, window of 9", GROUPED, 1),
    ("other rates, 8 quantizers, gelu", OTHER, 2),
    ("full size", Config(), 0),
]


@pytest.fixture(params=CASES, ids=[f"{name}, seed {seed}" for name, _, seed in CASES])
def checkpoint(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Config, Path]:
    name, config, seed = request.param
    return f"{name}, seed {seed}", config, reference_checkpoint(tmp_path / "checkpoint", config=config, seed=seed)


def test_both_forms_give_the_waveform_of_transformers(checkpoint: tuple[str, Config, Path], tmp_path: Path) -> None:
    from code2wav_in_torch import TorchCode2Wav

    name, config, folder = checkpoint
    torch_model = TorchCode2Wav(folder)
    source = np.random.default_rng(17)
    for form in ("one-shot", "streaming"):
        code2wav(folder, tmp_path / form, streaming=form == "streaming")
    cases = [source.integers(0, config.codebook_size, (1, config.num_quantizers, frames)) for frames in FRAMES]
    expected = [torch_model(codes) for codes in cases]
    del torch_model
    for form in ("one-shot", "streaming"):
        with omni.load(tmp_path / form, cache_dir=None) as model:
            found = [model.infer(audio_codes=codes)["waveform"] for codes in cases]
        differences = []
        for ours, theirs in zip(found, expected, strict=True):
            assert ours.shape == theirs.shape
            differences.append(float(np.abs(ours - theirs).max()))
        print(f"{name}, {form}:", *(f"{f}: {d:.1e}" for f, d in zip(FRAMES, differences, strict=True)), sep="  ")
        assert max(differences) <= TOLERANCE
    assert np.sqrt(np.mean(expected[-1] ** 2)) > AUDIBLE
