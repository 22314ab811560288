"""The safetensors reader believes nothing, and reads back what the writer wrote."""

from __future__ import annotations

import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from omni_sdk.errors import ModelError
from omni_sdk.tools.export import safetensors


def forge(path: Path, header: object, data: bytes = b"", *, length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)
    return path


def tensor(dtype: object = "F32", shape: object = (2,), offsets: object = (0, 8)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize(
    ("dtype", "numpy_dtype"), [("BF16", ml_dtypes.bfloat16), ("F16", np.float16), ("F32", np.float32), ("F64", float)]
)
def test_what_is_written_is_read_back(tmp_path: Path, dtype: str, numpy_dtype: type) -> None:
    arrays = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b.c": np.float32([[-1.5]]), "empty": np.zeros((0, 4))}
    path = tmp_path / "x.safetensors"
    safetensors.write(path, [(n, a.shape, lambda a=a: a) for n, a in arrays.items()], dtype)
    entries = safetensors.entries(path)
    assert list(entries) == list(arrays)
    for name, array in arrays.items():
        back = safetensors.read(path, name, entries[name])
        assert back.dtype == numpy_dtype
        np.testing.assert_array_equal(back.astype(np.float64), array)


def test_rounds_to_nearest_bfloat16(tmp_path: Path) -> None:
    value = np.float32([1 + 2**-8 + 2**-12])
    safetensors.write(tmp_path / "x", [("a", (1,), lambda: value)], "BF16")
    back = safetensors.read(tmp_path / "x", "a", safetensors.entries(tmp_path / "x")["a"])
    assert back.astype(np.float32) == np.float32(1 + 2**-7)


def test_agrees_with_the_safetensors_package(tmp_path: Path) -> None:
    package = pytest.importorskip("safetensors.numpy", reason="the safetensors package is not installed")
    array = np.arange(12, dtype=np.float16).reshape(3, 4)
    package.save_file({"theirs": array}, tmp_path / "theirs")
    entries = safetensors.entries(tmp_path / "theirs")
    np.testing.assert_array_equal(safetensors.read(tmp_path / "theirs", "theirs", entries["theirs"]), array)
    safetensors.write(tmp_path / "ours", [("ours", (3, 4), lambda: array)], "F16")
    np.testing.assert_array_equal(package.load_file(tmp_path / "ours")["ours"], array)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "0 bytes that announce"),
        (b"\x01\x00", "2 bytes that announce"),
        (b"\xff" * 8, "announce a header of 18446744073709551615"),
        ((100).to_bytes(8, "little") + b"{}", "announce a header of 100"),
        ((2).to_bytes(8, "little") + b"[]", "JSON object as header, got list"),
        ((2).to_bytes(8, "little") + b"{x", "header in JSON"),
        ((4).to_bytes(8, "little") + b'"\xff\xfe"', "header in JSON"),
        ((100_000).to_bytes(8, "little") + b"[" * 100_000, "header in JSON"),
    ],
)
def test_refuses_a_header_that_lies(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "hostile"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=says):
        safetensors.entries(path)


def test_refuses_a_huge_header_without_reading_it(tmp_path: Path) -> None:
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.write((1 << 40).to_bytes(8, "little"))
        file.truncate((1 << 40) + 8)
    with pytest.raises(ModelError, match="header of at most 100000000 bytes, got 1099511627776"):
        safetensors.entries(path)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        (tensor(offsets=[0, 16]), "within 8 bytes"),
        (tensor(offsets=[8, 0]), "within 8 bytes"),
        (tensor(offsets=[-8, 0]), "whole numbers"),
        (tensor(offsets=[0.0, 8.0]), "whole numbers"),
        (tensor(offsets=[False, 8]), "whole numbers"),
        (tensor(offsets=[0, 8, 8]), "whole numbers"),
        (tensor(offsets=[0, 10**30]), "within 8 bytes"),
        (tensor(offsets=None), "whole numbers"),
        (tensor(shape=[3]), "8 bytes to be F32"),
        (tensor(shape=[-2]), "whole numbers"),
        (tensor(shape=[2**62, 2**62]), "8 bytes to be F32"),
        (tensor(shape="2"), "whole numbers"),
        (tensor(dtype="F99"), "dtype of the format"),
        (tensor(dtype=["F32"]), "dtype of the format"),
        ({"dtype": "F32", "shape": [2]}, "dtype, shape and data_offsets"),
        ([1, 2], "dtype, shape and data_offsets"),
    ],
)
def test_refuses_a_tensor_that_does_not_fit(tmp_path: Path, fields: object, says: str) -> None:
    with pytest.raises(ModelError, match=says) as caught:
        safetensors.entries(forge(tmp_path / "hostile", {"weird": fields}, bytes(8)))
    assert "'weird'" in str(caught.value)


def test_refuses_tensors_that_overlap_or_leave_a_gap(tmp_path: Path) -> None:
    pair = {"a": tensor(offsets=[0, 8]), "b": tensor(offsets=[4, 12])}
    with pytest.raises(ModelError, match="overlaps the one before - at 'b'"):
        safetensors.entries(forge(tmp_path / "overlap", pair, bytes(12)))
    pair["b"] = tensor(offsets=[12, 20])
    with pytest.raises(ModelError, match="leaves a gap before it - at 'b'"):
        safetensors.entries(forge(tmp_path / "gap", pair, bytes(20)))


def test_refuses_a_name_that_stands_twice(tmp_path: Path) -> None:
    one = json.dumps({"a": tensor()})[1:-1]
    with pytest.raises(ModelError, match="a name stands twice"):
        safetensors.entries(forge(tmp_path / "twins", f"{{{one}, {one}}}".encode(), bytes(8)))


def test_refuses_a_truncated_file_and_one_with_more_behind(tmp_path: Path) -> None:
    whole = forge(tmp_path / "whole", {"a": tensor()}, bytes(8)).read_bytes()
    (tmp_path / "short").write_bytes(whole[:-1])
    with pytest.raises(ModelError, match="within 7 bytes"):
        safetensors.entries(tmp_path / "short")
    (tmp_path / "long").write_bytes(whole + b"x")
    with pytest.raises(ModelError, match=f"Expected {len(whole)} bytes, got {len(whole) + 1}"):
        safetensors.entries(tmp_path / "long")


def test_a_file_that_shrinks_after_its_header_was_read_is_an_error(tmp_path: Path) -> None:
    path = forge(tmp_path / "shrinking", {"a": tensor()}, bytes(8))
    entry = safetensors.entries(path)["a"]
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ModelError, match="Expected 2 values, got 1 - at 'a'"):
        safetensors.read(path, "a", entry)
    path.unlink()
    with pytest.raises(ModelError, match="No such file"):
        safetensors.read(path, "a", entry)
    with pytest.raises(ModelError, match="No such file"):
        safetensors.entries(path)


def test_tensors_of_other_dtypes_may_stand_but_not_be_read(tmp_path: Path) -> None:
    path = forge(tmp_path / "other", {"ids": tensor("I64", [1], [0, 8])}, bytes(8))
    with pytest.raises(ModelError, match="Expected one of BF16, F16, F32, F64, got I64"):
        safetensors.read(path, "ids", safetensors.entries(path)["ids"])


def test_every_single_byte_flip_of_a_header_is_read_or_refused(tmp_path: Path) -> None:
    whole = forge(tmp_path / "x", {"a": tensor(), "__metadata__": {"format": "pt"}}, bytes(8)).read_bytes()
    random = np.random.default_rng(7)
    for place in range(len(whole) - 8):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(random.integers(8))
        (tmp_path / "y").write_bytes(damaged)
        try:
            entries = safetensors.entries(tmp_path / "y")
        except ModelError:
            continue
        assert all(entry.end <= len(whole) for entry in entries.values())
