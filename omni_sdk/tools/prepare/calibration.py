"""Calibration inputs: the user's own, read, checked, and split into those that calibrate and those that judge."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import xxhash

from omni_sdk.errors import InputError, ModelError
from omni_sdk.tools.archives import read_npz
from omni_sdk.tools.prepare.feeds import Feeds, InputSpec, checked

Calibration: TypeAlias = (
    "str | os.PathLike[str] | Callable[[], Iterable[Mapping[str, Any]]] | Iterable[Mapping[str, Any]]"
)

HELD_OUT_EVERY = 3
"""Every third sample judges and does not calibrate."""

FEWEST = 2
MOST = 64

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Samples:
    """Calibration inputs, split."""

    calibrating: list[Feeds]
    held_out: list[Feeds]
    fingerprint: str  # XXH3-128 over names, types, shapes and content


def read_calibration(calibration: Calibration, specs: Sequence[InputSpec], state: Collection[str] = ()) -> Samples:
    """Read calibration inputs from a folder of `.npz` files, one such file, a callable or an iterable.

    Parameters
    ----------
    calibration : path, callable or iterable
        Each sample maps every input's name to an array; in a folder, each `.npz` is a sample, in order of name. Of more
        than 64 the first 64 are used, with a warning.
    specs : sequence of InputSpec
        The model's inputs.
    state : collection of str
        Inputs of carried state, which samples may leave out: they are zeros then, as in a fresh stream.

    Returns
    -------
    Samples

    Raises
    ------
    InputError
        Where there are fewer than two samples, or one does not fit the model.
    """
    samples: list[Feeds] = []
    digest = xxhash.xxh3_128()
    for where, feeds in _named(calibration):
        if len(samples) == MOST:
            log.warning("the first %d calibration samples are used, and there are more - at calibration", MOST)
            break
        samples.append(checked(feeds, specs, where, state))
        for name, array in sorted(samples[-1].items()):
            digest.update(f"{name} {array.dtype} {array.shape}".encode())
            digest.update(array.data)
    if len(samples) < FEWEST:
        raise InputError(
            f"Expected at least {FEWEST} calibration samples, got {len(samples)} - at calibration",
            hint="one part calibrates, the other judges: a few seconds of typical inputs each",
        )
    held_out = samples[HELD_OUT_EVERY - 1 :: HELD_OUT_EVERY] or samples[-1:]
    chosen = {id(each) for each in held_out}
    return Samples([each for each in samples if id(each) not in chosen], held_out, digest.hexdigest())


@contextmanager
def sample_runs(where: str) -> Iterator[None]:
    """Say of a sample that fits by its shapes, but that the model does not run on, that it is the sample.

    Raises
    ------
    InputError
    """
    try:
        yield
    except ModelError as error:
        raise InputError(f"Expected inputs that the model runs on, got: {error} - at {where}") from error


def calibrating_place(index: int) -> str:
    """What errors call a calibrating sample: by its place among all that were given."""
    return f"calibration sample {index + index // (HELD_OUT_EVERY - 1)}"


def _samples(given: object) -> Iterable[object]:
    if isinstance(given, Mapping) or not isinstance(given, Iterable):
        raise InputError(
            f"Expected a folder of .npz files or an iterable of samples, got {type(given).__name__} - at calibration",
            hint="put a single sample in a list; quantizing needs two at least" if isinstance(given, Mapping) else None,
        )
    return given


def _named(calibration: Calibration) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if callable(calibration):
        calibration = calibration()
    if not isinstance(calibration, (str, os.PathLike)):
        for index, feeds in enumerate(_samples(calibration)):
            where = f"calibration sample {index}"
            if not isinstance(feeds, Mapping):
                raise InputError(
                    f"Expected a mapping from names of inputs to arrays, got {type(feeds).__name__} - at {where}"
                )
            yield where, feeds
        return
    place = Path(calibration)
    paths = sorted(place.glob("*.npz")) if place.is_dir() else [place]
    if not paths or not all(path.is_file() for path in paths):
        raise InputError(f"Expected .npz files, got none - at {place}")
    for path in paths:
        yield str(path), read_npz(path)
