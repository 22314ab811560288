"""Code2Wav by `transformers` on PyTorch, as the truth that exports are held against."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from transformers.models.qwen3_omni_moe.configuration_qwen3_omni_moe import Qwen3OmniMoeCode2WavConfig
from transformers.models.qwen3_omni_moe.modeling_qwen3_omni_moe import Qwen3OmniMoeCode2Wav

PREFIX = "code2wav."
SECTION = "code2wav_config"


class TorchCode2Wav:
    """A checkpoint's Code2Wav in float32; the weights are read by the `safetensors` package, not by ours."""

    def __init__(self, checkpoint: Path) -> None:
        section = json.loads((checkpoint / "config.json").read_text())[SECTION]
        section["rope_parameters"] = {"rope_type": "default", "rope_theta": section.pop("rope_theta")}
        self._model = Qwen3OmniMoeCode2Wav(Qwen3OmniMoeCode2WavConfig(**section)).eval()
        weights = load_file(checkpoint / "model.safetensors")
        found = {name.removeprefix(PREFIX): tensor.float() for name, tensor in weights.items()}
        missing, unexpected = self._model.load_state_dict(found, strict=False)
        assert set(missing) <= {"code_offset"} and not unexpected

    def __call__(self, codes: np.ndarray) -> np.ndarray:
        """The waveform [batch, 1, samples] of codes [batch, quantizers, frames]."""
        with torch.inference_mode():
            waveform: np.ndarray = self._model(torch.from_numpy(codes)).numpy()
        return waveform
