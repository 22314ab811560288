"""What load was given: paths, bytes and folders, what they hold, and whether they changed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import graphs
import numpy as np
import onnx
import pytest

import omni_sdk
from omni_sdk.errors import InputError, ModelError
from omni_sdk.source import RANDOM_OPERATORS, Source

DATA = graphs.serialized(graphs.DOUBLE)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(DATA)
    return path


@pytest.fixture
def split(tmp_path):
    """A model whose weights lie in a file beside it."""
    weights = onnx.numpy_helper.from_array(np.ones(64, np.float32), "w")
    info = [onnx.helper.make_tensor_value_info(name, 1, [64]) for name in "xy"]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Add", ["x", "w"], ["y"])], "g", info[:1], info[1:], [weights]
    )
    path = tmp_path / "split.onnx"
    onnx.save(onnx.helper.make_model(graph), path, save_as_external_data=True, location="w.bin", size_threshold=0)
    return path


@pytest.mark.parametrize("kind", [str, Path, os.fspath])
def test_a_file(file, kind):
    source = Source(kind(file))
    assert (source.path, source.model, str(source)) == (file, str(file), str(file))
    assert source.files == [file]
    assert source.size == len(DATA)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have names in Unicode alone")
def test_a_path_that_is_no_text(file):
    odd = file.rename(file.with_name("m\udcff.onnx"))
    assert Source(odd).size == len(DATA)
    with pytest.raises(ModelError, match=r"Expected a path in UTF-8, got other bytes - at '.*m\\udcff\.onnx'"):
        omni_sdk.load(odd)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bytes(kind):
    source = Source(kind(DATA))
    assert (source.path, source.model) == (None, DATA)
    assert str(source) == f"<{len(DATA)} bytes>"
    assert (source.files, source.size, source.elsewhere) == ([], len(DATA), [])


@pytest.mark.parametrize("origin", [5, None, 1.5, [b"x"]])
def test_what_is_no_origin(origin):
    with pytest.raises(InputError, match="path or bytes"):
        Source(origin)


@pytest.mark.parametrize("origin", ["", "none.onnx", "\0", "a\0b", "x" * 5000, b"", "no/such/folder/m.onnx"])
def test_origins_that_are_not_there(origin, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="Expected a"):
        Source(origin)


def test_a_folder_and_an_empty_file(tmp_path):
    for folder in (tmp_path, ".", "/"):
        with pytest.raises(ModelError, match="folder without a manifest"):
            Source(folder)
    (tmp_path / "m.onnx").touch()
    with pytest.raises(ModelError, match="empty file"):
        Source(tmp_path / "m.onnx")


def test_the_fingerprint_is_of_the_content(file, tmp_path):
    other = tmp_path / "other.onnx"
    other.write_bytes(DATA)
    fingerprint = Source(file).fingerprint
    assert len(fingerprint) == 16
    assert fingerprint == Source(other).fingerprint == Source(DATA).fingerprint
    other.write_bytes(DATA[:-1] + bytes([DATA[-1] ^ 1]))
    assert Source(other).fingerprint != fingerprint


def test_a_file_that_went_away_is_told(file):
    source = Source(file)
    file.unlink()
    with pytest.raises(ModelError, match="No such file"):
        _ = source.fingerprint


def test_weights_in_a_file_beside_it(split):
    source = Source(split)
    weights = split.with_name("w.bin")
    assert source.files == [split, weights]
    assert source.size == split.stat().st_size + weights.stat().st_size
    assert source.elsewhere == []
    before = source.stamp()
    assert source.stamp() == before
    weights.write_bytes(weights.read_bytes())
    assert Source(split).stamp() != before
    weights.unlink()
    assert Source(split).size == split.stat().st_size


def test_weights_elsewhere_are_not_the_models(split, tmp_path):
    model = onnx.load(split, load_external_data=False)
    model.graph.initializer[0].external_data[0].value = "../w.bin"
    source = Source(model.SerializeToString())
    assert source.files == []  # bytes have no folder, and no files of their own
    split.write_bytes(source.data)
    assert source.elsewhere == Source(split).elsewhere == ["../w.bin"]
    assert Source(split).files == [split]


def test_weights_behind_a_link_out_of_the_folder(split, tmp_path):
    away = tmp_path / "away"
    away.mkdir()
    weights = split.with_name("w.bin")
    weights.rename(away / "w.bin")
    inner = tmp_path / "inner"
    inner.mkdir()
    split.rename(inner / "m.onnx")
    (inner / "w.bin").symlink_to(away / "w.bin")
    assert Source(inner / "m.onnx").elsewhere == ["w.bin"]


@pytest.mark.parametrize("name", RANDOM_OPERATORS)
def test_random_operators_are_found_in_either_format(name):
    node = onnx.helper.make_node(name, ["x"], ["y"])
    info = [onnx.helper.make_tensor_value_info(each, 1, [4]) for each in "xy"]
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", info[:1], info[1:]))
    assert Source(model.SerializeToString()).is_random
    flat = b"\x18\0\0\0ORTM\xff\xff" + len(name).to_bytes(4, "little") + name.encode() + b"\0"
    assert Source(flat).scan is None
    assert Source(flat).is_random


def test_ordinary_models_are_not_random():
    assert not Source(DATA).is_random
    assert not Source(DATA).needs_operators
    assert not Source(b"\x18\0\0\0ORTM\xff\xff\x0c\0\0\0RandomNormalLike\0").is_random


def test_an_ort_format_file_that_needs_our_operators():
    assert Source(b"\x18\0\0\0ORTM\xff\xff\x04\0\0\0omni\0").needs_operators


def test_a_loose_file_is_always_current(file):
    source = Source(file)
    file.write_bytes(b"other")
    assert source.is_current()


@pytest.mark.parametrize("data", [b"\xff" * 100, DATA[:-1], b"\x18\0\0\0ORTN\xff\xff", b"\x0e" * 50])
def test_of_what_cannot_be_read_nothing_is_promised(data, file):
    """ONNX Runtime's reader might find external data and random operators where ours found an end."""
    file.write_bytes(data)
    for source in (Source(data), Source(file)):
        assert source.scan is None
        assert source.is_random
        with pytest.raises(ModelError, match="bytes that are none"):
            _ = source.elsewhere


def test_onnxruntimes_own_format_is_told_by_its_mark_and_by_its_name(tmp_path):
    flat = b"\x18\0\0\0ORTM\xff\xff"
    for name in ("m.ort", "M.ORT"):
        (tmp_path / name).write_bytes(flat)
        assert Source(tmp_path / name).elsewhere == Source(flat).elsewhere == []
    (tmp_path / "m.onnx").write_bytes(flat)  # which ONNX Runtime would read as protobuf
    (tmp_path / "none.ort").write_bytes(b"\xff" * 50)
    for name in ("m.onnx", "none.ort"):
        with pytest.raises(ModelError, match="bytes that are none"):
            _ = Source(tmp_path / name).elsewhere


def test_data_at_an_address_is_refused_wherever_it_is_named(split):
    model = onnx.load(split, load_external_data=False)
    model.graph.initializer[0].external_data[0].value = "*/_ORT_MEM_ADDR_/*"
    split.write_bytes(model.SerializeToString())
    for source in (Source(split), Source(split.read_bytes())):
        with pytest.raises(ModelError, match="at an address in memory"):
            _ = source.elsewhere


def test_a_location_that_is_no_text_is_looked_up_as_it_stands(split, tmp_path):
    away = tmp_path / "away"
    away.mkdir()
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / os.fsdecode(b"\xff")).symlink_to(away)
    data = split.read_bytes()
    assert data.count(b"w.bin") == 1
    split = inner / "m.onnx"
    split.write_bytes(data.replace(b"w.bin", b"\xff/w.b"[:5]))
    assert Source(split).elsewhere == [os.fsdecode(b"\xff/w.b")]
