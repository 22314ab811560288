"""Manifests of bundles."""

from __future__ import annotations

from omni_sdk import manifest


def read(data: bytes) -> None:
    manifest.parse(data)
