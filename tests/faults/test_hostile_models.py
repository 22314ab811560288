"""Models written to do harm: they read inside their own folder, their sizes are not believed, and none hangs."""

from __future__ import annotations

import os
from pathlib import Path

import graphs
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from victims import WIDTH, dense, load_and_try

import omni_sdk as omni
from omni_sdk.bundle import create
from omni_sdk.session import EXTERNAL_FOLDER
from omni_sdk.source import Source

SEVENS = np.full((WIDTH, WIDTH), 7, np.float32)


def model(location: str, shape: tuple[int, ...] = (WIDTH, WIDTH), **entries: int) -> bytes:
    """Weights that are said to lie in a file."""
    weights = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=shape, data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **entries}.items():
        weights.external_data.add(key=key, value=str(value))
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", shape[-1]]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", value[:1], value[1:], [weights])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return made.SerializeToString()


def field(number: int, content: bytes) -> bytes:
    """A field as protobuf writes it."""
    size, length = len(content), b""
    while size >= 0x80:
        size, length = size >> 7, length + bytes([size & 0x7F | 0x80])
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


WHOLE = model("w.bin")
GRAPH = onnx.load_model_from_string(WHOLE).graph.SerializeToString()
SPARE = onnx.load_model_from_string(WHOLE)
SPARE.ClearField("graph")
REST = SPARE.SerializeToString()
# Ways to write the same model that a reader of protobuf may stumble over, and ONNX Runtime's does not.
DRESSINGS = {
    "plain": WHOLE,
    "unknown group": WHOLE + b"\xa3\x06\xa4\x06",
    "groups in groups": WHOLE + b"\xa3\x06" * 90 + b"\xa4\x06" * 90,
    "graph in a group": WHOLE + b"\xa3\x06" + field(7, GRAPH) + b"\xa4\x06",
    "opset of no text": WHOLE + b"\x42\x05\x0a\x01\xff\x10\x01",
    "tag in more bytes": REST + b"\xba\x80\x00" + field(7, GRAPH)[1:],
    "tag beyond 32 bits": REST + b"\xba\x80\x80\x80\x10" + field(7, GRAPH)[1:],
    "graph in two pieces": REST + field(7, GRAPH) + field(7, b"\x12\x01g"),
    "number of ten bytes": WHOLE + b"\x08\x89" + b"\x80" * 8 + b"\x7f",
    "mark of another format": field(2, b"aaORTM") + WHOLE,
}


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The model's own folder `in`, and `out`, the working directory, where it has no business."""
    for name in ("in", "out"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "w.bin").write_bytes(SEVENS.tobytes())
    (tmp_path / "in" / "link.bin").symlink_to(tmp_path / "out" / "w.bin")
    (tmp_path / "in" / "folder").symlink_to(tmp_path / "out")
    (tmp_path / "in" / "near.bin").symlink_to("w.bin")
    os.mkfifo(tmp_path / "in" / "pipe.bin")
    monkeypatch.chdir(tmp_path / "out")
    return tmp_path


def refused(origin: Path | bytes, cache: Path) -> list[str]:
    """What an attempt with and without a compile cache was told."""
    told = []
    for cache_dir in (None, cache):
        with pytest.raises(omni.ModelError) as found:
            load_and_try(origin, cache_dir=cache_dir)
        told.append(str(found.value))
    return told


@pytest.mark.parametrize("location", ["w.bin", "near.bin", "./w.bin", "folder/../w.bin"])
def test_inside_its_folder_a_model_reads_what_it_likes(places, location):
    path = places / "in" / "m.onnx"
    path.write_bytes(model(location))
    (places / "in" / "folder").unlink()
    (places / "in" / "folder").mkdir()
    for cache_dir in (None, places / "cache"):
        assert load_and_try(path, cache_dir=cache_dir)["y"][0, 0] == 7 * WIDTH


@pytest.mark.parametrize(
    "location",
    ["../out/w.bin", "link.bin", "folder/w.bin", "{out}/w.bin", "/proc/self/environ", "in/../../out/w.bin", "a\0b"],
)
def test_outside_its_folder_a_model_reads_nothing(places, location):
    path = places / "in" / "m.onnx"
    path.write_bytes(model(location.format(out=places / "out")))
    assert all("inside the model's folder" in told for told in refused(path, places / "cache"))


@pytest.mark.parametrize("location", ["w.bin", "../in/w.bin", "/proc/self/environ"])
def test_a_model_from_bytes_reads_nothing_unless_told_where(places, location):
    assert all("holds its weights" in told for told in refused(model(location), places / "cache"))


@pytest.mark.parametrize("name", DRESSINGS)
def test_however_it_is_written_a_model_reads_nothing_elsewhere(places, name):
    """`w.bin` lies in the working directory: a guard that the file's form can blind lets ONNX Runtime read it."""
    refused(DRESSINGS[name], places / "cache")
    (places / "in" / "w.bin").unlink()
    (places / "in" / "w.bin").symlink_to(places / "out" / "w.bin")
    path = places / "in" / "m.onnx"
    path.write_bytes(DRESSINGS[name])
    refused(path, places / "cache")


@pytest.mark.parametrize("name", [name for name in DRESSINGS if name not in ("tag beyond 32 bits", "plain")])
def test_what_protobuf_takes_still_loads(places, name):
    """The guard refuses for what a model reads, not for how it is written."""
    path = places / "in" / "m.onnx"
    path.write_bytes(DRESSINGS[name])
    assert load_and_try(path)["y"][0, 0] == 7 * WIDTH


def test_a_model_from_bytes_reads_where_the_settings_say(places):
    settings = omni.Settings(session_entries={EXTERNAL_FOLDER: str(places / "in")})
    assert load_and_try(model("w.bin"), settings=settings)["y"][0, 0] == 7 * WIDTH


@pytest.mark.parametrize("mark", ["*/_ORT_MEM_ADDR_/*", "*/_ORT_IN_MEMORY_INITIALIZER_/*"])
def test_no_file_gets_at_memory_by_its_address(places, mark):
    data = model(mark, offset=SEVENS.ctypes.data, length=SEVENS.nbytes)
    (places / "in" / "m.onnx").write_bytes(data)
    refused(places / "in" / "m.onnx", places / "cache")
    refused(data, places / "cache")


@pytest.mark.parametrize("location", ["pipe.bin", ".", "", "a" * 5000, "missing.bin"])
def test_external_data_that_is_no_file_neither_hangs_nor_loads(places, location):
    path = places / "in" / "m.onnx"
    path.write_bytes(model(location))
    refused(path, places / "cache")


@pytest.mark.parametrize(
    "lie",
    [
        {"offset": 1 << 62},
        {"offset": -4},
        {"length": 1 << 62},
        {"length": -1},
        {"offset": 4},
        {"shape": (1 << 20, 1 << 20)},
        {"shape": (1 << 31, 1 << 31)},
        {"shape": (-WIDTH, -WIDTH)},
    ],
    ids=str,
)
def test_sizes_are_not_believed(places, lie):
    path = places / "in" / "m.onnx"
    path.write_bytes(model("w.bin", **lie))
    refused(path, places / "cache")


@pytest.mark.parametrize(
    "prefix",
    [b"\x3a\xff\xff\xff\xff\x07", b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", b"\x82\x01" + b"\xff" * 9 + b"\x01"],
)
def test_a_field_larger_than_its_file(places, prefix):
    refused(prefix + graphs.serialized(graphs.DOUBLE), places / "cache")


@pytest.mark.parametrize("depth", [10, 33, 34, 70, 5000])
def test_graphs_within_graphs_without_end(places, depth):
    graph = b""
    for _ in range(depth):
        attribute = field(1, b"then_branch") + field(6, graph)
        graph = field(1, field(4, b"If") + field(5, attribute))
    refused(field(7, graph), places / "cache")


def test_a_bundles_graph_reads_inside_the_bundle_alone(places):
    with create(places / "bundle") as draft:
        dense(draft.folder / "model.onnx")
        (draft.folder / "model.onnx").write_bytes(model("../in/w.bin"))
    assert all("inside the model's folder" in told for told in refused(places / "bundle", places / "cache"))


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_file_at_all(places, kind):
    path = {"pipe": places / "in" / "pipe.bin", "device": Path("/dev/zero"), "folder": places / "in"}[kind]
    refused(path, places / "cache")


def test_external_data_below_many_branches_is_seen(places):
    """As deep as protobuf reads: a graph with a tensor is itself no deeper than the 100 messages that it takes."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="w.bin")
    graph = field(5, tensor.SerializeToString())
    for _ in range(32):
        graph = field(1, field(4, b"If") + field(5, field(1, b"then_branch") + field(6, graph)))
    assert Source(field(7, graph)).elsewhere == ["w.bin"]
    assert all("holds its weights" in told for told in refused(field(7, graph), places / "cache"))


def test_a_random_model_whose_file_has_an_unknown_group_is_not_cached():
    node = helper.make_node("RandomNormalLike", ["x"], ["y"])
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in "xy"]
    made = helper.make_model(helper.make_graph([node], "g", value[:1], value[1:]), ir_version=9)
    made.opset_import[0].version = 17
    settings = omni.Settings(cache_bytes=1 << 20, intra_op_num_threads=1)
    with omni.load(made.SerializeToString() + b"\xa3\x06\xa4\x06", settings, cache_dir=None) as model:
        first, second = (model.infer(x=np.zeros(4, np.float32))["y"] for _ in range(2))
    assert (first != second).any()
