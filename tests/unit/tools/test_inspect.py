"""What a file says of a model."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

from omni_sdk import ModelError
from omni_sdk.cli import main
from omni_sdk.tools.inspect import inspect


def save(path: Path, nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray], **options: object) -> Path:
    """A model with input x [batch, 4], carried state h, and outputs y and hn."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [value("x", TensorProto.FLOAT, ["batch", 4]), value("h", TensorProto.FLOAT, [1, 4])],
        [value("y", TensorProto.FLOAT, ["batch", 4]), value("hn", TensorProto.FLOAT, [1, 4])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(path), **options)
    return path


PLAIN = [helper.make_node("Add", ["x", "b"], ["y"]), helper.make_node("Add", ["h", "b"], ["hn"])]


def test_the_file_is_told_as_it_is(tmp_path: Path) -> None:
    found = inspect(save(tmp_path / "m.onnx", PLAIN, {"b": np.ones(4, "f4")}))
    assert [str(spec) for spec in found.inputs] == ["x: float[batch, 4]", "h: float[1, 4]"]
    assert [str(spec) for spec in found.outputs] == ["y: float[batch, 4]", "hn: float[1, 4]"]
    assert found.opsets == {"": 17}
    assert found.operators == {"Add": 2}
    assert (found.parameters, found.parameter_bytes) == ({"FLOAT": 4}, {"FLOAT": 16})
    assert (found.state, found.state_from) == ({"h": "hn"}, "names")
    assert found.findings == ()


def test_subgraphs_are_counted(tmp_path: Path) -> None:
    branch = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["n"])], "b", [], [helper.make_tensor_value_info("n", 1, None)]
    )
    nodes = [helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch), PLAIN[1]]
    found = inspect(save(tmp_path / "m.onnx", nodes, {"b": np.ones(4, "f4"), "c": np.array(True)}))
    assert found.operators == {"Neg": 2, "If": 1, "Add": 1}
    assert found.parameters == {"FLOAT": 4, "BOOL": 1}


def test_weights_of_functions_and_sparse_ones_are_counted(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", PLAIN, {"b": np.ones(4, "f4")})
    model = onnx.load(path)
    weight = numpy_helper.from_array(np.ones(10, "f8"), "w")
    node = helper.make_node("Constant", [], ["y"], value=weight)
    model.functions.append(helper.make_function("local", "f", [], ["y"], [node], model.opset_import))
    values, places = numpy_helper.from_array(np.ones(3, "i4"), "s"), numpy_helper.from_array(np.arange(3), "i")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [100]))
    onnx.save(model, path)
    assert inspect(path).parameters == {"DOUBLE": 10, "FLOAT": 4, "INT32": 3}
    assert inspect(path).operators["Constant"] == 1


def test_where_weights_lie(tmp_path: Path) -> None:
    large = {"b": np.ones((1 << 19, 4), "f4")}
    assert inspect(save(tmp_path / "in.onnx", PLAIN, large)).weights == "copied"
    outside = save(
        tmp_path / "out.onnx", PLAIN, large, save_as_external_data=True, location="out.data", size_threshold=0
    )
    assert inspect(outside).weights == "mapped"
    tensor = onnx.load(str(outside), load_external_data=False)
    entry = next(each for each in tensor.graph.initializer[0].external_data if each.key == "offset")
    entry.value = "100"
    onnx.save(tensor, str(tmp_path / "shifted.onnx"))
    assert inspect(tmp_path / "shifted.onnx").weights == "copied"


def test_findings_name_what_is_slow_or_odd(tmp_path: Path) -> None:
    nodes = [
        *PLAIN,
        helper.make_node("ConvInteger", ["i", "w"], ["z"]),
        helper.make_node("RandomNormalLike", ["x"], ["r"]),
    ]
    found = inspect(save(tmp_path / "m.onnx", nodes, {"b": np.ones((1 << 19, 4), "f4")}))
    text = " ".join(map(str, found.findings))
    assert "ConvInteger" in text
    assert "RandomNormalLike" in text
    assert "each load copies them" in text


@pytest.mark.parametrize("content", [b"no model", b"\x08\x07", b"\x00" * 64])
def test_what_is_no_model_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(ModelError, match="Expected an ONNX model"):
        inspect(tmp_path / "m.onnx")


@pytest.mark.parametrize("key", ["offset", "length"])
@pytest.mark.parametrize("value", ["many", "-1", "9" * 5000])
def test_places_of_weights_that_are_no_number_are_refused(tmp_path: Path, key: str, value: str) -> None:
    path = save(
        tmp_path / "m.onnx", PLAIN, {"b": np.ones(4, "f4")}, save_as_external_data=True, location="w", size_threshold=0
    )
    model = onnx.load(str(path), load_external_data=False)
    next(each for each in model.graph.initializer[0].external_data if each.key == key).value = value
    onnx.save(model, str(path))
    with pytest.raises(ModelError, match=rf"Expected a number of bytes, got .* - at {key} of 'b' in .*m\.onnx"):
        inspect(path)


@pytest.mark.parametrize("place", ["initializer", "input", "output"])
def test_types_that_onnx_does_not_have_are_refused(tmp_path: Path, place: str) -> None:
    path = save(tmp_path / "m.onnx", PLAIN, {"b": np.ones(4, "f4")})
    model = onnx.load(str(path))
    found = getattr(model.graph, place)[0]
    if place == "initializer":
        found.data_type = 99
    else:
        found.type.tensor_type.elem_type = 99
    onnx.save(model, str(path))
    with pytest.raises(ModelError, match=f"Expected a type of values that ONNX has, got number 99 - at '{found.name}'"):
        inspect(path)


def test_a_missing_file_and_ort_format_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        inspect(tmp_path / "gone.onnx")
    (tmp_path / "m.ort").write_bytes(b"\0\0\0\0ORTM")
    with pytest.raises(ModelError, match="own format"):
        inspect(tmp_path / "m.ort")


def test_the_command_prints_it_all(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", PLAIN, {"b": np.ones((1 << 19, 4), "f4")})
    done = CliRunner().invoke(main, ["inspect", str(path)])
    assert done.exit_code == 0, done.output
    for text in (
        "onnx 17",
        "x: float[batch, 4]",
        "2,097,152 FLOAT, 8.0 MiB",
        "h <- hn",
        "Add",
        "each load copies them",
    ):
        assert text in done.output


def test_weights_that_are_kept_value_by_value_lie_inside_the_file(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", PLAIN, {"b": np.ones(4, "f4")})
    model = onnx.load(str(path))
    model.graph.initializer[0].CopyFrom(helper.make_tensor("b", TensorProto.FLOAT, [4], [1.0] * 4))
    assert not model.graph.initializer[0].raw_data
    onnx.save(model, str(path))
    assert inspect(path).weights == "copied"


def test_an_open_rank_is_no_scalar(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", PLAIN, {"b": np.ones(4, "f4")})
    model = onnx.load(str(path))
    model.graph.input[0].type.tensor_type.ClearField("shape")
    onnx.save(model, str(path))
    assert inspect(path).unranked == {"x"}
    done = CliRunner().invoke(main, ["inspect", str(path)])
    assert "x: float of unknown rank" in done.output
    assert CliRunner().invoke(main, ["inspect", str(path), "--operators", "-1"]).exit_code == 2


@pytest.mark.parametrize("command", ["inspect", "doctor"])
def test_without_the_extra_a_command_names_it(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "m.onnx", PLAIN, {"b": np.ones(4, "f4")})
    for name in ("omni_sdk.tools.inspect", "omni_sdk.tools.doctor"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "onnx", None)
    done = CliRunner().invoke(main, [command, str(path)])
    assert done.exit_code == 1
    assert f"Expected the package onnx, got none installed - at omni-sdk {command}" in done.output
    assert "hint: pip install 'omni-sdk[bench]'" in done.output
