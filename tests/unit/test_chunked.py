"""Long inputs chunk by chunk equal the one-shot run, and need no more memory than a chunk does."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import omni_sdk as omni
from omni_sdk import memory
from omni_sdk.bundle import Audio, create
from omni_sdk.errors import InputError
from omni_sdk.settings import Settings

TAPS, HOP = 5, 3


def causal(path=None, *, wide=4):
    """A causal convolution over frames, its last inputs carried as state, each frame repeated HOP times."""
    rng = np.random.default_rng(7)
    tensors = [
        numpy_helper.from_array(rng.standard_normal((wide, 2, TAPS)).astype(np.float32), "w"),
        numpy_helper.from_array(np.array([-(TAPS - 1)], np.int64), "from"),
        numpy_helper.from_array(np.array([2**62], np.int64), "to"),
        numpy_helper.from_array(np.array([2], np.int64), "axes"),
        numpy_helper.from_array(np.array([1], np.int64), "channels"),
        numpy_helper.from_array(np.array([1, 1, -1], np.int64), "flat"),
    ]
    nodes = [
        helper.make_node("Concat", ["past.x", "codes"], ["all"], axis=2),
        helper.make_node("Conv", ["all", "w"], ["c"]),
        helper.make_node("ReduceSum", ["c", "channels"], ["s"], keepdims=1),
        helper.make_node("Concat", ["s"] * HOP, ["rows"], axis=1),
        helper.make_node("Transpose", ["rows"], ["columns"], perm=[0, 2, 1]),
        helper.make_node("Reshape", ["columns", "flat"], ["y"]),
        helper.make_node("Slice", ["all", "from", "to", "axes"], ["present.x"]),
    ]
    state = [1, 2, TAPS - 1]
    takes = [
        helper.make_tensor_value_info("codes", 1, [1, 2, "frames"]),
        helper.make_tensor_value_info("past.x", 1, state),
    ]
    gives = [helper.make_tensor_value_info("y", 1, [1, 1, "n"]), helper.make_tensor_value_info("present.x", 1, state)]
    graph = helper.make_graph(nodes, "g", takes, gives, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    if path is None:
        return model.SerializeToString()
    with create(path) as draft:
        onnx.save_model(model, draft.folder / "model.onnx")
        draft.state = {"past.x": "present.x"}
        draft.audio = Audio(sample_rate=16, hop=HOP, input="codes", output="y")
    return path


def frames(count, seed=0):
    return np.random.default_rng(seed).standard_normal((1, 2, count)).astype(np.float32)


ZEROS = np.zeros((1, 2, TAPS - 1), np.float32)


@pytest.mark.parametrize("count", [1, 6, 7, 8, 50])
@pytest.mark.parametrize("kind", ["bytes", "bundle"])
def test_any_length_equals_the_one_shot_run(tmp_path, count, kind):
    source = causal(tmp_path / "b") if kind == "bundle" else causal()
    feeds = {"codes": frames(count), "past.x": frames(TAPS - 1, seed=1)}
    with omni.load(source, cache_dir=None) as plain, omni.load(source, Settings(max_chunk=7), cache_dir=None) as model:
        expected = plain.infer(feeds)
        found = model.infer(feeds)
        assert found.keys() == expected.keys()
        for name in expected:
            np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=1e-5)
        assert found["y"].shape == (1, 1, count * HOP)
        assert model.stats().runs == -(-count // 7)


def around(*, before, after):
    """A convolution over frames that looks to either side, each frame repeated HOP times; no state."""
    weight = np.random.default_rng(3).standard_normal((1, 2, before + after + 1)).astype(np.float32)
    tensors = [
        numpy_helper.from_array(weight, "w"),
        numpy_helper.from_array(np.array([1, 1, -1], np.int64), "flat"),
    ]
    nodes = [
        helper.make_node("Conv", ["codes", "w"], ["c"], pads=[before, after]),
        helper.make_node("Concat", ["c"] * HOP, ["rows"], axis=1),
        helper.make_node("Transpose", ["rows"], ["columns"], perm=[0, 2, 1]),
        helper.make_node("Reshape", ["columns", "flat"], ["y"]),
    ]
    takes = [helper.make_tensor_value_info("codes", 1, [1, 2, "frames"])]
    gives = [helper.make_tensor_value_info("y", 1, [1, 1, "n"])]
    graph = helper.make_graph(nodes, "g", takes, gives, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()


@pytest.mark.parametrize("count", [1, 3, 6, 7, 8, 50])
@pytest.mark.parametrize(("before", "after"), [(0, 0), (4, 0), (3, 2)])
def test_context_stands_in_for_state(count, before, after):
    settings = Settings(max_chunk=7, chunk_context=(before, after))
    source, feeds = around(before=before, after=after), {"codes": frames(count)}
    with omni.load(source, cache_dir=None) as plain, omni.load(source, settings, cache_dir=None) as model:
        np.testing.assert_allclose(model.infer(feeds)["y"], plain.infer(feeds)["y"], rtol=0, atol=1e-5)
        assert count < 8 or model.stats().runs > 1


def test_too_little_context_is_not_the_one_shot_run():
    source, feeds = around(before=4, after=0), {"codes": frames(50)}
    settings = Settings(max_chunk=7, chunk_context=3)
    with omni.load(source, cache_dir=None) as plain, omni.load(source, settings, cache_dir=None) as model:
        assert np.abs(model.infer(feeds)["y"] - plain.infer(feeds)["y"]).max() > 1e-3


def test_states_left_out_begin_with_zeros():
    with omni.load(causal(), Settings(max_chunk=4), cache_dir=None) as model:
        with_zeros = model.infer({"codes": frames(10), "past.x": ZEROS})
        np.testing.assert_array_equal(model.infer(codes=frames(10))["y"], with_zeros["y"])


def test_results_go_where_they_are_wanted():
    with omni.load(causal(), Settings(max_chunk=4), cache_dir=None) as model:
        mine = np.empty((1, 1, 10 * HOP), np.float32)
        found = model.infer({"codes": frames(10)}, out={"y": mine})["y"]
        assert found is mine
        np.testing.assert_array_equal(mine, model.infer(codes=frames(10))["y"])
        with pytest.raises(InputError, match="out"):
            model.infer({"codes": frames(11)}, out={"y": mine})


def test_wrong_feeds_are_refused_and_the_model_goes_on():
    with omni.load(causal(), Settings(max_chunk=4), cache_dir=None) as model:
        for feeds in ({}, {"codes": frames(0)}, {"codes": frames(5)[0]}, {"codes": frames(5), "z": ZEROS}):
            with pytest.raises(InputError):
                model.infer(feeds)
        with pytest.raises(TimeoutError):
            model.infer({"codes": frames(100_000)}, timeout=0.0)
        assert model.infer(codes=frames(5))["y"].shape == (1, 1, 5 * HOP)


def test_a_model_without_a_streaming_form_says_so():
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, "n"]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", value[:1], value[1:])
    plain = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()
    with omni.load(plain, Settings(max_chunk=4), cache_dir=None) as model:
        effect = model.explain()["max_chunk"]
        assert (effect.asked, effect.effective) == (4, None)
        assert "state" in effect.reason
        assert model.infer(x=np.ones((1, 9), np.float32))["y"].shape == (1, 9)


def test_context_that_state_makes_needless_is_said_to_be():
    with omni.load(causal(), Settings(max_chunk=4, chunk_context=2), cache_dir=None) as model:
        effect = model.explain()["chunk_context"]
        assert (effect.asked, effect.effective) == (2, None)
        assert "state" in effect.reason
    assert any(finding.setting == "chunk_context" for finding in Settings(chunk_context=2).check())


def test_peak_memory_does_not_grow_with_the_input():
    """512 channels in between: 2 KiB a frame at once, against a chunk's 128 KiB."""
    source = causal(wide=512)
    with omni.load(source, Settings(max_chunk=64), cache_dir=None) as model:
        model.infer(codes=frames(200))
        before = memory.private()
        model.infer(codes=frames(40_000))
        assert memory.private() - before < 16 << 20
    with omni.load(source, cache_dir=None) as plain:
        before = memory.private()
        plain.infer({"codes": frames(40_000), "past.x": ZEROS})
        assert memory.private() - before > 64 << 20


def test_a_chunked_model_has_no_result_cache_and_says_so():
    with omni.load(causal(), Settings(max_chunk=4, cache_bytes=1 << 20)) as model:
        assert model.explain()["cache_bytes"].effective == 0
        with pytest.raises(InputError, match="result cache"):
            model.infer(codes=np.zeros((1, 2, 8), np.float32), cache=True)


def shares(report):
    return [dict(entry.shapes) for entry in report.shapes]


@pytest.mark.parametrize("count", [3, 10, 12])
def test_a_warm_up_runs_the_pieces_and_not_the_whole(count):
    for source, settings in (
        (causal(), Settings(max_chunk=4)),
        (around(before=3, after=2), Settings(max_chunk=4, chunk_context=(3, 2))),
    ):
        with omni.load(source, settings, cache_dir=None) as model:
            shape = {"codes": (1, 2, count)}
            asked = shape if len(model.inputs) == 1 else {**shape, "past.x": ZEROS.shape}
            assert shares(model.warmup(asked, passes=3)) == [asked]
            assert not model._caller.latencies
            ran = model._runner.learned
            assert max(shapes[0][-1] for shapes in ran) <= 4 + 3 + 2
            model.infer(codes=frames(count))
            assert model._runner.learned == ran
            assert model.explain().not_warmed == ()


def test_pieces_that_a_warm_up_did_not_run_stay_cold():
    with omni.load(causal(), Settings(max_chunk=4), cache_dir=None) as model:
        model.infer(codes=frames(3))
        model.warmup({"codes": (1, 2, 10)}, passes=1)
        model.warmup({"codes": (1, 2, 2)}, passes=1)
        assert [dict(shapes)["codes"] for shapes in model.explain().not_warmed] == [(1, 2, 3)]


def plus(*names):
    """`y = x + (the sum of each other input)`, x of any length."""
    dims = {"x": [1, "n"]}
    takes = [helper.make_tensor_value_info(name, 1, dims.get(name, [1, 1])) for name in ("x", *names)]
    gives = [helper.make_tensor_value_info("y", 1, [1, "m"])]
    graph = helper.make_graph([helper.make_node("Sum", ["x", *names], ["y"])], "g", takes, gives)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return omni.load(model.SerializeToString(), Settings(max_chunk=2, chunk_context=0), cache_dir=None)


def test_constants_may_bear_the_name_of_any_parameter():
    names = ("state", "window", "initial", "constants", "self", "feeds", "named")
    with plus(*names) as model:
        feeds = {name: np.ones((1, 1), np.float32) for name in names}
        found = model.infer({"x": np.zeros((1, 5), np.float32), **feeds})["y"]
        np.testing.assert_array_equal(found, np.full((1, 5), len(names)))


def test_what_is_missing_or_too_much_is_named():
    with plus("scale") as model:
        x, scale = np.zeros((1, 5), np.float32), np.ones((1, 1), np.float32)
        with pytest.raises(InputError, match="'scale', which is missing"):
            model.infer(x=x)
        with pytest.raises(InputError, match="'x', which is missing"):
            model.infer(scale=scale)
        with pytest.raises(InputError, match="'z' as well"):
            model.infer(x=x, scale=scale, z=x)


def test_python_values_become_arrays_here_too(tmp_path):
    with omni.load(causal(tmp_path / "b"), Settings(max_chunk=4), cache_dir=None) as model:
        whole = frames(9)
        np.testing.assert_array_equal(model.infer(codes=whole.tolist())["y"], model.infer(codes=whole)["y"])
        for wrong, says in (([[[1.0], [1.0, 2.0]]], "ragged.*'codes'"), (None, "NoneType.*'codes'")):
            with pytest.raises(InputError, match=says):
                model.infer(codes=wrong)
    with omni.load(tmp_path / "b", cache_dir=None) as model, pytest.raises(InputError, match=r"ragged.*'codes'"):
        model.infer(codes=[[[1.0], [1.0, 2.0]]])


def test_a_value_out_of_range_is_named_by_its_place_in_the_whole_before_anything_runs(tmp_path):
    path = causal(tmp_path / "bundle")
    graph = onnx.load(path / "model.onnx")
    codes = graph.graph.input[0]
    codes.type.tensor_type.elem_type = TensorProto.INT64
    graph.graph.node.insert(0, helper.make_node("Cast", ["codes"], ["floats"], to=1))
    graph.graph.node[1].input[1] = "floats"
    graph.metadata_props.add(key="range.codes", value="0 9")
    with omni.load(graph.SerializeToString(), Settings(max_chunk=8), cache_dir=None) as model:
        values = np.zeros((1, 2, 40), np.int64)
        values[0, 1, 30] = 10
        with pytest.raises(InputError, match=r"\[0, 1, 30\]"):
            model.infer(codes=values)
        assert model.stats().runs == 0
