"""More than one machine: batches on Ray Data, serving on Ray Serve, repositories for Triton.

`InferBatches` and `build` need the extra `ray`; `export_triton` and `plan` do not.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from omni_sdk.errors import OmniError
from omni_sdk.tools.scale.sizing import Plan, plan
from omni_sdk.tools.scale.triton import export_triton

if TYPE_CHECKING:
    from omni_sdk.tools.scale.batches import InferBatches
    from omni_sdk.tools.scale.deployment import build

__all__ = ["InferBatches", "Plan", "build", "export_triton", "plan"]

_NEED_RAY = {"InferBatches": "batches", "build": "deployment"}


def __getattr__(name: str) -> Any:
    """Import what needs Ray when it is asked for."""
    if name not in _NEED_RAY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        importlib.import_module("ray.serve")
    except ImportError as error:
        raise OmniError(
            f"Expected the package ray, got none installed - at {__name__}.{name}", hint="pip install 'omni-sdk[ray]'"
        ) from error
    return getattr(importlib.import_module(f"{__name__}.{_NEED_RAY[name]}"), name)
