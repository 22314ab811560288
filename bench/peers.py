"""Other engines on the same weights, each on its best settings. What is not installed is skipped by the suite."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from omni_sdk.tools.metrics import snr_db

RUNS = 3


@dataclass(frozen=True, slots=True)
class PeerResult:
    """One engine at one setting."""

    name: str
    seconds: float
    snr_db: float


def openvino(graphs: dict[str, Path], feeds: dict[str, np.ndarray], expected: np.ndarray) -> Iterator[PeerResult]:
    """OpenVINO at static shapes: each graph in f32, the first in bf16 as well."""
    import openvino as ov

    core = ov.Core()
    for number, (name, graph) in enumerate(graphs.items()):
        for precision in ("f32", "bf16") if number == 0 else ("f32",):
            model = core.read_model(graph)
            model.reshape({key: list(array.shape) for key, array in feeds.items()})
            compiled = core.compile_model(
                model, "CPU", {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
            )
            request = compiled.create_infer_request()
            seconds, output = _timed(lambda request=request: next(iter(request.infer(feeds).values())))
            yield PeerResult(f"OpenVINO {name} {precision}", seconds, snr_db(expected, output))


def pytorch(checkpoint: Path, feeds: dict[str, np.ndarray], expected: np.ndarray) -> Iterator[PeerResult]:
    """PyTorch eager, compiled, and in bf16."""
    import torch

    model, codes = _transformers_model(checkpoint), torch.from_numpy(feeds["audio_codes"])
    with torch.inference_mode():
        settings = {"eager": model, "compile": torch.compile(model, dynamic=False)}
        for name, module in settings.items():
            seconds, output = _timed(lambda module=module: module(codes).numpy())
            yield PeerResult(f"PyTorch {name}", seconds, snr_db(expected, output))
        half = model.to(torch.bfloat16)
        seconds, output = _timed(lambda: half(codes).float().numpy())
        yield PeerResult("PyTorch bf16", seconds, snr_db(expected, output))


def _transformers_model(checkpoint: Path):
    import json

    from safetensors.torch import load_file
    from transformers.models.qwen3_omni_moe.configuration_qwen3_omni_moe import Qwen3OmniMoeCode2WavConfig
    from transformers.models.qwen3_omni_moe.modeling_qwen3_omni_moe import Qwen3OmniMoeCode2Wav

    section = json.loads((checkpoint / "config.json").read_text())["code2wav_config"]
    model = Qwen3OmniMoeCode2Wav(Qwen3OmniMoeCode2WavConfig(**section)).eval()
    (file,) = checkpoint.glob("*.safetensors")
    tensors = {name.removeprefix("code2wav."): tensor.float() for name, tensor in load_file(file).items()}
    missing = model.load_state_dict(tensors, strict=False).missing_keys
    assert not [name for name in missing if "inv_freq" not in name and "code_offset" not in name], missing
    return model


def _timed(function) -> tuple[float, np.ndarray]:
    output = function()
    seconds = []
    for _ in range(RUNS):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return min(seconds), np.array(output)
