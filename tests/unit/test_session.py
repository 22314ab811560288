"""A session as the settings say, and every refusal of ONNX Runtime as a sentence."""

from __future__ import annotations

import re
from types import SimpleNamespace

import graphs
import numpy as np
import onnxruntime as ort
import pytest

from omni_sdk import session as sessions
from omni_sdk.errors import ModelError, ProviderError, SettingsError
from omni_sdk.settings import Settings
from omni_sdk.source import Source

DOUBLE = Source(graphs.serialized(graphs.DOUBLE))


def test_specs_of_a_session():
    session = sessions.open_session(Source(graphs.serialized(graphs.SUM_AND_GAP)), Settings())
    inputs, outputs = sessions.specs(session)
    assert [str(spec) for spec in inputs] == ["a: float[N]", "b: float[N]"]
    assert [spec.name for spec in outputs] == ["total", "gap"]


def test_onnx_runtime_never_falls_back_by_itself():
    assert not sessions.open_session(DOUBLE, Settings())._enable_fallback


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("g (float[N] x) => (float[N] y) { y = Nonsense(x) }", "Nonsense"),
        ("g (float[N] x, int64[N] i) => (float[N] y) { y = Add(x, i) }", "Type"),
    ],
)
def test_a_graph_that_onnx_runtime_refuses(text, says):
    with pytest.raises(ModelError, match=says) as caught:
        sessions.open_session(Source(graphs.serialized(text)), Settings())
    message = str(caught.value)
    assert message.startswith("Expected a model that ONNX Runtime can load, got ")
    assert "ONNXRuntimeError" not in message
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize(
    ("raw", "message", "hint"),
    [
        (
            "[ONNXRuntimeError] : 7 : INVALID_PROTOBUF : Load model from m.onnx failed:Protobuf parsing failed.",
            "Load model from m.onnx failed:Protobuf parsing failed",
            "damaged",
        ),
        (
            "[ONNXRuntimeError] : 1 : FAIL : /a/b/graph.cc:123 void onnxruntime::Graph::Run(int) const bad\n  thing",
            "bad thing",
            None,
        ),
        ("[ONNXRuntimeError] : 1 : FAIL : Foo is not a registered function/op", None, "operator"),
        ("Unsupported model IR version: 99, max supported IR version: 13", None, "older opset or IR"),
        ("External data path does not exist", None, "beside it"),
        (
            "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Exception during initialization: "
            "[ONNXRuntimeError] : 1 : FAIL : tensorprotoutils.cc:2201 GetExtData Initializer w is (far) out",
            "Initializer w is (far) out",
            None,
        ),
        (
            "[ONNXRuntimeError] : 1 : FAIL : Deserialize tensor w failed.tensorproto.cc:22 Get Initializer w of m",
            "Deserialize tensor w failed. Initializer w of m",
            None,
        ),
        ("", "ValueError", None),
    ],
)
def test_messages_without_internals_and_with_a_remedy(raw, message, hint):
    got, remedy = sessions.explained(ValueError(raw))
    assert message is None or got == message
    assert (hint is None) == (remedy is None)
    assert hint is None or hint in remedy


def test_missing_external_data_has_a_remedy(tmp_path):
    onnx = pytest.importorskip("onnx")
    weights = onnx.numpy_helper.from_array(np.ones(64, np.float32), "w")
    info = [onnx.helper.make_tensor_value_info(name, 1, [64]) for name in "xy"]
    node = onnx.helper.make_node("Add", ["x", "w"], ["y"])
    graph = onnx.helper.make_graph([node], "g", info[:1], info[1:], [weights])
    model = onnx.helper.make_model(graph, ir_version=10, opset_imports=[onnx.helper.make_opsetid("", 21)])
    path = tmp_path / "m.onnx"
    onnx.save(model, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    for spoil in (lambda file: file.write_bytes(b"short"), lambda file: file.unlink()):
        spoil(tmp_path / "w.bin")
        with pytest.raises(ModelError, match="hint: keep the files of the model's external data") as caught:
            sessions.open_session(Source(path), Settings())
        assert not re.search(r"\.cc:|ONNXRuntimeError|Exception during", str(caught.value))


def test_findings_of_level_error_stop_a_load_and_the_others_are_logged(caplog):
    wrong = Settings(session_entries={"session.arena_size": "1"}, arena_bytes=None, inter_op_num_threads=2)
    with caplog.at_level("INFO"), pytest.raises(SettingsError, match=r"session\.arena_size(.|\n)*strict=False"):
        sessions.open_session(DOUBLE, wrong)
    levels = {record.levelname: record.getMessage() for record in caplog.records}
    assert "session.arena_size" in levels["WARNING"]
    assert "inter_op_num_threads" in levels["INFO"]
    assert sessions.open_session(DOUBLE, wrong.replace(strict=False)) is not None


def test_a_provider_that_onnx_runtime_went_without(monkeypatch):
    monkeypatch.setattr(Settings, "provider_list", lambda *_: [("CPUExecutionProvider", {}), ("Other", {})])
    real = ort.InferenceSession
    monkeypatch.setattr(ort, "InferenceSession", lambda model, options, **_: real(model, options))
    with pytest.raises(ProviderError, match=r"Expected Other to take part, got CPUExecutionProvider"):
        sessions.open_session(DOUBLE, Settings())
    assert sessions.open_session(DOUBLE, Settings(allow_fallback=True)) is not None


class Elsewhere:
    """Stands for a session that other providers take part in."""

    def __init__(self, active, placement):
        self._subgraphs = [
            SimpleNamespace(ep_name=name, get_nodes=lambda: [SimpleNamespace(name="n", op_type="Add")])
            for name in placement
        ]
        self._active = active

    def get_providers(self):
        return self._active

    def get_provider_graph_assignment_info(self):
        return self._subgraphs

    def __getattr__(self, name):
        return lambda *_: None


FIRST, SECOND, CPU = "FirstProvider", "SecondProvider", "CPUExecutionProvider"


@pytest.mark.parametrize(
    ("asked", "placement", "lazy"),
    [
        ([FIRST], [CPU], FIRST),
        ([FIRST, SECOND], [SECOND, CPU], FIRST),
        ([FIRST, SECOND], [FIRST, CPU], SECOND),
        ([FIRST, SECOND], [FIRST], None),
        ([FIRST], [FIRST, CPU], None),
        ([FIRST], [], None),
        ([FIRST, CPU], [FIRST], None),
    ],
)
def test_a_provider_that_takes_no_node(monkeypatch, asked, placement, lazy):
    """One that the providers before it left nothing to has not failed; nor is anything known where nothing was told."""
    monkeypatch.setattr(Settings, "provider_list", lambda *_: [(name, {}) for name in asked])
    monkeypatch.setattr(ort, "InferenceSession", lambda *_, **__: Elsewhere([*asked, CPU], placement))
    if lazy is None:
        assert sessions.open_session(DOUBLE, Settings()) is not None
        return
    with pytest.raises(ProviderError, match=rf"Expected {lazy} to take nodes, got none(.|\n)*1 on "):
        sessions.open_session(DOUBLE, Settings())
    assert sessions.open_session(DOUBLE, Settings(allow_fallback=True)) is not None


def test_where_nodes_run_cannot_be_told_before_version_1_24(monkeypatch, caplog):
    monkeypatch.setattr(Settings, "provider_list", lambda *_: [(FIRST, {})])
    monkeypatch.setattr(ort, "InferenceSession", lambda *_, **__: Elsewhere([FIRST, CPU], []))
    monkeypatch.setattr(sessions, "KNOWN_ENTRIES", {sessions.RECORD_PLACEMENT})
    sessions.open_session(DOUBLE, Settings())
    assert caplog.text == ""
    monkeypatch.setattr(sessions, "KNOWN_ENTRIES", ())
    sessions.open_session(DOUBLE, Settings())
    assert f"nobody can tell whether {FIRST} take nodes: ONNX Runtime {ort.__version__}" in caplog.text


def test_a_provider_that_refuses_the_model(monkeypatch, caplog):
    real, given = ort.InferenceSession, []

    def refusing(model, options, providers, **_):
        given.append([name for name, _ in providers])
        if providers[0][0] == "OpenVINOExecutionProvider":
            raise RuntimeError("[OpenVINO-EP] Exception from a/b.cpp:1: doesn't support If with dynamic rank")
        return real(model, options, providers=providers)

    monkeypatch.setattr(ort, "get_available_providers", lambda: ["OpenVINOExecutionProvider", CPU])
    monkeypatch.setattr(ort, "InferenceSession", refusing)
    asked = Settings(providers=("openvino",))
    with pytest.raises(ProviderError, match="got doesn't support If with dynamic rank") as caught:
        sessions.open_session(DOUBLE, asked)
    assert "--fix" in caught.value.hint
    with caplog.at_level("WARNING"):
        assert sessions.open_session(DOUBLE, asked.replace(allow_fallback=True)) is not None
    assert "going on without OpenVINOExecutionProvider" in caplog.text
    assert given[-1] == [CPU]


def test_onnx_runtime_prints_nothing_and_falls_back_to_nothing(capfd):
    with pytest.raises(ModelError):
        sessions.open_session(Source(b"nonsense"), Settings())
    assert capfd.readouterr() == ("", "")


def test_the_optimized_graph_runs_as_the_model_does(tmp_path):
    text = "g (float[N] x) => (float[N] y) { a = Identity(x)\n b = Add(a, a)\n y = Relu(b) }"
    source, path = Source(graphs.serialized(text)), tmp_path / "graph.onnx"
    sessions.save_compiled(source, Settings(), path)
    assert path.exists()
    session = sessions.open_session(source, Settings(), compiled=path)
    np.testing.assert_array_equal(session.run(None, {"x": np.array([-1, 2], np.float32)})[0], [0, 4])


def test_a_compiled_graph_that_is_damaged(tmp_path):
    path = tmp_path / "graph.onnx"
    path.write_bytes(b"nonsense")
    with pytest.raises(ModelError, match="Expected a model"):
        sessions.open_session(DOUBLE, Settings(), compiled=path)


def test_placement_is_told_where_it_was_recorded():
    node = SimpleNamespace(name="n0", op_type="Conv")
    graphs_ = [SimpleNamespace(ep_name=name, get_nodes=lambda: [node]) for name in ("A", "B", "A")]
    recorded = SimpleNamespace(get_provider_graph_assignment_info=lambda: graphs_)
    assert sessions.node_placement(recorded) == {"A": ["n0 (Conv)"] * 2, "B": ["n0 (Conv)"]}
    assert sessions.node_placement(sessions.open_session(DOUBLE, Settings())) == {}


def test_the_operators_library_is_there_and_known_by_content(monkeypatch, tmp_path):
    library = sessions.kernels_library()
    assert library.name.startswith("_kernels")
    digest = sessions.operators_digest()
    other = tmp_path / library.name
    other.write_bytes(library.read_bytes() + b"\0")
    monkeypatch.setattr(sessions, "kernels_library", lambda: other)
    assert sessions.operators_digest() != digest
    monkeypatch.undo()
    monkeypatch.setattr(sessions, "EXTENSION_SUFFIXES", [".nothing"])
    with pytest.raises(ModelError, match=r"_kernels(.|\n)*C compiler"):
        sessions.kernels_library()


def test_names_that_are_no_text_are_told():
    class Odd:
        def get_modelmeta(self):
            return b"\xff".decode()

    with pytest.raises(ModelError, match="Expected names and metadata in UTF-8"):
        sessions.specs(Odd())


def test_a_refusal_is_raised_and_never_printed(capfd):
    data = graphs.serialized(graphs.DOUBLE).replace(b"Add", b"\xff\xfe\xfd")
    with pytest.raises(ModelError):
        sessions.open_session(Source(data), Settings())
    assert "EP Error" not in capfd.readouterr().out
