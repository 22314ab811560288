"""Arrays in `.npy` and `.npz` files of strangers: plain arrays, or one sentence."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import IO

import numpy as np

from omni_sdk.errors import InputError

MAGICS = (b"\x93NUMPY", b"PK")
"""What `.npy` and `.npz` files begin with."""


def read_arrays(source: str | os.PathLike[str] | IO[bytes]) -> np.ndarray | dict[str, np.ndarray]:
    """Read a `.npy` file, or every array of an `.npz` file.

    Parameters
    ----------
    source : path or binary file

    Returns
    -------
    ndarray or dict of str to ndarray
        The array of a `.npy` file, or the arrays of an `.npz` file by name.

    Raises
    ------
    InputError
        When it cannot be read, is damaged, or holds anything but plain arrays.
    """
    where = source_name(source)
    try:
        data = Path(source).read_bytes() if isinstance(source, (str, os.PathLike)) else source.read()
        if not data.startswith(MAGICS):  # numpy would take it for a pickle, and say how to load that
            raise InputError(f"Expected arrays as .npy or .npz, got another kind of file - at {where}")
        found = np.load(io.BytesIO(data), allow_pickle=False)
        members = {"": found} if isinstance(found, np.ndarray) else dict(found)
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"Expected arrays in a file, got {error.strerror or error} - at {where}") from error
    except Exception as error:  # numpy, zipfile and zlib raise of many kinds on damaged files
        raise InputError(f"Expected plain arrays as .npy or .npz, got something else ({error}) - at {where}") from error
    # Members of a zip file that do not begin as arrays do come out of numpy as bytes.
    others = [name for name, member in members.items() if not isinstance(member, np.ndarray)]
    if others:
        raise InputError(
            f"Expected an .npz file of plain arrays, got a member that is none: {others[0]!r} - at {where}"
        )
    return found if isinstance(found, np.ndarray) else members


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
        When it cannot be read, is damaged, or is no `.npz` file of plain arrays.
    """
    found = read_arrays(path)
    if isinstance(found, np.ndarray):
        raise InputError(f"Expected an .npz file of plain arrays, got one array as .npy - at {path}")
    return found


def source_name(source: str | os.PathLike[str] | IO[bytes]) -> str:
    """What errors call a source: its path, or standard input."""
    return os.fspath(source) if isinstance(source, (str, os.PathLike)) else "standard input"
