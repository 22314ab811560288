"""The compile cache: a second load takes what the first prepared, for this model, device and these settings alone."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import omni_sdk as omni
from omni_sdk import compiled, cpu, folders, session
from omni_sdk.bundle import create
from omni_sdk.entries import Entries
from omni_sdk.errors import BundleError, InputError, ModelError, SettingsError
from omni_sdk.settings import Settings

SIZE = 64


def save(path: Path, seed: int = 0, *, external: bool = False, operator: str = "MatMul") -> Path:
    rng = np.random.default_rng(seed)
    weights = numpy_helper.from_array(rng.standard_normal((SIZE, SIZE)).astype(np.float32), "w")
    nodes = [helper.make_node(operator, ["x", "w"], ["h"]), helper.make_node("Relu", ["h"], ["y"])]
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", SIZE]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", value[:1], value[1:], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save_model(model, path, save_as_external_data=external, location=f"{path.name}.data", size_threshold=0)
    return path


def save_bundle(path: Path, seed: int = 0) -> Path:
    with create(path) as draft:
        save(draft.folder / "model.onnx", seed, external=True)
    return path


def infer(path, cache_dir, settings=None):
    """What the cache did, and the answer to a fixed question."""
    with omni.load(path, settings, cache_dir=cache_dir) as model:
        found = model._compiled
        return found.state, model.infer(x=np.linspace(-1, 1, 2 * SIZE, dtype=np.float32).reshape(2, SIZE))["y"]


def expected(path):
    return infer(path, None)[1]


@pytest.mark.parametrize("kind", ["inline", "external", "bundle", "bytes"])
def test_the_second_load_takes_what_the_first_prepared(tmp_path, kind):
    source = save_bundle(tmp_path / "b") if kind == "bundle" else save(tmp_path / "m.onnx", external=kind == "external")
    if kind == "bytes":
        source = source.read_bytes()
    right = expected(source)
    for state in ("built", "hit", "hit"):
        found, answer = infer(source, tmp_path / "cache")
        assert found == state
        np.testing.assert_array_equal(answer, right)


def test_a_link_to_a_model_is_followed_as_without_a_cache(tmp_path):
    """Download caches keep models as links to their content."""
    (tmp_path / "blobs").mkdir()
    link = tmp_path / "m.onnx"
    link.symlink_to(save(tmp_path / "blobs" / "content"))
    assert [infer(link, tmp_path / "cache")[0] for _ in range(2)] == ["built", "hit"]


@pytest.mark.parametrize("kind", ["inline", "external", "bundle"])
def test_another_models_entry_is_never_taken(tmp_path, kind):
    """The same path with other weights, same size: a replaced model is seen, wherever its weights lie."""
    path = tmp_path / "model"
    make = save_bundle if kind == "bundle" else lambda path, seed: save(path, seed, external=kind == "external")
    answers = []
    for seed in (1, 2, 1):
        if kind != "bundle":
            for old in tmp_path.glob("model*"):
                old.unlink()
        make(path, seed)
        state, answer = infer(path, tmp_path / "cache")
        np.testing.assert_array_equal(answer, expected(path))
        answers.append((state, answer.tobytes()))
    assert [state for state, _ in answers] == ["built", "built", "hit"]
    assert answers[0][1] == answers[2][1] != answers[1][1]


@pytest.mark.parametrize(
    ("change", "state"),
    [
        ({"graph_optimization_level": "basic"}, "built"),
        ({"prepacking": False}, "built"),
        ({"session_entries": {"optimization.disable_specified_optimizers": "MatMulAddFusion"}}, "built"),
        ({"set_denormal_as_zero": True}, "built"),
        ({"intra_op_num_threads": 1}, "hit"),
        ({"allow_spinning": True}, "hit"),
        ({"enable_mem_pattern": True}, "hit"),
        ({"cache_bytes": 1 << 20}, "hit"),
    ],
)
def test_settings_that_shape_the_graph_have_entries_of_their_own(tmp_path, change, state):
    path = save(tmp_path / "m.onnx")
    assert infer(path, tmp_path / "cache")[0] == "built"
    assert infer(path, tmp_path / "cache", Settings(**change))[0] == state


def test_another_runtime_or_processor_has_entries_of_its_own(tmp_path, monkeypatch):
    path = save(tmp_path / "m.onnx")
    infer(path, tmp_path / "cache")
    monkeypatch.setattr(session, "ort_version", lambda: "0.0.1")
    assert infer(path, tmp_path / "cache")[0] == "built"
    described = cpu.describe()
    monkeypatch.setattr(cpu, "describe", lambda *_: cpu.Cpu(described.name, frozenset({"mmx"}), 1))
    assert infer(path, tmp_path / "cache")[0] == "built"


def entry(cache_dir: Path) -> Path:
    (found,) = (place for place in (cache_dir / "compiled").iterdir() if place.is_dir())
    return found


@pytest.mark.parametrize("name", ["model.onnx", "model.onnx.data", "entry.json", "verified.json"])
def test_a_damaged_entry_is_rebuilt(tmp_path, name):
    path, cache = save(tmp_path / "m.onnx"), tmp_path / "cache"
    infer(path, cache)
    victim = entry(cache) / name
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 0x40
    victim.write_bytes(content)
    state, answer = infer(path, cache)
    assert state == "built"
    np.testing.assert_array_equal(answer, expected(path))
    assert infer(path, cache)[0] == "hit"


def test_an_entry_that_onnxruntime_refuses_is_dropped(tmp_path, monkeypatch, caplog):
    """Whole by its own account and no model all the same: the model is loaded as it is, and the next load builds."""
    path, cache = save(tmp_path / "m.onnx"), tmp_path / "cache"
    good = session.save_compiled

    def save_nonsense(source, settings, path):
        good(source, settings, path)
        path.write_bytes(b"nonsense")

    monkeypatch.setattr(session, "save_compiled", save_nonsense)
    with omni.load(path, cache_dir=cache) as model:
        assert str(model._compiled) == "off, ONNX Runtime refuses its own graph"
    assert "dropping the compiled graph" in caplog.text
    monkeypatch.undo()
    for state in ("built", "hit"):
        found, answer = infer(path, cache)
        assert found == state
        np.testing.assert_array_equal(answer, expected(path))


def test_an_entry_outlives_a_time_when_nothing_can_be_opened(tmp_path, monkeypatch):
    path, cache = save(tmp_path / "m.onnx"), tmp_path / "cache"
    infer(path, cache)

    def refuse(*_, **__):
        raise ModelError("Expected 3 more threads, got 1 from the system - at load of m.onnx")

    monkeypatch.setattr(session, "open_session", refuse)
    with pytest.raises(ModelError, match="more threads"):
        infer(path, cache)
    monkeypatch.undo()
    assert infer(path, cache)[0] == "hit"


@pytest.mark.parametrize("cache_dir", [5, b"cache", "a\0b", "\ud800"])
def test_a_cache_folder_that_is_no_path(tmp_path, cache_dir):
    with pytest.raises(InputError, match="at cache_dir"):
        omni.load(save(tmp_path / "m.onnx"), cache_dir=cache_dir)


def test_a_graph_that_cannot_be_saved_is_loaded_as_it_is(tmp_path, monkeypatch):
    path = save(tmp_path / "m.onnx")

    def refuse(*_):
        raise ModelError("Expected a graph that can be saved, got another - at m.onnx")

    monkeypatch.setattr(session, "save_compiled", refuse)
    state, answer = infer(path, tmp_path / "cache")
    assert state == "off"
    np.testing.assert_array_equal(answer, expected(path))


def test_a_disk_without_room_or_rights_costs_only_the_speed_up(tmp_path, monkeypatch):
    path = save(tmp_path / "m.onnx")
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    assert infer(path, blocked)[0] == "off"
    usage = compiled.shutil.disk_usage
    monkeypatch.setattr(compiled.shutil, "disk_usage", lambda place: usage(place)._replace(free=100))
    with omni.load(path, cache_dir=tmp_path / "cache") as model:
        assert model._compiled.state == "off"
        assert "free on its disk" in model._compiled.reason
    monkeypatch.undo()
    monkeypatch.setenv(compiled.LIMIT_VARIABLE, "plenty")
    with pytest.raises(SettingsError, match=compiled.LIMIT_VARIABLE):
        infer(path, tmp_path / "cache")


@pytest.mark.parametrize(
    ("limit", "compilations", "reason"),
    [(1000, 0, "KiB is more than the 1000 B of OMNI_SDK_"), (18_000, 1, "KiB that the cache may hold")],
)
def test_a_model_beyond_the_caches_limit_is_compiled_at_most_once_and_explained(
    tmp_path, monkeypatch, limit, compilations, reason
):
    """Where the model's size decides, never; where only the entry's does, once, for its size is then noted."""
    path, cache = save(tmp_path / "m.onnx"), tmp_path / "cache"
    saved, calls = session.save_compiled, []
    monkeypatch.setattr(session, "save_compiled", lambda *given: calls.append(1) or saved(*given))
    monkeypatch.setenv(compiled.LIMIT_VARIABLE, str(limit))
    for _ in range(3):
        with omni.load(path, cache_dir=cache) as model:
            told = model.explain().compile_cache
        assert told.startswith("off, ")
        assert reason in told
    assert len(calls) == compilations
    assert Entries(cache / "compiled", limit).bytes() == 0
    monkeypatch.delenv(compiled.LIMIT_VARIABLE)
    assert [infer(path, cache)[0] for _ in range(2)] == ["built", "hit"]


def test_a_cache_folder_that_others_can_replace_costs_only_the_speed_up(tmp_path):
    path = save(tmp_path / "m.onnx")
    open_to_all = tmp_path / "everyone's"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    with omni.load(path, cache_dir=open_to_all / "cache") as model:
        assert "may be written by everyone" in model.explain().compile_cache


def test_a_model_at_fault_fails_as_it_does_without_a_cache(tmp_path):
    path = save(tmp_path / "m.onnx", operator="NoSuchOperator")
    with pytest.raises(ModelError, match="NoSuchOperator") as without:
        omni.load(path, cache_dir=None)
    with pytest.raises(ModelError) as through:
        omni.load(path, cache_dir=tmp_path / "cache")
    assert str(through.value) == str(without.value)


def test_a_damaged_bundle_is_never_compiled(tmp_path):
    """Sizes still fit, so a plain load would run it; what goes into the cache is read whole first."""
    path = save_bundle(tmp_path / "b")
    weights = path / "model.onnx.data"
    content = bytearray(weights.read_bytes())
    content[100] ^= 1
    weights.write_bytes(content)
    with pytest.raises(BundleError, match="checksum"):
        omni.load(path, cache_dir=tmp_path / "cache")


def test_a_bundle_replaced_during_the_load_is_opened_anew(tmp_path, monkeypatch):
    path = save_bundle(tmp_path / "b", seed=1)
    opened = session.open_session
    replaced = []

    def replace_first(*given, **named):
        if not replaced:
            replaced.append(save_bundle(path, seed=2))
        return opened(*given, **named)

    monkeypatch.setattr(session, "open_session", replace_first)
    _, answer = infer(path, None)
    monkeypatch.undo()
    np.testing.assert_array_equal(answer, expected(path))


def test_where_the_cache_stands(tmp_path, monkeypatch):
    monkeypatch.setenv(folders.CACHE_VARIABLE, str(tmp_path / "here"))
    assert compiled.folder() == tmp_path / "here" / "compiled"
    assert compiled.folder(tmp_path / "there") == tmp_path / "there" / "compiled"
    assert compiled.folder(None) is None
    monkeypatch.delenv(folders.CACHE_VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    assert compiled.folder() == tmp_path / "home" / "omni-sdk" / "compiled"


def test_explain_tells_what_the_cache_did(tmp_path):
    path = save(tmp_path / "m.onnx")
    told = []
    for cache_dir in (tmp_path / "cache", tmp_path / "cache", None):
        with omni.load(path, cache_dir=cache_dir) as model:
            told.append(model.explain().compile_cache)
            assert f"compile cache: {told[-1]}" in str(model.explain())
    assert told == ["built", "hit", "off, cache_dir is None"]


def test_small_models_leave_the_users_cache_folder_alone(tmp_path, monkeypatch):
    monkeypatch.setenv(folders.CACHE_VARIABLE, str(tmp_path / "cache"))
    path = save(tmp_path / "m.onnx")
    with omni.load(path) as model:
        assert model._compiled.state == "off"
        assert "as quickly without" in model._compiled.reason
    assert not (tmp_path / "cache").exists()
    monkeypatch.setattr(compiled, "WORTH_BYTES", 100)
    with omni.load(path) as model:
        assert model._compiled.state == "built"


FILL = """
import sys, numpy as np, omni_sdk as omni
with omni.load(sys.argv[1], cache_dir=sys.argv[2]) as model:
    x = np.linspace(-1, 1, 128, dtype=np.float32).reshape(2, 64)
    print(model._compiled.state, model.infer(x=x)["y"].tobytes().hex())
"""


def test_several_processes_fill_the_cache_at_once_and_one_builds(tmp_path):
    path = save(tmp_path / "m.onnx", external=True)
    command = [sys.executable, "-c", FILL, str(path), str(tmp_path / "cache")]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) for _ in range(4)]
    results = [process.communicate(timeout=60)[0].split() for process in running]
    assert sorted(state for state, _ in results) == ["built", "hit", "hit", "hit"]
    assert {answer for _, answer in results} == {expected(path).tobytes().hex()}


def test_a_model_that_changes_while_it_is_compiled_is_not_kept(tmp_path, monkeypatch, caplog):
    path = save(tmp_path / "m.onnx", external=True)
    saved = session.save_compiled

    def save_and_touch(source, settings, target):
        saved(source, settings, target)
        os.utime(path.with_name("m.onnx.data"))

    monkeypatch.setattr(session, "save_compiled", save_and_touch)
    with caplog.at_level(logging.WARNING), omni.load(path, cache_dir=tmp_path / "cache") as model:
        assert (model._compiled.state, model._compiled.reason) == ("off", "the model was changed while it was read")


@pytest.mark.parametrize("kills", [4, pytest.param(200, marks=pytest.mark.heavy)])
def test_processes_killed_while_loading_never_leave_a_wrong_model(tmp_path, kills):
    command = [
        sys.executable,
        str(Path(__file__).with_name("killing.py")),
        "compiled",
        "exchange",
        str(kills),
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "broken 0" in done.stdout


# --- providers with a cache of their own

OPENVINO = "OpenVINOExecutionProvider"


@pytest.fixture
def openvino(monkeypatch):
    """Settings whose sessions write what a provider would write; `reads` says whether it takes what it wrote."""

    class Provider:
        reads, opened, options = True, 0, ()

    def provider_list(settings, cache_folder=None):
        return [(OPENVINO, dict(Provider.options))]

    real, plain = session.open_session, Settings.provider_list

    def open_session(source, settings, *, compiled=None, cache_folder=None):
        Provider.opened += 1
        if cache_folder is not None:
            blob = cache_folder / "model.blob"
            if not (Provider.reads and blob.exists()):
                blob.write_bytes(b"blob %d" % Provider.opened)
        with monkeypatch.context() as patch:
            patch.setattr(Settings, "provider_list", plain)
            return real(source, Settings())

    monkeypatch.setattr(Settings, "provider_list", provider_list)
    monkeypatch.setattr(session, "open_session", open_session)
    return Provider


def test_a_providers_cache_is_an_entry_of_ours(tmp_path, openvino):
    path = save(tmp_path / "m.onnx")
    assert [infer(path, tmp_path / "cache")[0] for _ in range(3)] == ["built", "hit", "hit"]
    (entry,) = [place for place in (tmp_path / "cache" / "compiled").iterdir() if place.is_dir()]
    assert (entry / "model.blob").read_bytes() == b"blob 1"
    assert openvino.opened == 4
    (entry / "model.blob").write_bytes(b"damage")
    assert infer(path, tmp_path / "cache")[0] == "built"


def test_a_providers_cache_is_for_its_options_and_distribution_alone(tmp_path, openvino, monkeypatch):
    path = save(tmp_path / "m.onnx")
    assert infer(path, tmp_path / "cache")[0] == "built"
    openvino.options = {"device_type": "GPU"}
    assert infer(path, tmp_path / "cache")[0] == "built"
    openvino.options = {}
    monkeypatch.setattr(compiled.installed, "runtimes", lambda: {"onnxruntime-openvino": "9.9"})
    assert infer(path, tmp_path / "cache")[0] == "built"


def test_a_providers_cache_is_bounded_as_ours_is(tmp_path, openvino, monkeypatch):
    monkeypatch.setenv(compiled.LIMIT_VARIABLE, "1")
    assert infer(save(tmp_path / "m.onnx"), tmp_path / "cache")[0] == "off"
    assert [place for place in (tmp_path / "cache" / "compiled").iterdir() if place.is_dir()] == []


def test_a_provider_that_does_not_read_what_it_wrote_is_remembered(tmp_path, openvino):
    openvino.reads = False
    for name, sessions_made in (("a", 2), ("a", 3), ("b", 4)):
        with omni.load(save(tmp_path / f"{name}.onnx"), cache_dir=tmp_path / "cache") as model:
            assert str(model._compiled) == f"off, {compiled.UNREAD}"
        assert openvino.opened == sessions_made
    assert [place for place in (tmp_path / "cache" / "compiled").iterdir() if place.is_dir()] == []


def test_whoever_names_a_cache_for_the_provider_keeps_it(tmp_path, openvino):
    openvino.options = {"cache_dir": str(tmp_path / "own")}
    with omni.load(save(tmp_path / "m.onnx"), cache_dir=tmp_path / "cache") as model:
        assert "a cache of their own" in str(model._compiled)


def test_a_provider_without_a_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(Settings, "provider_list", lambda *_: [("CUDAExecutionProvider", {})])
    reason = compiled._why_not(omni.source.Source(save(tmp_path / "m.onnx")), Settings(), tmp_path, asked_by_name=True)
    assert reason.startswith("CUDAExecutionProvider keeps no cache")
