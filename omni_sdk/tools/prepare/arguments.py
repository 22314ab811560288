"""What `prepare` can be asked for, checked before any work."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

from omni_sdk.errors import BundleError, InputError, SettingsError
from omni_sdk.tools.prepare.calibration import Calibration
from omni_sdk.tools.prepare.rules.order import CONV1D_PASSES, PASSES
from omni_sdk.tools.prepare.sessions import has_operators

log = logging.getLogger(__name__)

TARGETS = ("cpu", "openvino")
ROOM = 5.0
"""Free disk space asked for, as a multiple of the model's size: two rewritten copies, tiled or quantized weights, and
the bundle."""

MOST_DECIBELS = 200


def check_target(target: str, skip: Sequence[str]) -> None:
    """Refuse targets and passes that do not exist.

    Raises
    ------
    SettingsError
        That lists what exists.
    """
    if target not in TARGETS:
        raise SettingsError(f"Expected {' or '.join(TARGETS)}, got {target!r} - at target")
    titles = [each.title for each in (*PASSES, *CONV1D_PASSES)]
    if unknown := [title for title in skip if title not in titles]:
        raise SettingsError(f"Expected passes out of {', '.join(titles)}, got {', '.join(unknown)} - at skip")


def check_quality(min_snr_db: float, min_fp32_snr_db: float, step_frames: Sequence[int]) -> None:
    """Refuse targets of quality and sizes of steps that cannot be.

    Raises
    ------
    SettingsError
        That names the argument.
    """
    for name, decibels in (("min_snr_db", min_snr_db), ("min_fp32_snr_db", min_fp32_snr_db)):
        if not 0 <= decibels <= MOST_DECIBELS:
            raise SettingsError(f"Expected decibels from 0 to {MOST_DECIBELS}, got {decibels} - at {name}")
    if wrong := [each for each in step_frames if isinstance(each, bool) or not isinstance(each, int) or each < 1]:
        raise SettingsError(f"Expected sizes of at least 1, got {wrong[0]!r} - at step_frames")


def check_calibration(quantizing: bool, calibration: Calibration | None) -> None:
    """Refuse to quantize from nothing.

    Raises
    ------
    InputError
        Where there is nothing to calibrate with.
    """
    if quantizing and calibration is None:
        raise InputError(
            "Expected calibration inputs to quantize with, got none - at calibration",
            hint="a folder of .npz files with typical inputs; random ones say nothing about real ones",
        )


def can_use_operators(target: str) -> bool:
    """Whether the target has the `omni` operators; without their library nothing is fused, which is worth a warning."""
    if target != "cpu":
        return False
    if not has_operators():
        log.warning("This installation has no _kernels library: activations stay as they are")
        return False
    return True


def make_parent(place: Path) -> Path:
    """The folder that a bundle goes to, made if need be.

    Raises
    ------
    BundleError
        Where it cannot be made.
    """
    parent = place.absolute().parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BundleError(f"Expected a folder to write in, got {error.strerror or error} - at {parent}") from error
    return parent


def check_room(place: Path, size: int) -> None:
    """Refuse to begin on a disk that is too full.

    Raises
    ------
    BundleError
        That says how many bytes are wanted.
    """
    free, wanted = shutil.disk_usage(make_parent(place)).free, int(ROOM * size)
    if free < wanted:
        raise BundleError(
            f"Expected {wanted} bytes free to work in, got {free} - at {place}",
            hint="choose another disk for the bundle",
        )
