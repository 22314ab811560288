"""The ONNX project's own node models: what we return is what raw ONNX Runtime returns, bit for bit, or both fail.

Each goes through a plain load, one with a result cache, and two with a compile cache, of which the second takes what
the first made. Raw ORT answers over `session.run`, and over its own values where `session.run` lacks a type.

By default every tenth case runs; `-m heavy` runs all of them.
"""

from __future__ import annotations

import ctypes
import shutil
import warnings
from collections import Counter
from functools import cache

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper
from onnx.backend.test.loader import load_model_tests

import omni_sdk as omni

SETTINGS = omni.Settings(intra_op_num_threads=1, cache_random=True)
SAMPLE = 10
# Bits of the element types of which several values share a byte.
NARROW = {21: 4, 22: 4, 23: 4, 25: 2, 26: 2}
# Random by design: two runs of the same session differ.
RANDOM = ("bernoulli", "randomnormal", "randomuniform", "multinomial", "training_dropout")


@cache
def cases():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy's, as the onnx package makes its test data
        found = load_model_tests(kind="node")
    return sorted(found, key=lambda case: case.name)


def feeds_of(case):
    values = case.data_sets[0][0]
    return {item.name: plain(value) for item, value in zip(case.model.graph.input, values, strict=True)}


def plain(value):
    """Some test data are arrays, some still messages of the file format."""
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    if isinstance(value, onnx.SequenceProto):
        return numpy_helper.to_list(value)
    if isinstance(value, onnx.OptionalProto):
        return numpy_helper.to_optional(value)
    return np.asarray(value) if isinstance(value, np.generic) else value


def bits(value):
    """A value as what can be compared exactly: dtype, shape and bytes, all the way down."""
    if isinstance(value, (list, tuple)):
        return [bits(item) for item in value]
    if isinstance(value, dict):
        return {key: bits(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        words = value.tolist() if value.dtype == object else np.ascontiguousarray(value).tobytes()
        return (value.dtype.str, value.shape, words)
    return value


def native(model):
    """Whether raw `session.run` takes and gives every type of the model."""
    exotic = {16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26}
    return not any(item.type.tensor_type.elem_type in exotic for item in (*model.graph.input, *model.graph.output))


def raw(data, feeds):
    try:
        session = ort.InferenceSession(data, SETTINGS.session_options(), providers=["CPUExecutionProvider"])
        return bits(session.run(None, feeds)), None
    except Exception as error:
        return None, error


def raw_on_values(case, data, feeds):
    """For types that `session.run` lacks: over ORT's own values, element types and bytes as ORT has them."""
    types = {item.name: item.type.tensor_type.elem_type for item in case.model.graph.input}
    try:
        session = ort.InferenceSession(data, SETTINGS.session_options(), providers=["CPUExecutionProvider"])
        given = {name: ort_value(feed, types[name]) for name, feed in feeds.items()}
        found = session.run_with_ort_values([arg.name for arg in session.get_outputs()], given)
        return [(v.element_type(), tuple(v.shape()), content(v)) for v in found], None
    except Exception as error:
        return None, error


def ort_value(array, element_type):
    words = np.zeros(array.shape, f"u{array.dtype.itemsize}")
    packed = in_words(array, element_type)
    words.reshape(-1).view(np.uint8)[: len(packed)] = np.frombuffer(packed, np.uint8)
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(words, element_type)


def content(value):
    return ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes())


def in_words(array, element_type):
    """Bytes as ORT has them: of values of less than a byte the first lies lowest."""
    width = NARROW.get(element_type, 8)
    if width == 8:
        return np.ascontiguousarray(array).tobytes()
    number = 0
    for value in reversed(np.asarray(array).astype(np.int64).reshape(-1).tolist()):
        number = number << width | value & (1 << width) - 1
    return number.to_bytes(-(-array.size * width // 8), "little")


def ours(data, feeds, settings, cache_dir=None, of=None):
    """Three runs: the first learns the output shapes, the next two are bound."""
    with omni.load(data, settings, cache_dir=cache_dir) as model:
        runs = [model.infer(feeds) for _ in range(3)]
        return [
            bits(list(run.values())) if of is None else of(model, run) for run in runs
        ], model.explain().compile_cache


def as_values(model, run):
    """Our results as `raw_on_values` tells raw ones."""
    return [(s.element.onnx, run[s.name].shape, in_words(run[s.name], s.element.onnx)) for s in model.outputs]


def attempt(expected, refused, *given, **named):
    """What is wrong with our answer, if anything, and what the compile cache did."""
    try:
        found, compiled = ours(*given, **named)
    except omni.OmniError as error:
        return "" if refused is not None else f"only we refuse: {error}", ""
    except Exception as error:
        return f"not our error: {error!r}", ""
    if refused is not None:
        return f"only raw refuses: {refused}", compiled
    return "values differ" if any(item != expected for item in found) else "", compiled


def compare(chosen, folder):
    counts = Counter()
    wrong = []
    for case in chosen:
        data, feeds = case.model.SerializeToString(), feeds_of(case)
        if any(word in case.name for word in RANDOM):
            counts["random"] += 1
            continue
        plainly = native(case.model)
        expected, refused = raw(data, feeds) if plainly else raw_on_values(case, data, feeds)
        of = None if plainly else as_values
        loads = (
            ("plain", SETTINGS, None),
            ("result cache", SETTINGS.replace(cache_bytes=1 << 20), None),
            ("compiled now", SETTINGS, folder / case.name),
            ("compiled before", SETTINGS, folder / case.name),
        )
        for way, settings, cache_dir in loads:
            problem, compiled = attempt(expected, refused, data, feeds, settings, cache_dir, of)
            counts["loads from the compile cache"] += compiled == "hit"
            if problem:
                wrong.append((case.name, way, problem))
        shutil.rmtree(folder / case.name, ignore_errors=True)
        counts["both refuse" if refused is not None else "equal" if plainly else "equal, of other types"] += 1
    return counts, wrong


@pytest.mark.parametrize("share", [SAMPLE, pytest.param(1, marks=pytest.mark.heavy)])
def test_node_models_equal_raw_onnx_runtime(share, record_property, tmp_path):
    chosen = cases()[::share]
    if chosen[0].model is None:
        pytest.skip("this onnx names its node models, and does not load them")
    counts, wrong = compare(chosen, tmp_path)
    record_property("cases", dict(counts))
    print(f"{len(chosen)} node models: {dict(counts)}")
    assert wrong == []
    assert counts["equal"] > 0.6 * len(chosen)
    assert counts["equal, of other types"] > 0.02 * len(chosen)
    assert counts["loads from the compile cache"] > 0.5 * len(chosen)
