"""Inputs that never change become constants, and what hangs on them goes away."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from click.testing import CliRunner
from onnx import parser

from omni_sdk.bundle import Bundle
from omni_sdk.cli.prepare import command
from omni_sdk.errors import InputError
from omni_sdk.tools.prepare import fixing, prepare

# The rank of `y` depends on `rate`: no engine with shapes fixed at load takes that.
BY_RATE = """<ir_version: 10, opset_import: ["": 17]>
g (float[N, 4] x, int64 rate) => (float y) {
    k = Constant <value: tensor = int64 {16000}> ()
    axis = Constant <value: tensor = int64[1] {0}> ()
    is_wide = Equal(rate, k)
    z = If (is_wide) <
        then_branch = t () => (float[M, 4] a) { a = Add(x, x) },
        else_branch = e () => (float[1, M, 4] b) { b = Unsqueeze(x, axis) }
    >
    y = ReduceSum <keepdims = 0> (z)
}"""
X = np.arange(12, dtype=np.float32).reshape(3, 4)


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(parser.parse_model(BY_RATE).SerializeToString())
    return path


def run(bundle, **feeds):
    session = ort.InferenceSession(Bundle.open(bundle).graph_path, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0], session


@pytest.mark.parametrize(("rate", "total"), [(16000, 132), (8000, 66)])
def test_the_branch_that_is_taken_is_all_that_is_left(model, tmp_path, rate, total):
    prepare(model, tmp_path / "out", fix={"rate": rate}, measure=False)
    found, session = run(tmp_path / "out", x=X)
    assert found == total
    assert [value.name for value in session.get_inputs()] == ["x"]
    assert b"If" not in Bundle.open(tmp_path / "out").graph_path.read_bytes()


def test_a_shape_that_never_changes(model, tmp_path):
    prepare(model, tmp_path / "out", shapes={"x": (3, 4)}, measure=False)
    found, session = run(tmp_path / "out", x=X, rate=np.array(16000))
    assert found == 132
    assert session.get_inputs()[0].shape == [3, 4]


def test_the_model_itself_is_not_touched(model, tmp_path):
    before = model.read_bytes()
    prepare(model, tmp_path / "out", fix={"rate": 16000}, measure=False)
    assert model.read_bytes() == before


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"fix": {"speed": 1}}, "Expected an input (x, rate), got 'speed'"),
        ({"fix": {"rate": [1, 2]}}, "at fix['rate']"),
        ({"fix": {"rate": 0.5}}, "Expected a value of type int64, got 0.5"),
        ({"fix": {"rate": "fast"}}, "Expected a value of type int64, got 'fast'"),
        ({"fix": {"rate": "16000"}}, "Expected a value of type int64, got '16000'"),
        ({"fix": {"rate": 2**63}}, "Expected a value of type int64, got 9223372036854775808"),
        ({"fix": {"rate": 10**30}}, "Expected a value of type int64, got 1" + "0" * 30),
        ({"fix": {"x": [[1e300] * 4] * 3}}, "Expected a value of type float32, got [[1e+300"),
        ({"fix": {"x": [[1.0, 2.0], [3.0]]}}, "Expected a value of type float32, got [[1.0, 2.0], [3.0]]"),
        ({"shapes": {"x": (3, 5)}}, "at shapes['x']"),
        ({"shapes": {"x": (0, 4)}}, "at shapes['x']"),
        ({"shapes": {"x": (3, 4, 1)}}, "at shapes['x']"),
        ({"shapes": {"x": (3, 4)}, "fix": {"x": X}}, "got both"),
    ],
)
def test_what_does_not_fit_is_refused(model, tmp_path, given, says):
    with pytest.raises(InputError) as caught:
        prepare(model, tmp_path / "out", measure=False, **given)
    assert says in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("kind", "given"), [("INT32", 99999999999), ("UINT8", -1), ("FLOAT16", 1e5), ("BFLOAT16", 1e39), ("BOOL", 2)]
)
def test_values_that_a_type_cannot_hold_are_refused(kind, given):
    value = ir.Value(name="v", shape=ir.Shape(()), type=ir.TensorType(ir.DataType[kind]))
    with pytest.raises(InputError, match="Expected a value of type"):
        fixing._constant(value, given)


@pytest.mark.parametrize(
    ("kind", "given"),
    [("UINT8", 255), ("INT32", 3.0), ("BOOL", 1), ("FLOAT", 0.1), ("FLOAT", float("inf")), ("STRING", "fast")],
)
def test_values_that_a_type_holds_are_taken(kind, given):
    value = ir.Value(name="v", shape=ir.Shape(()), type=ir.TensorType(ir.DataType[kind]))
    assert fixing._constant(value, given) == pytest.approx(given)


def test_by_command(model, tmp_path):
    arguments = [str(model), str(tmp_path / "out"), "--fix", "rate=8000", "--shape", "x=3,4", "--no-measure"]
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 0, result.output
    assert run(tmp_path / "out", x=X)[0] == 66


@pytest.mark.parametrize("text", ["rate", "=1", "rate=", "rate=fast"])
def test_by_command_in_no_such_form(model, tmp_path, text):
    result = CliRunner().invoke(command, [str(model), str(tmp_path / "out"), "--fix", text])
    assert result.exit_code == 2
    assert "Expected NAME=VALUE" in result.output


@pytest.mark.parametrize("twice", [["--fix", "sr=1", "--fix", "sr=2"], ["--shape", "sr=1", "--shape", "sr=2"]])
def test_a_name_that_comes_twice_is_refused(tmp_path, twice):
    """The last of them would win in silence."""
    (tmp_path / "m.onnx").write_bytes(b"")
    result = CliRunner().invoke(command, [str(tmp_path / "m.onnx"), str(tmp_path / "out"), *twice])
    assert result.exit_code == 2
    assert "Expected each name once, got 'sr' 2 times" in " ".join(result.output.split())
