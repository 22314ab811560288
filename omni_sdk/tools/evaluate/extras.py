"""Imports what an extra brings, or says which command brings it."""

from __future__ import annotations

import importlib
from typing import Any

from omni_sdk.errors import OmniError


def require(module: str, *, extra: str = "eval") -> Any:
    """Import an optional package.

    Parameters
    ----------
    module : str
        Its import name.
    extra : str
        The extra of this package that brings it.

    Returns
    -------
    module
        The package; untyped, as most of them are.

    Raises
    ------
    OmniError
        It is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise OmniError(
            f"Expected the package {module.partition('.')[0]}, got none installed - at omni_sdk.tools.evaluate",
            hint=f"pip install 'omni-sdk[{extra}]'",
        ) from error
