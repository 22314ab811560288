"""What `prepare` can be asked for, checked before any work."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from omni_sdk.errors import BundleError, InputError, OmniError, SettingsError
from omni_sdk.tools.prepare.calibration import Calibration
from omni_sdk.tools.prepare.rules.order import CONV1D_PASSES, PASSES, QCONV1D_PASSES, QUANTIZED_PASSES
from omni_sdk.tools.prepare.sessions import has_operators
from omni_sdk.tools.saving import full, is_full

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
    if not _is_sequence(skip):
        raise SettingsError(f"Expected a sequence of passes, got {skip!r} - at skip")
    titles = list(dict.fromkeys(each.title for each in (*PASSES, *CONV1D_PASSES, *QUANTIZED_PASSES, *QCONV1D_PASSES)))
    if unknown := [title for title in skip if title not in titles]:
        raise SettingsError(f"Expected passes out of {', '.join(titles)}, got {', '.join(map(str, unknown))} - at skip")


def check_quality(min_snr_db: float, min_fp32_snr_db: float, step_frames: Sequence[int]) -> None:
    """Refuse targets of quality and sizes of steps that cannot be.

    Raises
    ------
    SettingsError
        That names the argument.
    """
    for name, decibels in (("min_snr_db", min_snr_db), ("min_fp32_snr_db", min_fp32_snr_db)):
        is_number = isinstance(decibels, (int, float, np.integer, np.floating)) and not isinstance(decibels, bool)
        if not is_number or not 0 <= decibels <= MOST_DECIBELS:
            raise SettingsError(f"Expected decibels from 0 to {MOST_DECIBELS}, got {decibels!r} - at {name}")
    if not _is_sequence(step_frames):
        raise SettingsError(
            f"Expected a sequence of sizes, got {step_frames!r} - at step_frames", hint="such as step_frames=(128, 4)"
        )
    if wrong := [each for each in step_frames if not is_whole(each, 1)]:
        raise SettingsError(f"Expected sizes of at least 1, got {wrong[0]!r} - at step_frames")


def check_run(threads: int | None, seed: int) -> None:
    """Refuse numbers of threads and seeds that are none.

    Raises
    ------
    SettingsError
        That names the argument.
    """
    if threads is not None and not is_whole(threads, 1):
        raise SettingsError(
            f"Expected a number of threads of at least 1, got {threads!r} - at threads",
            hint="leave it out for the cores that this process may use",
        )
    if not is_whole(seed, 0):
        raise SettingsError(f"Expected a whole number of at least 0, got {seed!r} - at seed")


def check_fixed(fix: object, shapes: object) -> None:
    """Refuse fixed inputs and shapes that are not given by name; what each of them is, is the model's to say.

    Raises
    ------
    InputError
        That names the argument.
    """
    for name, given in (("fix", fix), ("shapes", shapes)):
        if given is not None and not isinstance(given, Mapping):
            raise InputError(f"Expected a mapping from names of inputs, got {given!r:.80} - at {name}")
    for name, shape in shapes.items() if isinstance(shapes, Mapping) else ():
        if not _is_sequence(shape) or not all(is_whole(size, 1) for size in shape):
            raise InputError(
                f"Expected sizes of at least 1, got {shape!r:.80} - at shapes[{name!r}]", hint="such as (1, 16, 128)"
            )


def is_whole(value: object, least: int) -> bool:
    """Whether a value is a whole number of at least `least`, and no truth value."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and int(value) >= least


def _is_sequence(value: object) -> bool:
    """Whether a value is a sequence of things, and no text."""
    return isinstance(value, (Sequence, np.ndarray)) and not isinstance(value, (str, bytes))


@contextmanager
def room_on_disk(place: Path) -> Iterator[None]:
    """Say in our words that the disk became full, whichever library wrote.

    Raises
    ------
    BundleError
        Where there was no room left.
    """
    try:
        yield
    except OmniError:
        raise
    except Exception as error:
        if not is_full(error):
            raise
        raise full(place.absolute().parent) from error


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
