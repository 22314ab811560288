"""Operators and external data are found without reading weights, and nothing that is no model is taken for one."""

from __future__ import annotations

import mmap
import os
import random

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from omni_sdk.graph_scan import GraphScan, scan
from omni_sdk.source import Source


def tensor(name, location=None):
    if location is None:
        return onnx.numpy_helper.from_array(np.zeros(4, np.float32), name)
    made = TensorProto(name=name, data_type=1, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", "0"), ("length", "16")):
        made.external_data.add(key=key, value=value)
    return made


def value(name):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [4])


def model(*nodes, tensors=(), functions=()):
    graph = helper.make_graph(list(nodes), "g", [value("x")], [value("y")], list(tensors))
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("local", 1)]
    return helper.make_model(graph, opset_imports=opsets, functions=list(functions))


def deep():
    """Operators and external data at every place that can hold them."""
    inner = helper.make_graph(
        [helper.make_node("Cos", ["x"], ["z"])], "inner", [], [value("z")], [tensor("v", "b.bin")]
    )
    branch = helper.make_graph([helper.make_node("Sin", ["x"], ["z"])], "other", [], [value("z")])
    constant = helper.make_node("Constant", [], ["c"], value=tensor("k", "c.bin"))
    function = helper.make_function(
        "local",
        "F",
        ["a"],
        ["b"],
        [helper.make_node("Snake", ["a"], ["b"], domain="omni")],
        [helper.make_opsetid("omni", 1)],
    )
    choice = helper.make_node("If", ["x"], ["z"], then_branch=inner, else_branch=branch)
    called = helper.make_node("F", ["x"], ["y"], domain="local")
    return model(choice, constant, called, tensors=[tensor("w", "a.bin"), tensor("i")], functions=[function])


def test_every_place_is_looked_into():
    assert scan(deep().SerializeToString()) == GraphScan(
        operators=frozenset({"If", "Cos", "Sin", "Constant", "F", "Snake"}),
        domains=frozenset({"", "local", "omni"}),
        external_files=frozenset({"a.bin", "b.bin", "c.bin"}),
    )


def test_weights_that_spell_an_operator_are_not_one():
    spelt = b"RandomNormal".ljust(16, b"\0")
    weights = TensorProto(name="w", data_type=1, dims=[4], raw_data=spelt)
    made = model(helper.make_node("Add", ["x", "w"], ["y"]), tensors=[weights]).SerializeToString()
    assert spelt in made
    assert scan(made).operators == {"Add"}
    assert not Source(made).is_random
    assert Source(model(helper.make_node("RandomNormalLike", ["x"], ["y"])).SerializeToString()).is_random
    assert Source(deep().SerializeToString()).needs_operators


def test_a_mapped_file_reads_as_bytes_do(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(deep().SerializeToString())
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        assert scan(view) == scan(path.read_bytes())


def test_damaged_and_foreign_bytes_raise_nothing():
    whole = deep().SerializeToString()
    rng = random.Random(3)
    for cut in range(0, len(whole), 3):
        scan(whole[:cut])
    for _ in range(2000):
        damaged = bytearray(whole)
        for _ in range(rng.randint(1, 8)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        scan(bytes(damaged))
    assert scan(b"\xff" * 100) is None
    assert scan(rng.randbytes(1000)) is None


@pytest.mark.parametrize("depth", [3, 33, 34, 2000])
def test_what_is_nested_deeper_than_protobuf_reads_is_no_model(depth):
    graph = b""
    for _ in range(depth):
        attribute = _field(5, _field(6, graph))
        graph = _field(1, attribute)
    assert (scan(_field(7, graph)) is None) == (depth > 33)


def _field(number, content):
    size, length = len(content), b""
    while size >= 0x80:
        length += bytes([size & 0x7F | 0x80])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


@pytest.mark.parametrize(
    ("inputs", "random"), [(["x"], False), (["x", "r"], False), (["x", "r", ""], False), (["x", "", "t"], True)]
)
def test_dropout_is_random_where_it_may_train(inputs, random):
    data = model(helper.make_node("Dropout", inputs, ["y"])).SerializeToString()
    assert scan(data).dropout_may_train == random
    assert Source(data).is_random == random


def test_sampling_is_random():
    data = model(helper.make_node("Sampling", ["x"], ["y"], domain="com.microsoft")).SerializeToString()
    assert Source(data).is_random


def test_external_data_in_sparse_attributes_and_in_defaults_of_functions_is_seen():
    def tensor(location):
        made = onnx.TensorProto(name="v", data_type=1, dims=[1], data_location=onnx.TensorProto.EXTERNAL)
        made.external_data.add(key="location", value=location)
        return made

    node = onnx.helper.make_node("Constant", [], ["y"])
    node.attribute.add(name="sparse_value", sparse_tensor=onnx.SparseTensorProto(values=tensor("one")))
    node.attribute.add(name="more", sparse_tensors=[onnx.SparseTensorProto(indices=tensor("two"))])
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", [], []))
    function = model.functions.add(name="f")
    function.attribute_proto.add(name="t", t=tensor("three"))
    assert scan(model.SerializeToString()).external_files == {"one", "two", "three"}


SPLIT = model(helper.make_node("Add", ["x", "w"], ["y"]), tensors=[tensor("w", "a.bin")])
GRAPH = SPLIT.graph.SerializeToString()
REST = onnx.ModelProto(ir_version=8, opset_import=SPLIT.opset_import).SerializeToString()
HALVES = [onnx.GraphProto(initializer=SPLIT.graph.initializer), onnx.GraphProto(node=SPLIT.graph.node)]


@pytest.mark.parametrize(
    "data",
    [
        SPLIT.SerializeToString() + b"\xa3\x06\xa4\x06",
        SPLIT.SerializeToString() + b"\xa3\x06\xab\x06" + _field(7, GRAPH) + b"\x08\x01\xac\x06\xa4\x06",
        SPLIT.SerializeToString() + b"\x42\x05\x0a\x01\xff\x10\x01",
        REST + b"\xba\x80\x00" + _field(7, GRAPH)[1:],
        REST + b"".join(_field(7, half.SerializeToString()) for half in HALVES),
        REST + b"\x38\x05" + _field(7, GRAPH),
    ],
    ids=["group", "groups", "no UTF-8", "long tag", "graph in two pieces", "graph that is a number"],
)
def test_what_protobuf_takes_is_read(data):
    assert onnx.load_model_from_string(data).graph.node, "not what protobuf takes"
    found = scan(data)
    assert (found.external_files, found.operators) == ({"a.bin"}, {"Add"})


@pytest.mark.parametrize(
    "ending",
    [b"\xa3\x06", b"\xa4\x06", b"\xa3\x06\xac\x06", b"\x0e", b"\xba\x80\x80\x80\x10\x00"],
    ids=["no end", "no begin", "another end", "wire type", "beyond 32 bits"],
)
def test_what_readers_of_protobuf_differ_on_is_no_model(ending):
    assert scan(SPLIT.SerializeToString()) is not None
    assert scan(SPLIT.SerializeToString() + ending) is None


def test_a_graph_whose_number_only_cpp_finds_is_no_model():
    """C++ reads a tag's low 32 bits, so this is the graph to ONNX Runtime, and an unknown field to a careful reader."""
    assert scan(REST + b"\xba\x80\x80\x80\x10" + _field(7, GRAPH)[1:]) is None


def test_external_data_of_training_and_of_sparse_initializers_is_seen():
    made = onnx.ModelProto()
    made.training_info.add(initialization=onnx.GraphProto(initializer=[tensor("a", "one")]))
    made.training_info.add(algorithm=onnx.GraphProto(initializer=[tensor("b", "two")]))
    made.graph.sparse_initializer.add(values=tensor("c", "three"), indices=tensor("d", "four"))
    assert scan(made.SerializeToString()).external_files == {"one", "two", "three", "four"}


def test_a_location_that_is_no_text_is_kept_byte_for_byte():
    entry = _field(1, b"location") + _field(2, b"\xff/w.bin")
    (location,) = scan(_field(7, _field(5, _field(13, entry)))).external_files
    assert os.fsencode(location) == b"\xff/w.bin"


def test_the_last_word_of_a_field_counts_as_it_does_for_protobuf():
    entry = _field(1, b"other") + _field(2, b"before") + _field(1, b"location") + _field(2, b"after")
    node = _field(4, b"Add") + _field(4, b"RandomNormal")
    found = scan(_field(7, _field(5, _field(13, entry)) + _field(1, node)))
    assert (found.external_files, found.operators) == ({"after"}, {"RandomNormal"})
