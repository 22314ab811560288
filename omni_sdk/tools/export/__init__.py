"""Code2Wav from a checkpoint's tensors to ONNX, one-shot and streaming, without PyTorch."""

from omni_sdk.tools.export.build import code2wav
from omni_sdk.tools.export.reference import reference_checkpoint

__all__ = ["code2wav", "reference_checkpoint"]
