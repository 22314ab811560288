"""The built-in example's Code2Wav: its real size, seeded weights, prepared for this device, built once and kept."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

import platformdirs

from omni_sdk.bundle import is_bundle
from omni_sdk.tools.evaluate.extras import require

logger = logging.getLogger(__name__)

STEP_FRAMES = 4
"""Of the example's stream, which layers are timed at."""


def reference_model() -> Path:
    """The streaming Code2Wav with reference weights, as a bundle in the user's cache.

    Returns
    -------
    Path
        The bundle; built on the first call, which takes some minutes and, for as long, five gigabytes.

    Raises
    ------
    OmniError
        The packages of the extra `prepare` are not installed, or the disk does not take the files.
    """
    bundle = platformdirs.user_cache_path("omni-sdk") / "reference" / "code2wav"
    if not is_bundle(bundle):
        require("onnxscript", extra="prepare")
        from omni_sdk.tools.export import code2wav, reference_checkpoint
        from omni_sdk.tools.prepare import prepare

        logger.info("Building the reference Code2Wav in %s", bundle)
        bundle.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=bundle.parent) as folder:
            exported = Path(folder, "exported")
            code2wav(reference_checkpoint(Path(folder, "checkpoint"), full=True), exported)
            prepare(exported, bundle, step_frames=(STEP_FRAMES,))
    return bundle
