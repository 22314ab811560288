"""Prepare models: rewrite, fuse and quantize them for this device, and prove that they still say the same."""

from omni_sdk.tools.prepare.api import prepare
from omni_sdk.tools.prepare.report import Report

__all__ = ["Report", "prepare"]
