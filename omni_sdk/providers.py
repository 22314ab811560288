"""Execution providers: their names, their documented options, their packages, and what we ask of each by default.

Options were read from ONNX Runtime's documentation and from the parsers of its providers, versions 1.24 to 1.32.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

CPU = "CPUExecutionProvider"
OPENVINO = "OpenVINOExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"

Options: TypeAlias = dict[str, str]

# Options by what their values are: switches, whole numbers, and the rest.
_OPENVINO_SWITCHES = "enable_opencl_throttling enable_qdq_optimizer enable_causallm disable_dynamic_shapes"
_OPENVINO_OTHERS = """
    device_type device_id device_luid precision num_of_threads num_streams cache_dir load_config context model_priority
    reshape_input layout
"""
_CUDA_SWITCHES = """
    cudnn_conv_use_max_workspace cudnn_conv1d_pad_to_nc1d do_copy_in_default_stream enable_cuda_graph
    enable_skip_layer_norm_strict_mode fuse_conv_bias prefer_nhwc use_tf32 use_ep_level_unified_stream
    has_user_compute_stream tunable_op_enable tunable_op_tuning_enable
"""
_CUDA_NUMBERS = """
    device_id gpu_mem_limit sdpa_kernel user_compute_stream gpu_external_alloc gpu_external_free
    gpu_external_empty_cache tunable_op_max_tuning_duration_ms
"""
_CUDA_OTHERS = "arena_extend_strategy cudnn_conv_algo_search"
_TENSORRT_SWITCHES = """
    has_user_compute_stream trt_fp16_enable trt_bf16_enable trt_int8_enable trt_int8_use_native_calibration_table
    trt_dla_enable trt_dump_subgraphs trt_engine_cache_enable trt_weight_stripped_engine_enable
    trt_engine_decryption_enable trt_force_sequential_engine_build trt_context_memory_sharing_enable
    trt_layer_norm_fp32_fallback trt_timing_cache_enable trt_force_timing_cache trt_detailed_build_log
    trt_build_heuristics_enable trt_sparsity_enable trt_cuda_graph_enable trt_dump_ep_context_model
    trt_engine_hw_compatible trt_load_user_initializer
"""
_TENSORRT_NUMBERS = """
    device_id user_compute_stream trt_max_partition_iterations trt_min_subgraph_size trt_max_workspace_size trt_dla_core
    trt_builder_optimization_level trt_auxiliary_streams trt_ep_context_embed_mode trt_onnx_bytestream
    trt_onnx_bytestream_size trt_external_data_bytestream trt_external_data_bytestream_size
"""
_TENSORRT_OTHERS = """
    trt_int8_calibration_table_name trt_engine_cache_path trt_engine_cache_prefix trt_onnx_model_folder_path
    trt_engine_decryption_lib_path trt_timing_cache_path trt_tactic_sources trt_extra_plugin_lib_paths
    trt_profile_min_shapes trt_profile_max_shapes trt_profile_opt_shapes trt_ep_context_file_path
    trt_op_types_to_exclude trt_preview_features
"""

_OPENVINO_DEVICE = r"(?:CPU|GPU|NPU)(?:\.\d+)?"


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a provider.

    Attributes
    ----------
    short : str
        The name that people use.
    package : str
        The distribution of ONNX Runtime that brings it.
    options : frozenset of str
        Those that it documents.
    memory : {"cpu", "cuda"}
        Where it computes, as ONNX Runtime names it for bindings.
    own_cache : {"", "at load", "at runs"}
        Whether it keeps what it compiled in a folder, and when it writes there.
    """

    short: str
    package: str
    options: frozenset[str]
    memory: Literal["cpu", "cuda"] = "cpu"
    own_cache: Literal["", "at load", "at runs"] = ""


def _words(*texts: str) -> frozenset[str]:
    return frozenset(word for text in texts for word in text.split())


FACTS: Mapping[str, Facts] = {
    CPU: Facts("cpu", "onnxruntime", frozenset()),
    OPENVINO: Facts(
        "openvino", "onnxruntime-openvino", _words(_OPENVINO_SWITCHES, _OPENVINO_OTHERS), own_cache="at load"
    ),
    CUDA: Facts("cuda", "onnxruntime-gpu", _words(_CUDA_SWITCHES, _CUDA_NUMBERS, _CUDA_OTHERS), memory="cuda"),
    TENSORRT: Facts(
        "tensorrt",
        "onnxruntime-gpu",
        _words(_TENSORRT_SWITCHES, _TENSORRT_NUMBERS, _TENSORRT_OTHERS),
        memory="cuda",
        own_cache="at runs",
    ),
}
LONG_NAMES = {facts.short: name for name, facts in FACTS.items()}

_TRUTH = {"1": "True", "true": "True", "True": "True", "0": "False", "false": "False", "False": "False"}
_SWITCH = ("|".join(_TRUTH), "True or False")
_NUMBER = (r"\d+", "a whole number, 0 or more")
# Values that a provider takes without a word and then ignores, or refuses on standard error alone.
_VALUES: Mapping[tuple[str, str], tuple[str, str]] = {
    **dict.fromkeys([(OPENVINO, key) for key in _OPENVINO_SWITCHES.split()], _SWITCH),
    **dict.fromkeys([(CUDA, key) for key in _CUDA_SWITCHES.split()], _SWITCH),
    **dict.fromkeys([(CUDA, key) for key in _CUDA_NUMBERS.split()], _NUMBER),
    **dict.fromkeys([(TENSORRT, key) for key in _TENSORRT_SWITCHES.split()], _SWITCH),
    **dict.fromkeys([(TENSORRT, key) for key in _TENSORRT_NUMBERS.split()], _NUMBER),
    (OPENVINO, "device_type"): (
        rf"{_OPENVINO_DEVICE}|(?:AUTO|HETERO|MULTI)(?::{_OPENVINO_DEVICE}(?:,{_OPENVINO_DEVICE})*)?",
        "CPU, GPU, GPU.1, NPU or AUTO:, HETERO: or MULTI: before several of them",
    ),
    (OPENVINO, "precision"): ("FP32|FP16|ACCURACY", "FP32, FP16 or ACCURACY"),
    (OPENVINO, "num_of_threads"): (r"[1-9]\d*", "a number of threads, 1 or more"),
    (OPENVINO, "num_streams"): (r"[1-9]\d*", "a number of streams, 1 or more"),
    (OPENVINO, "context"): ("(?:0x)?[0-9a-fA-F]+", "an address in hexadecimal digits"),
    (OPENVINO, "model_priority"): ("LOW|MEDIUM|HIGH|DEFAULT", "LOW, MEDIUM, HIGH or DEFAULT"),
    (CUDA, "arena_extend_strategy"): ("kNextPowerOfTwo|kSameAsRequested", "kNextPowerOfTwo or kSameAsRequested"),
    (CUDA, "cudnn_conv_algo_search"): ("EXHAUSTIVE|HEURISTIC|DEFAULT", "EXHAUSTIVE, HEURISTIC or DEFAULT"),
    (TENSORRT, "trt_auxiliary_streams"): (r"-1|\d+", "a number of streams, or -1 to leave it to TensorRT"),
    (TENSORRT, "trt_builder_optimization_level"): ("[0-5]", "a level from 0 to 5"),
    (TENSORRT, "trt_ep_context_embed_mode"): ("[01]", "0 or 1"),
}
# Providers that know their switches by these words alone; CUDA's takes 1 and 0 too.
_SPELLED = {OPENVINO: _words(_OPENVINO_SWITCHES), TENSORRT: _words(_TENSORRT_SWITCHES)}
# Braces of a configuration: properties by device, a few within one. What has more is not given to the parser, whose
# depth is that of Python's stack.
_MOST_BRACKETS = 100
# Letters of a value that an error shows.
_MOST_SHOWN = 200


def long_name(name: str) -> str:
    """ONNX Runtime's name of a provider; a name that is not known stands for itself."""
    return LONG_NAMES.get(name, name)


def short_name(name: str) -> str:
    """The name that people use; a provider that is not known keeps its own."""
    return FACTS[name].short if name in FACTS else name


def wrong_options(name: str, options: Mapping[str, str]) -> list[tuple[str, str]]:
    """Options of a provider that it does not document, or whose values it cannot take.

    Returns
    -------
    list of (str, str)
        What is wrong, and the remedy, empty where none is known. Empty for a provider that is not known here.
    """
    if name not in FACTS:
        return []
    known, found = FACTS[name].options, []
    for key, value in options.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.7)
            remedy = f"did you mean {near[0]!r}?" if near else ""
            if name == CPU and "arena" in key:
                remedy = "for an arena of a given size set Settings(arena_bytes=...)"
            found.append((f"{name} has no option {key!r} and would ignore it", remedy))
        elif (name, key) in _VALUES and not re.fullmatch(_VALUES[name, key][0], value, re.ASCII):
            found.append((f"{name} takes no {key}={value[:_MOST_SHOWN]!r}", f"give {_VALUES[name, key][1]}"))
        elif key == "load_config" and _config(value) is None:
            found.append(
                (
                    f"{name} takes no load_config={value[:_MOST_SHOWN]!r}",
                    'give JSON such as {"CPU": {"NUM_STREAMS": "1"}}',
                )
            )
    return found


def prepared(name: str, options: Mapping[str, str], *, threads: int, cache_folder: Path | None = None) -> Options:
    """Options as the provider is given them: what was asked, and our defaults where nothing was.

    The defaults keep results those of FP32 arithmetic and threads those of the settings. What was asked for always
    has the last word.

    Parameters
    ----------
    name : str
        ONNX Runtime's name.
    options : mapping of str to str
    threads : int
        Of the settings, for providers that compute on the CPU.
    cache_folder : pathlib.Path, optional
        Where a provider with a cache of its own shall keep it.
    """
    spelled = _SPELLED.get(name, frozenset())
    options = {key: _TRUTH.get(value, value) if key in spelled else value for key, value in options.items()}
    if name == OPENVINO:
        return _openvino(options, threads, cache_folder)
    if name == CUDA:
        return {"use_tf32": "0", **options}
    if name == TENSORRT:
        return {**_tensorrt_cache(cache_folder), **options}
    return options


def caches_itself(options: Mapping[str, str]) -> bool:
    """Whether whoever chose these options named a folder for the provider's cache, or turned it off."""
    own = {"cache_dir", "trt_engine_cache_path", "trt_engine_cache_enable"}
    config = _config(options.get("load_config", "{}")) or {}
    return not own.isdisjoint(options) or any("CACHE_DIR" in each for each in config.values())


def profiles(shapes: Sequence[Mapping[str, Sequence[int]]]) -> Options:
    """Options that tell TensorRT which input shapes to build its engines for: the least, the most, the usual.

    Parameters
    ----------
    shapes : sequence of mapping of str to shape
        Input shapes by name, one mapping for each set; the first is what engines are tuned for.
    """
    names = list(shapes[0])
    least = {name: [min(sizes) for sizes in zip(*(each[name] for each in shapes), strict=True)] for name in names}
    most = {name: [max(sizes) for sizes in zip(*(each[name] for each in shapes), strict=True)] for name in names}
    return {
        "trt_profile_min_shapes": _profile(least),
        "trt_profile_opt_shapes": _profile(shapes[0]),
        "trt_profile_max_shapes": _profile(most),
    }


def profiled(
    entries: Sequence[str | tuple[str, Mapping[str, str]]], shapes: Sequence[Mapping[str, Sequence[int]]]
) -> tuple[str | tuple[str, Mapping[str, str]], ...] | None:
    """The providers of settings with TensorRT told which shapes will come.

    Parameters
    ----------
    entries : sequence of str or (str, mapping)
        As `Settings.providers` has them.
    shapes : sequence of mapping of str to shape
        As for `profiles`; of the inputs whose shape is not fixed.

    Returns
    -------
    tuple or None
        None where there is nothing to tell: no such provider, no such input, or the settings tell it already.
    """
    pairs: list[tuple[str, Mapping[str, str]]] = [(each, {}) if isinstance(each, str) else each for each in entries]
    own = [options for name, options in pairs if long_name(name) == TENSORRT]
    if not own or not shapes or not shapes[0] or any(key.startswith("trt_profile_") for key in own[0]):
        return None
    told = profiles(shapes)
    return tuple(
        (name, {**options, **told}) if long_name(name) == TENSORRT else (name, options) for name, options in pairs
    )


def _openvino(options: Mapping[str, str], threads: int, cache_folder: Path | None) -> Options:
    found = {"device_type": "CPU", **options}
    device = found["device_type"]
    config = _config(options.get("load_config", "{}")) or {}
    if re.fullmatch(_OPENVINO_DEVICE, device) and not device.startswith("NPU"):  # which knows no FP32
        plain = device.partition(".")[0]
        ours: dict[str, object] = {}
        if "precision" not in options and "EXECUTION_MODE_HINT" not in config.get(plain, {}):
            ours["INFERENCE_PRECISION_HINT"] = "f32"
        if plain == "CPU" and "num_of_threads" not in options:
            ours["INFERENCE_NUM_THREADS"] = str(threads)
        config[plain] = {**ours, **config.get(plain, {})}
    if config:
        found["load_config"] = json.dumps(config, sort_keys=True)
    return found if cache_folder is None else {**found, "cache_dir": str(cache_folder)}


def _tensorrt_cache(cache_folder: Path | None) -> Options:
    if cache_folder is None:
        return {}
    return {
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": str(cache_folder),
        "trt_timing_cache_enable": "True",
        "trt_timing_cache_path": str(cache_folder),
    }


def _config(text: str) -> dict[str, dict[str, object]] | None:
    """OpenVINO's properties by device; None where the text is no such thing."""
    if text.count("{") + text.count("[") > _MOST_BRACKETS:
        return None
    try:
        found = json.loads(text)
    except ValueError:
        return None
    is_config = isinstance(found, dict) and all(isinstance(value, dict) for value in found.values())
    return found if is_config else None


def _profile(shapes: Mapping[str, Sequence[int]]) -> str:
    return ",".join(f"{name}:{'x'.join(map(str, shape))}" for name, shape in shapes.items())
