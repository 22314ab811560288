"""What goes into a model and comes out: every type, without copies, never written again, shared only by the cache."""

from __future__ import annotations

import gc

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


def test_results_outlive_their_model():
    with graphs.load(graphs.DOUBLE) as model:
        held = [model.infer(x=np.ones(1 << 20, np.float32))["y"] for _ in range(3)]
    del model
    gc.collect()
    assert all((array == 2).all() for array in held)


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


@pytest.mark.parametrize("size", [1 << 60, 1 << 61, 1 << 63, 1 << 70])
def test_shapes_beyond_any_memory(size):
    with graphs.load(graphs.DOUBLE) as model:
        with pytest.raises(omni.InputError, match="memory can hold"):
            model.warmup({"x": (size,)})
        with pytest.raises(omni.InputError, match="memory can hold"), model.input_buffers(x=(size,)):
            pass
        assert (model.infer(x=np.ones(2, np.float32))["y"] == 2).all()


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
