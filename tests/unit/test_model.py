"""Model: every tensor type, deadlines, cancellation, the cache, zero copies, close, pickle and fork."""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import subprocess
import sys
import threading

import graphs
import numpy as np
import pytest
from onnx import TensorProto, helper

import omni_sdk as omni
from omni_sdk.bundle import create

PLAIN = ["float", "float16", "double", "bool", "bfloat16"]
PLAIN += [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
FLOAT8 = ["FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ"]


def identity(element, shape=("N",)):
    info = [helper.make_tensor_value_info(name, element, shape) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", info[:1], info[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return omni.load(model.SerializeToString(), cache_dir=None)


@pytest.mark.parametrize("shape", [(), (0,), (5,), (2, 0, 3), (2, 3)])
@pytest.mark.parametrize("name", [*PLAIN, *FLOAT8])
def test_every_element_type_comes_back_as_it_went(name, shape):
    element = getattr(TensorProto, name.upper())
    with identity(element, [f"d{i}" for i in range(len(shape))]) as model:
        dtype = model.inputs[0].dtype
        rng = np.random.default_rng(3)
        if dtype.kind == "b":
            array = rng.integers(0, 2, shape).astype(bool)
        else:
            array = rng.integers(0, 100, shape).astype(dtype)
        for _ in range(3):
            result = model.infer(x=array)["y"]
            assert result.dtype == dtype
            np.testing.assert_array_equal(result, array)
        del result
        assert model.stats().bytes_in_use == 0


HALVES = """g (TYPE[N] x) => (TYPE[N] y, float[N] f) {
    one = Constant <value_float = 1.0> ()
    zero = Constant <value: tensor = TYPE {0}> ()
    f = DequantizeLinear (x, one, zero)
    y = QuantizeLinear (f, one, zero)
}"""


@pytest.mark.parametrize("size", [0, 1, 2, 7])
@pytest.mark.parametrize("kind", ["int4", "uint4"])
def test_four_bits_stand_in_a_byte_each(kind, size):
    with graphs.load(HALVES.replace("TYPE", kind), graph_optimization_level="disable") as model:
        array = (np.arange(size) * 5 % 16 - (8 if kind == "int4" else 0)).astype(model.inputs[0].dtype)
        for _ in range(3):
            results = model.infer(x=array)
            np.testing.assert_array_equal(results["f"], array)
            np.testing.assert_array_equal(results["y"], array)
            assert results["y"].dtype == array.dtype


def test_values_that_four_bits_cannot_hold():
    with (
        graphs.load(HALVES.replace("TYPE", "int4"), graph_optimization_level="disable") as model,
        pytest.raises(omni.InputError, match="from -8 to 7"),
    ):
        model.infer(x=np.array([8], np.int8))


def test_ml_dtypes_arrays_are_taken_by_name():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    with identity(TensorProto.BFLOAT16) as model:
        array = np.array([1.5, -2], ml_dtypes.bfloat16)
        np.testing.assert_array_equal(model.infer(x=array)["y"].view(ml_dtypes.bfloat16), array)
        assert model.stats().bytes_copied_in == 0


@pytest.mark.parametrize("array", [np.array(["a", "größer"]), np.array(["a", "b"], object), np.array([], object)])
def test_strings_pass_through(array):
    with identity(TensorProto.STRING) as model:
        assert model.infer(x=array)["y"].tolist() == array.tolist()
        with pytest.raises(omni.InputError, match="strings, got int64"):
            model.infer(x=np.array([1]))


def test_sequences_pass_through():
    text = "g (seq(float[N]) s, int64 i) => (float[M] y, seq(float[N]) t) { y = SequenceAt(s, i)\n t = Identity(s) }"
    with graphs.load(text, cache_bytes=1 << 20) as model:
        one, two = np.ones(2, np.float32), np.zeros(3, np.float32)
        results = model.infer(s=[one, two], i=np.array(1))
        np.testing.assert_array_equal(results["y"], two)
        assert len(results["t"]) == 2
        assert not model.explain()["cache_bytes"].effective


@pytest.mark.parametrize("value", [None, np.ones(2, np.float32)])
def test_optionals_pass_through(value):
    text = "g (optional(float[N]) o) => (bool b) { b = OptionalHasElement(o) }"
    with graphs.load(text) as model:
        assert bool(model.infer(o=value)["b"]) == (value is not None)


def test_results_are_never_written_again():
    with graphs.load(graphs.DOUBLE) as model:
        held = [model.infer(x=np.full(9, value, np.float32))["y"] for value in range(50)]
        assert [array[0] for array in held] == [2 * value for value in range(50)]
        assert all((array == array[0]).all() for array in held)
        assert model.stats().bytes_in_use >= 49 * 36
        del held
        assert model.stats().bytes_in_use == 0


def test_input_buffers_are_bound_where_they_are():
    with graphs.load(graphs.DOUBLE) as model:
        with model.input_buffers(x=(64,)) as buffers:
            assert buffers["x"].ctypes.data % 64 == 0
            for value in range(4):
                buffers["x"][:] = value
                assert (model.infer(buffers)["y"] == 2 * value).all()
        assert model.stats().bytes_copied_in == 0
        del buffers
        assert model.stats().bytes_in_use == 0


def test_inputs_are_bound_wherever_they_lie():
    inputs = [np.full(4, number, np.float32) for number in range(41)]
    with identity(TensorProto.FLOAT) as model:
        for number, array in enumerate(inputs):
            assert model.infer(x=array)["y"].tolist() == [number] * 4
        assert model.stats().bytes_copied == 0


def test_cached_results_are_read_only_and_shared():
    with graphs.load(graphs.DOUBLE, cache_bytes=1 << 20) as model:
        x = np.ones(4, np.float32)
        first, second = model.infer(x=x)["y"], model.infer(x=x)["y"]
        assert first is second
        with pytest.raises(ValueError, match="read-only"):
            first[0] = 5
        with pytest.raises(ValueError, match="WRITEABLE"):
            first.flags.writeable = True
        fresh = model.infer({"x": x}, cache=False)["y"]
        fresh[0] = 7
        mine = np.empty(4, np.float32)
        assert model.infer({"x": x}, out={"y": mine})["y"] is mine
        stats = model.stats()
        assert (stats.runs, stats.cache_hits, stats.cache_misses) == (2, 2, 1)


def test_a_model_with_a_random_operator_is_not_cached_unless_told():
    x = np.ones(4, np.float32)
    with graphs.load(graphs.RANDOM, cache_bytes=1 << 20) as model:
        assert (model.infer(x=x)["y"] != model.infer(x=x)["y"]).any()
        with pytest.raises(omni.InputError, match="cache=True"):
            model.infer({"x": x}, cache=True)
    with graphs.load(graphs.RANDOM, cache_bytes=1 << 20, cache_random=True) as model:
        assert (model.infer(x=x)["y"] == model.infer(x=x)["y"]).all()


@pytest.fixture
def slow():
    with graphs.load(graphs.LONG, intra_op_num_threads=1) as model:
        yield model


FOR_EVER = {"x": np.ones(8, np.float32), "n": np.array(10**9, np.int64)}
AT_ONCE = {"x": np.ones(8, np.float32), "n": np.array(1, np.int64)}


@pytest.mark.parametrize("timeout", [0, 0.05, -1])
def test_a_deadline_ends_the_run(slow, timeout):
    with pytest.raises(TimeoutError, match="Expected a result within"):
        slow.infer(FOR_EVER, timeout=timeout)
    np.testing.assert_allclose(slow.infer(AT_ONCE, timeout=30)["y"], np.sin(np.ones(8)), rtol=1e-6)
    assert slow.infer(AT_ONCE, timeout=float("inf"))["y"].shape == (8,)
    assert slow.stats().bytes_in_use == 0


@pytest.mark.parametrize("timeout", ["soon", float("nan"), [1]])
def test_a_deadline_that_is_no_number(slow, timeout):
    with pytest.raises(omni.InputError, match="seconds"):
        slow.infer(AT_ONCE, timeout=timeout)


def test_async_gives_what_infer_gives_and_cancelling_ends_the_run(slow):
    async def main():
        results = await asyncio.gather(*(slow.infer_async(AT_ONCE) for _ in range(4)))
        task = asyncio.create_task(slow.infer_async(FOR_EVER))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 20)
        with pytest.raises(TimeoutError):
            await slow.infer_async(FOR_EVER, timeout=0.02)
        with pytest.raises(omni.InputError):
            await slow.infer_async(x=1)
        return results

    results = asyncio.run(main())
    assert all((result["y"] == results[0]["y"]).all() for result in results)
    assert slow.infer(AT_ONCE)["y"].shape == (8,)


def test_closing_with_calls_in_the_queue_tells_them_so():
    async def main():
        model = graphs.load(graphs.LONG, async_workers=1)
        running = asyncio.create_task(model.infer_async(FOR_EVER))
        await asyncio.sleep(0.05)
        queued = asyncio.create_task(model.infer_async(AT_ONCE))
        await asyncio.sleep(0.05)
        model.close()
        with pytest.raises(omni.ClosedError):
            await queued
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(main())


def test_close_while_eight_threads_run():
    model, errors, results = graphs.load(graphs.DOUBLE), [], []
    x = np.ones(1000, np.float32)
    started = threading.Barrier(9)

    def work():
        started.wait()
        try:
            while True:
                results.append(model.infer(x=x)["y"][0])
        except omni.ClosedError:
            return
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    started.wait()
    model.close()
    model.close()
    for thread in threads:
        thread.join(20)
    assert errors == []
    assert set(results) <= {2.0}
    assert "closed" in repr(model)
    for call in (model.warmup, model.explain, lambda: model.infer(x=x)):
        with pytest.raises(omni.ClosedError):
            call()


def test_results_outlive_their_model():
    with graphs.load(graphs.DOUBLE) as model:
        held = [model.infer(x=np.ones(1 << 20, np.float32))["y"] for _ in range(3)]
    del model
    gc.collect()
    assert all((array == 2).all() for array in held)


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


def test_cancelling_does_not_wait_for_another_thread_that_computes_the_same():
    model = graphs.load(graphs.LONG, cache_bytes=1 << 20, intra_op_num_threads=1)

    async def main():
        leader = asyncio.create_task(model.infer_async(FOR_EVER))
        await asyncio.sleep(0.05)
        follower = asyncio.create_task(model.infer_async(FOR_EVER))
        await asyncio.sleep(0.05)
        follower.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(follower, 20)
        assert not leader.done()
        leader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(leader, 20)

    with model:
        asyncio.run(asyncio.wait_for(main(), 30))


@pytest.mark.parametrize("size", [1 << 60, 1 << 61, 1 << 63, 1 << 70])
def test_shapes_beyond_any_memory(size):
    with graphs.load(graphs.DOUBLE) as model:
        with pytest.raises(omni.InputError, match="memory can hold"):
            model.warmup({"x": (size,)})
        with pytest.raises(omni.InputError, match="memory can hold"), model.input_buffers(x=(size,)):
            pass
        assert (model.infer(x=np.ones(2, np.float32))["y"] == 2).all()


@pytest.mark.parametrize("path", ["\0", "x" * 5000, "none\0.onnx"])
def test_paths_that_no_system_takes(path):
    with pytest.raises(omni.ModelError, match="Expected a model file"):
        omni.load(path, cache_dir=None)


@pytest.mark.parametrize("cache_bytes", [0, 1 << 20])
def test_a_closed_model_says_so_and_keeps_its_counts(cache_bytes):
    model, x = graphs.load(graphs.DOUBLE, cache_bytes=cache_bytes), np.ones(2, np.float32)
    model.infer(x=x)
    model.infer(x=x)
    before = model.stats()
    model.close()
    after = model.stats()
    assert (after.runs, after.cache_hits, after.cache_misses) == (before.runs, before.cache_hits, before.cache_misses)
    with pytest.raises(omni.ClosedError, match="one that is closed - at <"):
        model.explain()
    parts = model.memory().parts
    assert (parts["session"], parts["weights_mapped"]) == (0, 0)


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


def test_an_awaited_calls_time_counts_from_the_call():
    async def main():
        with graphs.load(graphs.LONG, async_workers=1, intra_op_num_threads=1) as model:
            running = asyncio.create_task(model.infer_async(FOR_EVER))
            await asyncio.sleep(0.05)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(model.infer_async(AT_ONCE, timeout=0.1), 20)
            assert not running.done()
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running

    asyncio.run(main())


def test_states_of_a_bundle_are_zeros_among_input_buffers(tmp_path):
    text = "g (float[B, 3] x, float[B, 3] h) => (float[B, 3] y, float[B, 3] hn) { y = Add(x, h)\n hn = Identity(y) }"
    with create(tmp_path / "b") as draft:
        (draft.folder / "model.onnx").write_bytes(graphs.serialized(text))
        draft.state = {"h": "hn"}
    with omni.load(tmp_path / "b", cache_dir=None) as model:
        model.warmup({"x": (1, 3)}, passes=2)
        for _ in range(3):
            with model.input_buffers(x=(2, 3)) as buffers:
                assert buffers["h"].tolist() == [[0] * 3] * 2
                for array in buffers.values():
                    array[:] = 1
                assert model.infer(buffers)["y"].tolist() == [[2] * 3] * 2
        with model.input_buffers(x=(2, 3), h=(2, 3)) as buffers:
            assert buffers["h"].shape == (2, 3)
