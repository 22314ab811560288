"""Makes the golden files of `tests/golden`: tiny checkpoints, codes, and their waveforms by `transformers` on PyTorch.

Run with ``python scripts/make_golden.py`` where the extra `parity` is installed, when a golden case is added. The files
are a promise: an export that no longer gives these waveforms has changed its meaning.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "real"))

from code2wav_in_torch import TorchCode2Wav  # noqa: E402

from omni_sdk.tools.export import reference_checkpoint  # noqa: E402
from omni_sdk.tools.export.config import Config  # noqa: E402

FRAMES = (1, 2, 3, 7, 40)
CASES = {
    "grouped": Config(
        codebook_size=16, num_quantizers=4, hidden_size=16, num_attention_heads=4, num_key_value_heads=2,
        attention_bias=True, sliding_window=5, intermediate_size=24, num_hidden_layers=2, upsampling_ratios=(2,),
        upsample_rates=(3, 2), decoder_dim=16,
    ),
    "plain": Config(
        codebook_size=8, num_quantizers=3, hidden_size=24, num_attention_heads=3, num_key_value_heads=3,
        sliding_window=12, intermediate_size=32, hidden_act="gelu", num_hidden_layers=1, upsampling_ratios=(2, 2),
        upsample_rates=(4, 2, 2), decoder_dim=16, rope_theta=500.0,
    ),
}  # fmt: skip


def main() -> None:
    """Write every case."""
    for seed, (name, config) in enumerate(CASES.items()):
        folder = reference_checkpoint(ROOT / "tests" / "golden" / name, config=config, seed=seed)
        model = TorchCode2Wav(folder)
        source = np.random.default_rng(seed)
        arrays = {}
        for frames in FRAMES:
            codes = source.integers(0, config.codebook_size, (1, config.num_quantizers, frames))
            arrays[f"codes.{frames}"] = codes
            arrays[f"waveform.{frames}"] = model(codes)
        np.savez_compressed(folder / "waveforms.npz", **arrays)
        size = sum(file.stat().st_size for file in folder.iterdir())
        print(f"{folder.relative_to(ROOT)}: {size:,} bytes")


if __name__ == "__main__":
    main()
