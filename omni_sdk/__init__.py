"""omni-sdk: runs audio models on small CPU devices on ONNX Runtime.

>>> import omni_sdk as omni
>>> model = omni.load("code2wav.onnx")
>>> model.warmup({"audio_codes": (1, 16, 128)})
>>> wav = model.infer(audio_codes=codes)["waveform"]
"""

import os

# ONNX Runtime's own packages report on their use over the network, from the first import on, unless this says no.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

from omni_sdk.budget import MemoryUse
from omni_sdk.errors import (
    BundleError,
    ClosedError,
    InputError,
    InternalError,
    MemoryBudgetError,
    ModelError,
    OmniError,
    ProviderError,
    SettingsError,
    StreamError,
)
from omni_sdk.explain import Explanation
from omni_sdk.host import Host
from omni_sdk.model import Model, load
from omni_sdk.settings import Settings
from omni_sdk.settings_check import Finding
from omni_sdk.specs import TensorSpec
from omni_sdk.stats import Stats
from omni_sdk.stream import Stream
from omni_sdk.warmup import WarmupReport
from omni_sdk.window import Window

__all__ = [
    "BundleError",
    "ClosedError",
    "Explanation",
    "Finding",
    "Host",
    "InputError",
    "InternalError",
    "MemoryBudgetError",
    "MemoryUse",
    "Model",
    "ModelError",
    "OmniError",
    "ProviderError",
    "Settings",
    "SettingsError",
    "Stats",
    "Stream",
    "StreamError",
    "TensorSpec",
    "WarmupReport",
    "Window",
    "load",
]


def __dir__() -> list[str]:
    return __all__
