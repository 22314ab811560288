"""Where a model comes from and where it goes: files, bytes and settings, pickles, forked children, a quiet end."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys

import graphs
import numpy as np
import pytest

import omni_sdk as omni


@pytest.mark.parametrize("data", [b"", b"nonsense", graphs.serialized(graphs.DOUBLE)[:40]])
def test_a_model_that_is_none(tmp_path, data):
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    for source in (data, path, str(path)):
        with pytest.raises(omni.ModelError, match="Expected a"):
            omni.load(source, cache_dir=None)


def test_sources_that_cannot_be(tmp_path):
    with pytest.raises(omni.ModelError, match="No such file"):
        omni.load(tmp_path / "none.onnx", cache_dir=None)
    with pytest.raises(omni.ModelError, match="without a manifest"):
        omni.load(tmp_path, cache_dir=None)
    with pytest.raises(omni.InputError, match="path or bytes, got int"):
        omni.load(5, cache_dir=None)


@pytest.mark.parametrize("path", ["\0", "x" * 5000, "none\0.onnx"])
def test_paths_that_no_system_takes(path):
    with pytest.raises(omni.ModelError, match="Expected a model file"):
        omni.load(path, cache_dir=None)


def test_an_opset_nobody_has():
    with pytest.raises(omni.ModelError) as caught:
        omni.load(graphs.serialized(graphs.DOUBLE).replace(b"\x10\x15", b"\x10\x7f"), cache_dir=None)
    assert caught.value.hint


def test_settings_by_name_or_not_at_all():
    data = graphs.serialized(graphs.DOUBLE)
    for wrong in ("fast", {}, 3):
        with pytest.raises(omni.SettingsError, match="balanced"):
            omni.load(data, wrong, cache_dir=None)
    with pytest.raises(omni.ProviderError, match="CPUExecutionProvider"):
        graphs.load(graphs.DOUBLE, providers=("tensorrt",))


def test_pickling_keeps_the_recipe(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(graphs.serialized(graphs.DOUBLE))
    settings = omni.Settings(cache_bytes=1 << 20)
    with omni.load(path, settings, cache_dir=None) as model, pickle.loads(pickle.dumps(model)) as again:
        assert again.settings == settings
        assert again.inputs == model.inputs
        assert (again.infer(x=np.ones(2, np.float32))["y"] == 2).all()
    with graphs.load(graphs.DOUBLE) as model, pytest.raises(omni.ModelError, match="from bytes"):
        pickle.dumps(model)


def test_a_pickled_relative_path_holds_in_another_folder(tmp_path, monkeypatch):
    (tmp_path / "m.onnx").write_bytes(graphs.serialized(graphs.DOUBLE))
    monkeypatch.chdir(tmp_path)
    with omni.load("m.onnx", cache_dir="cache") as model:
        data = pickle.dumps(model)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pickle.loads(data) as again:
        assert (again.infer(x=np.ones(2, np.float32))["y"] == 2).all()
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_is_told_and_ends():
    script = """
import os, sys, numpy as np, graphs, omni_sdk as omni
model = graphs.load(graphs.DOUBLE, intra_op_num_threads=2)
x = np.ones(4, np.float32)
model.infer(x=x)
child = os.fork()
if child == 0:
    try:
        model.infer(x=x)
    except omni.ClosedError as error:
        assert "forked child" in str(error), error
        with graphs.load(graphs.DOUBLE) as mine:
            assert (mine.infer(x=x)["y"] == 2).all()
        sys.exit(7)
    sys.exit(1)
_, status = os.waitpid(child, 0)
assert (model.infer(x=x)["y"] == 2).all()
sys.exit(os.waitstatus_to_exitcode(status))
"""
    run = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert (run.returncode, run.stderr) == (7, "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_childs_counts_are_those_of_the_fork():
    script = """
import os, sys, numpy as np, graphs, omni_sdk as omni
model = graphs.load(graphs.DOUBLE, cache_bytes=1 << 20)
for _ in range(3):
    model.infer(x=np.ones(4, np.float32))
if os.fork() == 0:
    found = model.stats()
    assert (found.cache_hits, found.cache_misses, found.runs) == (2, 1, 1), found
    for call in (model.explain, lambda: model.infer(x=np.ones(4, np.float32))):
        try:
            call()
        except omni.ClosedError as error:
            assert "forked child" in str(error), error
        else:
            sys.exit(1)
    sys.exit(7)
_, status = os.wait()
sys.exit(os.waitstatus_to_exitcode(status))
"""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=env)
    assert (run.returncode, run.stderr) == (7, "")


def test_silence_at_shutdown_with_everything_open():
    script = """
import asyncio, numpy as np, graphs
model = graphs.load(graphs.DOUBLE, cache_bytes=1 << 20)
held = [model.infer(x=np.ones(1 << 20, np.float32)) for _ in range(3)]
asyncio.run(model.infer_async(x=np.ones(4, np.float32)))
"""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False, env=env
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
