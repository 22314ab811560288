"""What goes bad: a model, a bundle, a cache entry or a profile, made whole once, and how it is then used."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import graphs
import numpy as np
import onnx
import onnxruntime as ort
from graph_mutations import mutated_graph
from mutations import mutated
from onnx import TensorProto, helper, numpy_helper

import omni_sdk as omni
from omni_sdk import profiles
from omni_sdk.bundle import Bundle, create
from omni_sdk.manifest import FILENAME
from omni_sdk.source import Source

SETTINGS = omni.Settings(intra_op_num_threads=1)
# A damaged model may well loop for ever: what runs it sets a time.
RUN_SECONDS = 2.0
# Sizes that a damaged input may ask for and still be tried.
LARGEST_INPUT = 1 << 16
MOST_AXES = 32
SYMBOL_SIZE = 3
WIDTH = 16

TEXTS = {
    "arithmetic": graphs.SUM_AND_GAP,
    "gather": graphs.PICK,
    "loop": graphs.LONG,
    "nonzero": graphs.NONZERO,
    "state": 'g (float[N] x, float[N] "past.h") => (float[N] y, float[N] "present.h")'
    ' { y = Identity("past.h")\n "present.h" = Add(x, "past.h") }',
    "branches": """g (float[N] x, bool c) => (float[M] y) {
        y = If (c) <then_branch = t () => (float[N] a) { a = Abs(x) },
                    else_branch = e () => (float[K] b) { b = Concat <axis = 0> (x, x) }>
    }""",
    "quantized": """g (float[1, 2, 8] x) => (float[1, 2, 6] y)
        <float s = {0.1}, uint8 z = {128}, int8[2, 2, 3] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, int8 o = {0}> {
        q = QuantizeLinear(x, s, z)
        d = DequantizeLinear(q, s, z)
        v = DequantizeLinear(w, s, o)
        c = Conv(d, v)
        p = QuantizeLinear(c, s, z)
        y = DequantizeLinear(p, s, z)
    }""",
    "shapes": """g (float[3, 4] x, int64[S] shape) => (float[A, B, C, D] y)
        <int64[2] starts = {0, 1}, int64[2] ends = {100, 3}> {
        m = Constant <value: tensor = int64[1] {-1}> ()
        s = Concat <axis = 0> (m, shape)
        r = Reshape(x, s)
        t = Transpose <perm = [1, 0, 3, 2]> (r)
        y = Slice(t, starts, ends)
    }""",
}


@dataclass(frozen=True)
class Victim:
    """What goes bad.

    Attributes
    ----------
    make : callable
        Makes it whole in an empty folder.
    files : str
        Glob of the files to damage.
    use : callable
        Uses it as it now is, told its folder and which file is damaged; raises `OmniError` to refuse, `AssertionError`
        where a promise is broken.
    mutate : callable
        Damages the content of one file.
    """

    make: Callable[[Path], None]
    files: str
    use: Callable[[Path, Path], None]
    mutate: Callable[[bytes, random.Random], bytes] = mutated


def dense(path: Path, *, external: bool = True, width: int = WIDTH) -> Path:
    """A model with weights, beside it or within."""
    rng = np.random.default_rng(0)
    weights = numpy_helper.from_array(rng.standard_normal((width, width)).astype(np.float32), "w")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Relu", ["h"], ["y"])]
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", width]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", value[:1], value[1:], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save_model(model, path, save_as_external_data=external, location=f"{path.name}.data", size_threshold=0)
    return path


def snake() -> bytes:
    """A model with an operator of our own."""
    channels = 4
    node = helper.make_node("Snake", ["x", "alpha", "inv_beta"], ["y"], domain="omni", channels_last=0)
    ones = [numpy_helper.from_array(np.ones(channels, np.float32), name) for name in ("alpha", "inv_beta")]
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, channels, "t"]) for name in "xy"]
    graph = helper.make_graph([node], "g", value[:1], value[1:], ones)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("omni", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()


def try_out(model: omni.Model) -> dict[str, Any] | None:
    """Run a model of unknown inputs twice, the second time bound; None where an input is too large to try."""
    feeds = {}
    for spec in model.inputs:
        shape = tuple(size if isinstance(size, int) else SYMBOL_SIZE for size in spec.shape)
        if len(shape) > MOST_AXES or np.prod(shape, dtype=float) > LARGEST_INPUT or spec.element is None:
            return None
        feeds[spec.name] = np.ones(shape, spec.dtype)
    results = None
    for _ in range(3):
        results = model.infer(feeds, timeout=RUN_SECONDS)
    return results


def load_and_try(origin: Path | bytes, **given: Any) -> dict[str, Any] | None:
    with omni.load(origin, given.pop("settings", SETTINGS), **{"cache_dir": None, **given}) as model:
        str(model.explain())
        return try_out(model)


def _models(folder: Path) -> None:
    for name, text in TEXTS.items():
        (folder / f"{name}.onnx").write_bytes(graphs.serialized(text))
    (folder / "snake.onnx").write_bytes(snake())


def _ort_models(folder: Path) -> None:
    for name, text in TEXTS.items():
        options = SETTINGS.session_options()
        options.optimized_model_filepath = str(folder / f"{name}.ort")
        options.add_session_config_entry("session.save_model_format", "ORT")
        ort.InferenceSession(graphs.serialized(text), options, providers=["CPUExecutionProvider"])


def _use_model(folder: Path, damaged: Path) -> None:
    load_and_try(damaged)


def _external(folder: Path) -> None:
    dense(folder / "model.onnx")


def _use_external(folder: Path, damaged: Path) -> None:
    load_and_try(folder / "model.onnx")


def _bundle(folder: Path) -> None:
    with create(folder / "bundle") as draft:
        dense(draft.folder / "model.onnx")
        draft.quality = {"snr_db": 42.5}
        draft.opset = {"": 17}
    (folder / "fingerprint").write_text(Bundle.open(folder / "bundle").manifest.fingerprint)


def _use_bundle(folder: Path, damaged: Path) -> None:
    try:
        found = Bundle.open(folder / "bundle", checksums=True).manifest.fingerprint
    except omni.BundleError:
        pass
    else:  # white space between a manifest's words is nobody's loss
        assert damaged.name == FILENAME, "a damaged file passed its checksum"
        assert found == (folder / "fingerprint").read_text(), "a damaged manifest passed its fingerprint"
    load_and_try(folder / "bundle")


def _entry(folder: Path) -> None:
    dense(folder / "model.onnx")
    results = load_and_try(folder / "model.onnx", cache_dir=folder / "cache")
    np.save(folder / "right.npy", results["y"])


def _use_entry(folder: Path, damaged: Path) -> None:
    results = load_and_try(folder / "model.onnx", cache_dir=folder / "cache")
    assert (results["y"] == np.load(folder / "right.npy")).all(), "a damaged cache changed a result"


def _profile(folder: Path) -> None:
    path = dense(folder / "model.onnx", external=False)
    tuned = SETTINGS.replace(warmup_passes=(2, 5), session_entries={"session.set_denormal_as_zero": "1"})
    profiles.save(profiles.blank(Source(path), "latency", tuned, {"ratio": 0.9}), folder)


def _use_profile(folder: Path, damaged: Path) -> None:
    load_and_try(folder / "model.onnx", settings="tuned", cache_dir=folder)


def _settings(folder: Path) -> None:
    (folder / "omni.toml").write_text(
        '[settings]\nproviders = ["cpu"]\nintra_op_num_threads = 2\nmemory_limit = "2 GiB"\nwarmup_passes = [2, 8]\n'
        'execution_mode = "parallel"\nsession_entries = { "session.set_denormal_as_zero" = "1" }\n'
    )


def _use_settings(folder: Path, damaged: Path) -> None:
    load_and_try(graphs.serialized(graphs.DOUBLE), settings=omni.Settings.from_file(folder / "omni.toml"))


VICTIMS: Mapping[str, Victim] = {
    "onnx": Victim(_models, "*.onnx", _use_model),
    "graph": Victim(_models, "*.onnx", _use_model, mutated_graph),
    "ort": Victim(_ort_models, "*.ort", _use_model),
    "external": Victim(_external, "model.onnx*", _use_external),
    "bundle": Victim(_bundle, "bundle/*", _use_bundle),
    "entry": Victim(_entry, "cache/compiled/**/*", _use_entry),
    "profile": Victim(_profile, "profiles/*.json", _use_profile),
    "settings": Victim(_settings, "omni.toml", _use_settings),
}


def fresh_copy(whole: Path, folder: Path, victim: Victim, rng: random.Random) -> Path:
    """A copy of what was made whole, and the file of it to damage."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(whole, folder)
    return rng.choice(sorted(path for path in folder.glob(victim.files) if path.is_file() and path.stat().st_size))
