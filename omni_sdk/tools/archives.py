"""Arrays in `.npz` files of strangers: plain arrays, or one sentence."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from omni_sdk.errors import InputError


def read_npz(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Read every array of an `.npz` file.

    Parameters
    ----------
    path : str or os.PathLike

    Returns
    -------
    dict of str to ndarray

    Raises
    ------
    InputError
        When it cannot be read, is damaged, or holds pickled objects.
    """
    try:
        with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return dict(archive)
    except Exception as error:  # numpy, zipfile and zlib raise of many kinds on damaged files
        raise InputError(
            f"Expected an .npz file of plain arrays, got one that cannot be read ({error}) - at {path}"
        ) from error
