"""A model repository for the Triton Inference Server, from a bundle.

Triton's ONNX Runtime backend loads the graph from `NAME/1/` and its weights from beside it; `NAME/config.pbtxt` tells
the rest. Files keep their names, since the graph names its weights, and stand there as they do around the graph. A
bundle with carried state becomes a model with implicit state: Triton keeps the state of each sequence and feeds it to
the next request of the same `sequence_id`, zeros at its start. Other bundles may have their responses cached; a
sequence's may not, since equal requests have other answers there, nor may those of random operators.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from omni_sdk.bundle import Bundle
from omni_sdk.errors import BundleError, InputError, ModelError
from omni_sdk.model import load
from omni_sdk.session import kernels_library
from omni_sdk.settings import Settings
from omni_sdk.source import Source
from omni_sdk.specs import TensorSpec
from omni_sdk.tools.scale.datatypes import datatype_of
from omni_sdk.tools.scale.pbtxt import Value, Word, render
from omni_sdk.tools.scale.rows import is_stackable

GRAPH = "model.onnx"
OPERATORS = "omni_operators.so"
IDLE_MICROSECONDS = 60_000_000
BATCH = 8

Shapes = Mapping[str, Sequence[int]]


def export_triton(
    bundle: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    name: str | None = None,
    warmup: Shapes | None = None,
    threads: int = 1,
    instances: int = 1,
    sequences: int = 8,
    repository: str | None = None,
) -> Path:
    """Write a bundle as a model of a Triton model repository.

    Parameters
    ----------
    bundle : path
    folder : path
        The repository; the model's folder in it must not exist.
    name : str, optional
        Of the model; default: the bundle folder's.
    warmup : mapping of str to shape, optional
        Input shapes, a batch of at most 8 included, that Triton runs before the model is ready. Not for a bundle with
        state: Triton has none to run it with.
    threads : int, default 1
        Of each instance.
    instances : int, default 1
        Copies of the model that run at a time.
    sequences : int, default 8
        Streams that each instance carries at a time, where the bundle has state.
    repository : str, optional
        Where the repository will stand on the server: custom operators are named by their whole path. Default: where
        it stands now.

    Returns
    -------
    pathlib.Path
        The model's folder.

    Raises
    ------
    BundleError
        When the bundle is not whole or replaced meanwhile, or the model's folder exists or cannot be written.
    InputError
        When the name is none of a folder, a number is below 1, or a warm-up shape does not fit, or is missing for an
        input with a symbolic dimension.
    ModelError
        When a tensor has a type that Triton has no name for, or states have names that Triton would mix up.
    """
    opened = Bundle.open(bundle)
    name = name or opened.path.resolve().name
    if name in (".", "..") or {"/", "\\", "\0"} & set(name):
        raise InputError(f"Expected the name of a folder, got {name!r} - at name")
    place = Path(folder) / name
    with load(bundle, Settings(intra_op_num_threads=1), cache_dir=None) as model:
        specs = model.inputs, model.outputs
    library = f"{repository or Path(folder).resolve()}/{name}/1/{OPERATORS}" if opened.manifest.operators else None
    config = configuration(
        name, *specs, state=opened.manifest.state, warmup=warmup, threads=threads, instances=instances,
        sequences=sequences, library=library, graph=opened.graph_path.name,
        cached=not Source(opened.graph_path).is_random,
    )  # fmt: skip
    if place.exists():
        raise BundleError(f"Expected a new folder for the model, got one that exists - at {place}")
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".omni-") as draft:
            _write(opened, Path(draft) / name, render(config), with_operators=library is not None)
            if not opened.is_current():
                raise BundleError(f"Expected a bundle that stands still, got one that was replaced - at {bundle}")
            (Path(draft) / name).rename(place)
    except OSError as error:
        raise BundleError(
            f"Expected to write a model repository, got {error.strerror or error} - at {place}"
        ) from error
    return place


def configuration(
    name: str,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    *,
    state: Mapping[str, str],
    warmup: Shapes | None = None,
    threads: int = 1,
    instances: int = 1,
    sequences: int = 8,
    library: str | None = None,
    graph: str = GRAPH,
    cached: bool = True,
) -> dict[str, Value]:
    """The fields of `config.pbtxt` (Triton's `ModelConfig`); parameters as of `export_triton`.

    `graph` is the file in the version's folder; `cached` says whether equal requests have equal answers.

    A model whose inputs and outputs all share a symbolic first dimension is batched by Triton, which then wants
    shapes without it. Others get `max_batch_size: 0` and whole shapes.
    """
    for what, count in (("threads", threads), ("instances", instances), ("sequences", sequences)):
        if count < 1:
            raise InputError(f"Expected 1 or more, got {count} - at {what}")
    if state and warmup is not None:
        raise InputError(
            "Expected no warm-up shapes for a model with state, got some - at warmup",
            hint="Triton runs samples outside of sequences, and fails to load a model whose state has no place then:"
            " send it a short sequence once it is ready",
        )
    carried = {*state, *state.values()}
    fresh = [spec for spec in inputs if spec.name not in carried]
    made = [spec for spec in outputs if spec.name not in carried]
    batched = not state and is_stackable(fresh, made)
    config: dict[str, Value] = {
        "name": name,
        "backend": "onnxruntime",
        "max_batch_size": BATCH if batched else 0,
        "default_model_filename": graph,
        "input": [_tensor(spec, batched) for spec in fresh],
        "output": [_tensor(spec, batched) for spec in made],
        "instance_group": {"count": instances, "kind": Word("KIND_CPU")},
        "parameters": {"key": "intra_op_thread_count", "value": {"string_value": str(threads)}},
    }
    if batched:
        config["dynamic_batching"] = {"max_queue_delay_microseconds": 0}
    if state:
        config["sequence_batching"] = _sequences(inputs, state, sequences)
    elif cached:
        config["response_cache"] = {"enable": True}
    if warmup is not None:
        config["model_warmup"] = _warmup(inputs, warmup, batched)
    if library is not None:
        config["model_operations"] = {"op_library_filename": library}
    return config


def _tensor(spec: TensorSpec, batched: bool) -> dict[str, Value]:
    dims = [size if isinstance(size, int) else -1 for size in spec.shape[batched:]]
    plain: dict[str, Value] = {"name": spec.name, "data_type": _data_type(spec), "dims": dims or [1]}
    # A scalar of a model without batches stands as [1]: Triton takes no empty shape there.
    return plain if dims or not batched else {**plain, "reshape": {"shape": []}}


def _data_type(spec: TensorSpec) -> Word:
    datatype = datatype_of(spec)
    return Word(f"TYPE_{'STRING' if datatype == 'BYTES' else datatype}")


def _sequences(inputs: Sequence[TensorSpec], state: Mapping[str, str], sequences: int) -> dict[str, Value]:
    """Implicit state that begins as zeros, and as many sequences at a time as are asked for."""
    if [state[source] for source in sorted(state)] != sorted(state.values()):
        raise ModelError(
            f"Expected states whose inputs and outputs are sorted alike by name, got {dict(sorted(state.items()))}"
            " - at the bundle's state",
            hint="rename them: Triton hands the first output by name to the first input, whatever it was told",
        )
    specs = {spec.name: spec for spec in inputs}
    states: list[Value] = []
    for source, target in state.items():
        spec = specs[source]
        kind, dims = _data_type(spec), [size if isinstance(size, int) else -1 for size in spec.shape]
        zeros = [size if size > 0 else 1 for size in dims]
        initial: Value = {"name": "zeros", "data_type": kind, "dims": zeros, "zero_data": True}
        states.append(
            {"input_name": source, "output_name": target, "data_type": kind, "dims": dims, "initial_state": initial}
        )
    return {
        "max_sequence_idle_microseconds": IDLE_MICROSECONDS,
        "oldest": {"max_candidate_sequences": sequences},
        "state": states,
    }


def _warmup(inputs: Sequence[TensorSpec], shapes: Shapes, batched: bool) -> dict[str, Value]:
    """One sample of zeros. A batch of none would be skipped: a model without batches has one of 1."""
    unknown = sorted(set(shapes) - {spec.name for spec in inputs})
    if unknown:
        raise InputError(f"Expected shapes of the model's inputs, got one for {unknown[0]!r} - at warmup")
    sample: list[Value] = []
    sizes: set[int] = set()
    for spec in inputs:
        asked = tuple(shapes.get(spec.name, spec.shape))
        shape = [size for size in asked if isinstance(size, int) and size > 0]
        if len(shape) != len(asked) or not spec.fits(shape):
            raise InputError(f"Expected a size for every dimension of {spec}, got {list(asked)} - at warmup")
        sizes.add(shape[0] if batched else 1)
        dims: list[Value] = [*shape[batched:]] or [1]
        sample.append({"key": spec.name, "value": {"data_type": _data_type(spec), "dims": dims, "zero_data": True}})
    if len(sizes) > 1:
        raise InputError(f"Expected one batch size for all inputs, got {sorted(sizes)} - at warmup")
    size = sizes.pop() if sizes else 1
    if size > BATCH:
        raise InputError(f"Expected a batch of at most {BATCH}, got {size} - at warmup")
    return {"name": "zeros", "batch_size": size, "inputs": sample}


def _write(bundle: Bundle, place: Path, config: str, *, with_operators: bool) -> None:
    version = place / "1"
    version.mkdir(parents=True)
    base = PurePosixPath(bundle.manifest.graph).parent
    for entry in bundle.manifest.files:
        if not PurePosixPath(entry.name).is_relative_to(base):
            continue  # no weights of the graph's: `load` takes them from its folder alone
        target = version / PurePosixPath(entry.name).relative_to(base)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(bundle.path / entry.name, target)
    if with_operators and (version / OPERATORS).exists():
        raise BundleError(f"Expected no file named {OPERATORS}, got one - at {bundle.path}")
    if with_operators:
        shutil.copyfile(kernels_library(), version / OPERATORS)
    (place / "config.pbtxt").write_text(config)
