"""Arrays in files of strangers."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from omni_sdk.errors import InputError
from omni_sdk.tools.archives import read_arrays, read_npz


def test_arrays_come_back_as_they_were_saved(tmp_path: Path) -> None:
    np.savez(tmp_path / "two.npz", x=np.arange(3), y=np.float32(1))
    np.save(tmp_path / "one.npy", np.arange(4))
    found = read_npz(tmp_path / "two.npz")
    assert found["x"].tolist() == [0, 1, 2] and found["y"].dtype == np.float32
    assert np.array_equal(read_arrays(tmp_path / "one.npy"), np.arange(4))
    assert np.array_equal(read_arrays(io.BytesIO((tmp_path / "one.npy").read_bytes())), np.arange(4))


def test_files_that_are_no_arrays_are_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.npz").write_bytes(b"PK no zip")
    (tmp_path / "empty.npy").write_bytes(b"")
    np.savez(tmp_path / "objects.npz", x=np.array([{}], dtype=object))
    with zipfile.ZipFile(tmp_path / "text.npz", "w") as archive:
        archive.writestr("codes.npy", b"not an array")
    for name in ("bad.npz", "empty.npy", "objects.npz", "text.npz", "gone.npz"):
        with pytest.raises(InputError, match=name):
            read_npz(tmp_path / name)


def test_another_kind_of_file_is_not_called_a_pickle(tmp_path: Path) -> None:
    (tmp_path / "speech.wav").write_bytes(b"RIFF....WAVE")
    with pytest.raises(InputError, match=r"got another kind of file - at .*speech\.wav"):
        read_npz(tmp_path / "speech.wav")


def test_one_array_is_no_archive(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.arange(4))
    with pytest.raises(InputError, match=r"got one array as .npy - at .*one.npy"):
        read_npz(tmp_path / "one.npy")
