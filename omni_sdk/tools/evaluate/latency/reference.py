"""The built-in example's Code2Wav: its real size, seeded weights, built once and kept."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

import platformdirs

from omni_sdk.bundle import is_bundle
from omni_sdk.tools.evaluate.extras import require

logger = logging.getLogger(__name__)


def reference_model() -> Path:
    """The streaming Code2Wav with reference weights, as a bundle in the user's cache.

    Returns
    -------
    Path
        The bundle; built on the first call, which takes a minute or two and a gigabyte.

    Raises
    ------
    OmniError
        The packages of the extra `export` are not installed, or the disk does not take the files.
    """
    bundle = platformdirs.user_cache_path("omni-sdk") / "reference" / "code2wav"
    if not is_bundle(bundle):
        require("onnx_ir", extra="export")
        from omni_sdk.tools.export import code2wav, reference_checkpoint

        logger.info("Building the reference Code2Wav in %s", bundle)
        bundle.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=bundle.parent) as folder:
            code2wav(reference_checkpoint(Path(folder, "checkpoint"), full=True), bundle)
    return bundle
