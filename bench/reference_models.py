"""Writes what bench/RESULTS.md was measured on: the full-size reference Code2Wav in FP32 and in INT8, QDQ and dynamic.

    python bench/reference_models.py FOLDER

INT8 is a plain export by onnxruntime.quantization, as users make it: no rewriting, Conv and MatMul, per channel.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static

from omni_sdk.tools.export import code2wav, reference_checkpoint

OPERATORS = ["Conv", "MatMul"]
CALIBRATION_FRAMES = 12
CALIBRATION_SETS = 3
CODEBOOK = 2048
QUANTIZERS = 16


class Codes(CalibrationDataReader):
    """Seeded random codes."""

    def __init__(self) -> None:
        self._sets = self._make()

    def _make(self) -> Iterator[dict[str, np.ndarray]]:
        source = np.random.default_rng(0)
        for _ in range(CALIBRATION_SETS):
            codes = source.integers(0, CODEBOOK, (1, QUANTIZERS, CALIBRATION_FRAMES), dtype=np.int64)
            yield {"audio_codes": codes}

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._sets, None)


def main(folder: Path) -> None:
    """Export, then quantize twice."""
    reference_checkpoint(folder / "checkpoint", full=True)
    code2wav(folder / "checkpoint", folder / "fp32", streaming=False)
    graph = folder / "fp32" / "model.onnx"
    for name in ("int8", "dynamic"):
        (folder / name).mkdir(exist_ok=True)
    quantize_dynamic(
        graph,
        folder / "dynamic" / "model.onnx",
        op_types_to_quantize=OPERATORS,
        per_channel=True,
        weight_type=QuantType.QUInt8,
    )
    quantize_static(
        graph,
        folder / "int8" / "model.onnx",
        Codes(),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=OPERATORS,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    np.savez(folder / "codes128.npz", audio_codes=np.random.default_rng(1).integers(0, CODEBOOK, (1, QUANTIZERS, 128)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
