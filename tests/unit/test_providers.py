"""Providers' names, documented options, and what each is given where nothing was asked for."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import omni_sdk as omni
from omni_sdk import compiled, providers
from omni_sdk.providers import CPU, CUDA, OPENVINO, TENSORRT

FOLDER = Path("cache")


def test_short_names_are_names_too():
    assert [providers.long_name(name) for name in ("cpu", "openvino", "cuda", "tensorrt")] == [
        CPU,
        OPENVINO,
        CUDA,
        TENSORRT,
    ]
    assert providers.long_name(CUDA) == CUDA
    assert providers.long_name("Other") == providers.short_name("Other") == "Other"
    assert providers.short_name(TENSORRT) == "tensorrt"


@pytest.mark.parametrize(
    ("name", "options"),
    [
        (OPENVINO, {"device_type": "GPU.1", "precision": "FP16", "num_of_threads": "2"}),
        (OPENVINO, {"device_type": "AUTO:GPU,NPU,CPU", "load_config": '{"CPU": {"NUM_STREAMS": "1"}}'}),
        (CUDA, {"device_id": "0", "gpu_mem_limit": "1000000", "cudnn_conv_algo_search": "HEURISTIC"}),
        (TENSORRT, {"trt_fp16_enable": "True", "trt_int8_enable": "1", "trt_timing_cache_path": "/x"}),
        (OPENVINO, {"disable_dynamic_shapes": "True", "enable_qdq_optimizer": "0", "model_priority": "HIGH"}),
        (CUDA, {"use_tf32": "1", "prefer_nhwc": "True", "arena_extend_strategy": "kSameAsRequested"}),
        (TENSORRT, {"trt_auxiliary_streams": "-1", "trt_builder_optimization_level": "5", "device_id": "1"}),
        ("Other", {"anything": "goes"}),
    ],
)
def test_documented_options_pass(name, options):
    assert providers.wrong_options(name, options) == []


@pytest.mark.parametrize(
    ("name", "options", "says", "remedy"),
    [
        (CPU, {"arena_extend_strategy": "1"}, "no option 'arena_extend_strategy'", "arena_bytes"),
        (OPENVINO, {"cache_dirs": "x"}, "no option 'cache_dirs'", "did you mean 'cache_dir'?"),
        (CUDA, {"trt_fp16_enable": "1"}, "no option 'trt_fp16_enable'", ""),
        (TENSORRT, {"fp16_enable": "1"}, "no option 'fp16_enable'", "did you mean 'trt_fp16_enable'?"),
        (OPENVINO, {"device_type": "TPU"}, "takes no device_type='TPU'", "CPU, GPU, GPU.1"),
        (OPENVINO, {"device_type": "HETERO:GPU,"}, "takes no device_type", "HETERO:"),
        (OPENVINO, {"precision": "FP99"}, "takes no precision='FP99'", "FP32"),
        (OPENVINO, {"num_of_threads": "0"}, "takes no num_of_threads='0'", "1 or more"),
        (OPENVINO, {"load_config": "{"}, "takes no load_config", "give JSON"),
        (OPENVINO, {"load_config": '{"CPU": 1}'}, "takes no load_config", "give JSON"),
        (OPENVINO, {"load_config": '{"CPU": ' * 100_000}, "takes no load_config", "give JSON"),
        (OPENVINO, {"load_config": "[" * 100_000}, "takes no load_config", "give JSON"),
        (OPENVINO, {"load_config": '{"a":' * 101 + "1" + "}" * 101}, "takes no load_config", "give JSON"),
        (OPENVINO, {"disable_dynamic_shapes": "si"}, "takes no disable_dynamic_shapes='si'", "True or False"),
        (OPENVINO, {"model_priority": "urgent"}, "takes no model_priority", "LOW, MEDIUM"),
        (CUDA, {"use_tf32": "maybe"}, "takes no use_tf32='maybe'", "True or False"),
        (CUDA, {"gpu_mem_limit": "lots"}, "takes no gpu_mem_limit='lots'", "a whole number"),
        (CUDA, {"gpu_mem_limit": "-1"}, "takes no gpu_mem_limit", "0 or more"),
        (CUDA, {"device_id": "first"}, "takes no device_id='first'", "a whole number"),
        (CUDA, {"device_id": "\u0661"}, "takes no device_id", "a whole number"),
        (CUDA, {"cudnn_conv_algo_search": "FAST"}, "takes no cudnn_conv_algo_search", "EXHAUSTIVE"),
        (TENSORRT, {"trt_fp16_enable": "yes"}, "takes no trt_fp16_enable='yes'", "True or False"),
        (TENSORRT, {"trt_load_user_initializer": "2"}, "takes no trt_load_user_initializer='2'", "True or False"),
        (TENSORRT, {"trt_max_workspace_size": "1GB"}, "takes no trt_max_workspace_size='1GB'", "a whole number"),
        (TENSORRT, {"trt_builder_optimization_level": "9"}, "takes no trt_builder_optimization_level", "0 to 5"),
    ],
)
def test_what_a_provider_would_ignore(name, options, says, remedy):
    ((wrong, hint),) = providers.wrong_options(name, options)
    assert says in wrong
    assert remedy in hint if remedy else hint == ""


def openvino(cache_folder=None, **options):
    found = providers.prepared(OPENVINO, options, threads=3, cache_folder=cache_folder)
    return {**found, "load_config": json.loads(found.get("load_config", "{}"))}


@pytest.mark.parametrize(
    ("options", "device", "config"),
    [
        ({}, "CPU", {"CPU": {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": "3"}}),
        ({"device_type": "GPU.1"}, "GPU.1", {"GPU": {"INFERENCE_PRECISION_HINT": "f32"}}),
        ({"device_type": "NPU"}, "NPU", {}),
        ({"device_type": "AUTO:GPU,CPU"}, "AUTO:GPU,CPU", {}),
        ({"precision": "ACCURACY"}, "CPU", {"CPU": {"INFERENCE_NUM_THREADS": "3"}}),
        ({"num_of_threads": "1"}, "CPU", {"CPU": {"INFERENCE_PRECISION_HINT": "f32"}}),
        (
            {"load_config": '{"CPU": {"INFERENCE_PRECISION_HINT": "bf16", "INFERENCE_NUM_THREADS": "1"}}'},
            "CPU",
            {"CPU": {"INFERENCE_PRECISION_HINT": "bf16", "INFERENCE_NUM_THREADS": "1"}},
        ),
        (
            {"load_config": '{"CPU": {"EXECUTION_MODE_HINT": "ACCURACY"}}'},
            "CPU",
            {"CPU": {"EXECUTION_MODE_HINT": "ACCURACY", "INFERENCE_NUM_THREADS": "3"}},
        ),
    ],
)
def test_openvino_computes_in_fp32_on_the_settings_threads_unless_told_otherwise(options, device, config):
    found = openvino(**options)
    assert (found["device_type"], found["load_config"]) == (device, config)


def test_openvinos_cache():
    assert "cache_dir" not in openvino()
    assert openvino(FOLDER)["cache_dir"] == "cache"


def test_cuda_computes_in_fp32_unless_told_otherwise():
    assert providers.prepared(CUDA, {}, threads=1) == {"use_tf32": "0"}
    assert providers.prepared(CUDA, {"use_tf32": "1", "device_id": "1"}, threads=1) == {
        "use_tf32": "1",
        "device_id": "1",
    }


def test_tensorrts_switches_are_spelled_as_its_parser_wants_them():
    options = {"trt_fp16_enable": "1", "trt_int8_enable": "false", "trt_max_workspace_size": "1", "device_id": "0"}
    assert providers.prepared(TENSORRT, options, threads=1) == {
        "trt_fp16_enable": "True",
        "trt_int8_enable": "False",
        "trt_max_workspace_size": "1",
        "device_id": "0",
    }


@pytest.mark.parametrize("name", [OPENVINO, CUDA, TENSORRT])
def test_each_switch_and_number_of_a_provider_is_one_of_its_options(name):
    """A table of values that names an option wrongly would check nothing."""
    keys = {key for provider, key in providers._VALUES if provider == name}
    assert keys
    assert keys <= providers.FACTS[name].options


@pytest.mark.parametrize(
    ("name", "key"),
    [
        (TENSORRT, "trt_load_user_initializer"),
        (TENSORRT, "trt_int8_use_native_calibration_table"),
        (TENSORRT, "has_user_compute_stream"),
        (OPENVINO, "disable_dynamic_shapes"),
    ],
)
def test_every_switch_is_spelled_as_its_provider_wants_it(name, key):
    for asked, given in {"1": "True", "true": "True", "True": "True", "0": "False", "false": "False"}.items():
        assert providers.wrong_options(name, {key: asked}) == []
        assert providers.prepared(name, {key: asked}, threads=1)[key] == given


def test_a_value_that_no_provider_takes_is_refused_before_anything_is_loaded():
    found = omni.Settings(providers=(("cuda", {"use_tf32": "maybe", "gpu_mem_limit": "lots"}),)).check()
    said = [str(finding) for finding in found if finding.level == "error"]
    assert any("use_tf32='maybe'" in each for each in said)
    assert any("gpu_mem_limit='lots'" in each for each in said)


def test_tensorrts_engine_and_timing_caches():
    assert providers.prepared(TENSORRT, {}, threads=1, cache_folder=FOLDER) == {
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": "cache",
        "trt_timing_cache_enable": "True",
        "trt_timing_cache_path": "cache",
    }


@pytest.mark.parametrize(
    ("options", "own"),
    [
        ({}, False),
        ({"device_type": "CPU"}, False),
        ({"cache_dir": "x"}, True),
        ({"trt_engine_cache_enable": "0"}, True),
        ({"trt_engine_cache_path": "x"}, True),
        ({"load_config": '{"CPU": {"CACHE_DIR": "x"}}'}, True),
    ],
)
def test_whoever_names_a_cache_keeps_it(options, own):
    assert providers.caches_itself(options) == own


def test_shape_profiles_span_what_was_warmed():
    shapes = [{"x": (1, 8), "y": (4,)}, {"x": (2, 2), "y": (4,)}]
    assert providers.profiles(shapes) == {
        "trt_profile_min_shapes": "x:1x2,y:4",
        "trt_profile_opt_shapes": "x:1x8,y:4",
        "trt_profile_max_shapes": "x:2x8,y:4",
    }


def test_who_is_told_of_profiles():
    shapes = [{"x": (1, 8)}]
    told = providers.profiled(("tensorrt", ("cuda", {"device_id": "1"})), shapes)
    assert told == (("tensorrt", providers.profiles(shapes)), ("cuda", {"device_id": "1"}))
    assert providers.profiled(("cuda", "cpu"), shapes) is None
    assert providers.profiled(("tensorrt",), []) is None
    assert providers.profiled(("tensorrt",), [{}]) is None
    assert providers.profiled((("tensorrt", {"trt_profile_min_shapes": "x:1x1"}),), shapes) is None


@pytest.fixture
def on_tensorrt(monkeypatch, tmp_path):
    """A model on a session of the CPU's whose settings name TensorRT, and with which providers it was opened."""
    import graphs

    path = tmp_path / "m.onnx"
    path.write_bytes(graphs.serialized(graphs.SUM_AND_GAP))
    asked, on_cpu, real = [], omni.Settings(), compiled.load

    def load(origin, settings, cache_dir):
        asked.append(settings.providers)
        return real(origin, on_cpu, cache_dir)

    monkeypatch.setattr(compiled, "load", load)
    with omni.load(path, omni.Settings(providers=("tensorrt", "cuda")), cache_dir=None) as model:
        yield model, asked


def test_a_warm_up_tells_tensorrt_its_shapes_before_the_first_run(on_tensorrt):
    model, asked = on_tensorrt
    first = model._runner.session
    model.warmup([{"a": (4,), "b": (4,)}, {"a": (2,), "b": (2,)}], passes=1)
    assert model._runner.session is not first
    model.warmup({"a": (64,), "b": (64,)}, passes=1)
    profile = {
        "trt_profile_min_shapes": "a:2,b:2",
        "trt_profile_opt_shapes": "a:4,b:4",
        "trt_profile_max_shapes": "a:4,b:4",
    }
    assert asked == [("tensorrt", "cuda"), (("tensorrt", profile), ("cuda", {}))]


@pytest.mark.parametrize(
    ("wrong", "where"),
    [
        ({"a": (2, 2), "b": (2,)}, "shapes['a']"),
        ({"a": (-1,), "b": (2,)}, "shapes['a']"),
        ({"a": "x", "b": (2,)}, "shapes['a']"),
        ({"a": 2, "b": (2,)}, "shapes['a']"),
        ({"a": (2,)}, "shapes['b']"),
        ({"a": (2,), "b": (2,), "c": (2,)}, "shapes"),
    ],
)
def test_a_shape_that_does_not_fit_is_told_before_tensorrt_builds_for_it(on_tensorrt, wrong, where):
    model, asked = on_tensorrt
    with pytest.raises(omni.InputError, match=f"^Expected .* - at {re.escape(where)}$"):
        model.warmup([{"a": (4,), "b": (4,)}, wrong])
    assert asked == [("tensorrt", "cuda")]
