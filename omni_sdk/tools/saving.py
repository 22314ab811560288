"""Write models to disk in the one layout that ONNX Runtime maps into memory: weights beside the graph, page by page."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import onnx_ir as ir

from omni_sdk import bundle
from omni_sdk.errors import BundleError, ModelError, OmniError
from omni_sdk.strict import JSON

GRAPH = "model.onnx"
WEIGHTS = "weights.bin"
OPERATOR_DOMAIN = "omni"
PAGE_BYTES = 4096
"""Tensors of a page or more go to the weights' file, each at a page's start; smaller ones stay in the graph."""

Progress = Callable[[int, int], None]
"""Told before each tensor how many are written and how many there are."""


def save_bundle(
    path: str | os.PathLike[str],
    model: ir.Model,
    *,
    state: Mapping[str, str] | None = None,
    audio: bundle.Audio | None = None,
    quality: Mapping[str, JSON] | None = None,
    provenance: Mapping[str, JSON] | None = None,
    progress: Progress | None = None,
) -> None:
    """Write a model as a bundle: `model.onnx`, `weights.bin` and the manifest, all of it or nothing.

    Tensors are evaluated and written one after another, so the peak of memory is that of the largest one.

    Parameters
    ----------
    path : str or os.PathLike
        The bundle's folder; what stands there is replaced only if it is a bundle.
    model : onnx_ir.Model
        The model; it is not changed.
    state : mapping of str to str, optional
        Carried state: each input's name to the output that feeds it in the next step.
    audio : Audio, optional
        Set where the model makes audio.
    quality, provenance : mapping of str to JSON, optional
        Measured figures, and where the model came from.
    progress : callable, optional
        Told before each tensor of the weights' file how many of them are written, and how many there are.

    Raises
    ------
    ModelError
        Where `state` names an input or output that the model lacks.
    BundleError
        Where something else stands at `path`, or the disk does not take the files.
    """
    _check_state(model, state or {})
    with bundle.create(path) as draft:
        _write(model, draft.folder / GRAPH, WEIGHTS, progress)
        draft.graph = GRAPH
        draft.state = dict(state or {})
        draft.audio = audio
        draft.opset = {domain or "ai.onnx": version for domain, version in model.opset_imports.items()}
        draft.operators = model.opset_imports.get(OPERATOR_DOMAIN, 0)
        draft.quality = dict(quality or {})
        draft.provenance = dict(provenance or {})


def save_model(path: str | os.PathLike[str], model: ir.Model) -> None:
    """Write a model as a plain `.onnx` file with its weights in `.onnx.data` beside it.

    Parameters
    ----------
    path : str or os.PathLike
        The `.onnx` file; it and its weights' file are replaced.
    model : onnx_ir.Model
        The model; it is not changed.

    Raises
    ------
    BundleError
        Where the disk does not take the files.
    """
    place = Path(path)
    with writing(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        _write(model, place, f"{place.name}.data")


def save_graph(path: Path, model: ir.Model) -> None:
    """Write a model whose large weights stay in the files where they are, which stand in the same folder.

    Raises
    ------
    BundleError
        Where the disk does not take the file.
    """
    with writing(path):
        ir.save(model, path)


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """Say in our words that the disk did not take what was written, whoever wrote it.

    Raises
    ------
    BundleError
        Where there was no room left, or the file cannot be written.
    """
    try:
        yield
    except (OSError, ir.serde.SerdeError) as error:
        reason = _reason(error)
        if is_full(reason):
            raise full(place) from error
        if isinstance(reason, OSError):
            raise BundleError(f"Expected to write a model, got {reason.strerror or reason} - at {place}") from error
        raise reason  # noqa: B904 - it is the cause of what was caught, or says what that was


def is_full(error: BaseException | None) -> bool:
    """Whether an error, or what it came from, says that a disk or a quota has no room left."""
    return any(isinstance(each, OSError) and each.errno in (errno.ENOSPC, errno.EDQUOT) for each in _chain(error))


def _chain(error: BaseException | None) -> list[BaseException]:
    """An error and what it came from; a cause that was raised anew on the way up stands in its own chain."""
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__
    return found


def full(place: Path) -> BundleError:
    """The error for a disk without room."""
    return BundleError(
        f"Expected room on the disk to write in, got none left - at {place}", hint="choose another disk for the bundle"
    )


def _write(model: ir.Model, graph: Path, weights: str, progress: Progress | None = None) -> None:
    def tell(_: ir.TensorProtocol, info: ir.external_data.CallbackInfo) -> None:
        if progress is not None:
            progress(info.index, info.total)

    try:
        ir.save(
            model,
            graph,
            external_data=weights,
            size_threshold_bytes=PAGE_BYTES,
            alignment=PAGE_BYTES,
            align_threshold=0,
            callback=tell,
        )
    except ir.serde.SerdeError as error:
        raise _reason(error)  # noqa: B904 - it is the cause of what was caught, or says what that was


def _reason(error: BaseException) -> Exception:
    """What lies under onnx-ir's wrapping: our own error where evaluating a tensor raised one."""
    error = _chain(error)[-1]
    if isinstance(error, OmniError | OSError):
        return error
    return ModelError(f"Expected a model that can be written, got {type(error).__name__}: {error} - at save")


def _check_state(model: ir.Model, state: Mapping[str, str]) -> None:
    inputs = {value.name for value in model.graph.inputs}
    outputs = {value.name for value in model.graph.outputs}
    for source, target in state.items():
        if source not in inputs or target not in outputs:
            raise ModelError(
                f"Expected a state pair of an input and an output of the model, got {source!r}: {target!r} - at state"
            )
