"""A model and what its bundle says of it, of one and the same bundle."""

from __future__ import annotations

from os import PathLike
from types import EllipsisType

from omni_sdk.bundle import Bundle, Manifest, is_bundle
from omni_sdk.errors import BundleError
from omni_sdk.model import Model, load
from omni_sdk.settings import Settings

TRIES = 5


def load_with_manifest(
    path: str | PathLike[str], settings: Settings, cache_dir: str | PathLike[str] | EllipsisType | None = ...
) -> tuple[Model, Manifest | None]:
    """Load a model together with its bundle's manifest; a bundle that is replaced meanwhile is loaded anew.

    Parameters
    ----------
    path : path
        A bundle or an `.onnx` file, which has no manifest.
    settings : Settings
    cache_dir : path or None, optional
        As for `omni_sdk.load`.

    Raises
    ------
    ModelError, BundleError
        As `omni_sdk.load` does, and when the bundle is replaced again and again.
    """
    for _ in range(TRIES):
        bundle = Bundle.open(path) if is_bundle(path) else None
        model = load(path, settings, cache_dir=cache_dir)
        if bundle is None and not is_bundle(path):
            return model, None
        if bundle is not None and bundle.is_current():
            return model, bundle.manifest
        model.close()
    raise BundleError(f"Expected a bundle that stands still, got one that was replaced {TRIES} times - at {path}")
