"""What a model is put together from, once its session is open."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from omni_sdk import providers
from omni_sdk import shapes as shaping
from omni_sdk.cache import ResultCache
from omni_sdk.chunked import Chunked
from omni_sdk.errors import StreamError
from omni_sdk.explain import overrides_of
from omni_sdk.runner import Runner
from omni_sdk.session import Session
from omni_sdk.settings import Settings
from omni_sdk.source import Source
from omni_sdk.specs import TensorSpec

Overrides = dict[str, tuple[object, str]]


@dataclass(frozen=True, slots=True)
class Parts:
    """Parts of one model.

    Attributes
    ----------
    runner : Runner
    chunked : Chunked or None
        Where inputs are run in pieces.
    results : ResultCache or None
    overrides : mapping of str to (object, str)
        What the model's own nature changes of its settings: the value in effect, and why.
    is_quick : bool
        Whether feeds that fit may go straight to a bound run: there is nothing to look up or to admit before it, and
        nothing to convert after it.
    """

    runner: Runner
    chunked: Chunked | None
    results: ResultCache | None
    overrides: Overrides
    is_quick: bool


def parts_of(
    source: Source,
    session: Session,
    settings: Settings,
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
) -> Parts:
    """Put together what the settings ask for and the model allows."""
    passed_on = passed_through(inputs, outputs)
    runner = Runner(
        session,
        inputs,
        outputs,
        io_binding=settings.io_binding and passed_on is None,
        idle_limit=settings.buffer_idle_bytes,
    )
    overrides: Overrides = {}
    chunked = _chunked(source, settings, inputs, outputs, overrides)
    results = None if chunked is not None else _results(source, settings, inputs, outputs)
    overrides |= overrides_of(settings, source, runner.bindable, results is not None)
    if settings.io_binding and passed_on is not None:
        overrides["io_binding"] = (False, f"the output {passed_on!r} is an input as well")
    if settings.cache_bytes and chunked is not None:
        overrides["cache_bytes"] = (0, "max_chunk runs inputs piece by piece, and keeps none of them whole")
    packed = any(spec.element is not None and spec.element.packed for spec in (*inputs, *outputs))
    ranged = any(spec.allowed is not None for spec in inputs)
    careful = packed or ranged or settings.memory_limit is not None or settings.shrink_arena
    return Parts(runner, chunked, results, overrides, not careful and results is None and chunked is None)


def passed_through(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> str | None:
    """An output that is an input itself, under its name: ONNX Runtime writes nothing to where it would be bound."""
    taken = {spec.name for spec in inputs}
    return next((spec.name for spec in outputs if spec.name in taken), None)


def recipe_of(source: Source, origin: Any, settings: Settings, cache_dir: Any) -> tuple[Any, Settings, Any] | None:
    """What makes a model again in another process or folder; None for one from bytes."""
    if source.data is not None:
        return None
    place = os.path.abspath(cache_dir) if isinstance(cache_dir, (str, os.PathLike)) else cache_dir  # noqa: PTH100
    return os.path.abspath(origin), settings, place  # noqa: PTH100 - `Path.absolute` leaves `..` in


def told_of_shapes(
    asked: Sequence[str | tuple[str, Mapping[str, str]]],
    inputs: Sequence[TensorSpec],
    sets: Sequence[Mapping[str, Sequence[int]]],
) -> Any:
    """Providers with the options that tell them of the shapes to come; None where none wants to know.

    `InputError` for a shape that does not fit, before anything is built for it.
    """
    for one in sets:
        shaping.arrays(one, inputs, _without_memory)
    moving = [spec for spec in inputs if spec.symbols]
    return providers.profiled(asked, [{spec.name: one[spec.name] for spec in moving} for one in sets])


def _without_memory(dtype: np.dtype[Any], shape: tuple[int, ...]) -> np.ndarray:
    return np.broadcast_to(np.zeros((), dtype), shape)


def _chunked(
    source: Source,
    settings: Settings,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    overrides: Overrides,
) -> Chunked | None:
    if settings.max_chunk is None:
        return None
    manifest = source.bundle.manifest if source.bundle is not None else None
    pairs, audio = (manifest.state, manifest.audio) if manifest is not None else (None, None)
    context = settings.chunk_context
    try:
        chunked = Chunked(inputs, outputs, pairs, audio, settings.max_chunk, context)
    except StreamError as error:
        overrides["max_chunk"] = (None, str(error))
        return None
    if chunked.carries_state and context is not None:
        overrides["chunk_context"] = (None, "the model carries its own state from chunk to chunk")
    return chunked


def _results(
    source: Source, settings: Settings, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> ResultCache | None:
    tensors = all(spec.element is not None for spec in (*inputs, *outputs))
    if not settings.cache_bytes or not tensors or (source.is_random and not settings.cache_random):
        return None
    context = source.fingerprint + repr(settings).encode()
    return ResultCache(settings.cache_bytes, tuple(spec.name for spec in inputs), context)
