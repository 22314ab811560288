"""Code2Wav from checkpoint to bundle."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import numpy as np
import onnx_ir as ir

from omni_sdk import bundle, ranges
from omni_sdk.errors import ModelError
from omni_sdk.tools.export.checkpoint import Checkpoint, open_checkpoint
from omni_sdk.tools.export.decoder import decoder, upsampler
from omni_sdk.tools.export.forms import BATCH, FRAMES, Form, OneShot, Streaming
from omni_sdk.tools.export.graph import Graph
from omni_sdk.tools.export.transformer import transformer
from omni_sdk.tools.saving import Progress, save_bundle

CODES = "audio_codes"
WAVEFORM = "waveform"
SAMPLE_RATE = 24_000
"""Of Qwen3-Omni's waveform, Hz; its `config.json` does not say."""

Precision = Literal["float32", "float64"]


def code2wav(
    checkpoint: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    streaming: bool = True,
    batch: int | None = None,
    sample_rate: int = SAMPLE_RATE,
    revision: str | None = None,
    local_files_only: bool = False,
    progress: Progress | None = None,
) -> None:
    """Export Code2Wav from a checkpoint's tensors to a bundle.

    The graph takes `audio_codes`, int64 [batch, quantizers, frames], and gives `waveform`, float32
    [batch, 1, hop * frames - first_chunk_deficit]. Weights are read, transformed and written one after another.

    Parameters
    ----------
    checkpoint : str or os.PathLike
        A folder in Hugging Face layout, or a hub id, of which only the files that hold `code2wav.*` are downloaded.
    out : str or os.PathLike
        The bundle's folder; what stands there is replaced only if it is a bundle.
    streaming : bool, default True
        With `past.*` inputs and `present.*` outputs, named as pairs in the manifest. From zero state and on all
        frames at once that graph is the one-shot decode, so it serves both. False builds the graph without state,
        with the operators that exporters write.
    batch : int, optional
        A fixed size of the batch. By default 1 for the streaming form, whose state then has static shapes, and any
        size for the one-shot form.
    sample_rate : int, default 24000
        Of the waveform, Hz, for the manifest.
    revision : str, optional
        Branch, tag or commit on the hub.
    local_files_only : bool, default False
        Take hub files from the local cache and never from the network.
    progress : callable, optional
        Told before each tensor of the bundle's weights how many are written, and how many there are.

    Raises
    ------
    ModelError
        Where there is no such checkpoint, it holds no Code2Wav, a shard is missing, a file is damaged, a tensor has
        another shape than the configuration says, or the configuration cannot be built.
    BundleError
        Where something else stands at `out`, or the disk does not take the files.
    """
    source = open_checkpoint(
        Path(checkpoint) if isinstance(checkpoint, os.PathLike) else checkpoint,
        revision=revision,
        local_files_only=local_files_only,
    )
    model, state = build(source, streaming=streaming, batch=batch)
    config = source.config
    save_bundle(
        out,
        model,
        state=state,
        audio=bundle.Audio(
            sample_rate=sample_rate,
            hop=config.hop,
            input=CODES,
            output=WAVEFORM,
            first_chunk_deficit=config.first_chunk_deficit,
        ),
        provenance={
            "model": "Code2Wav",
            "checkpoint": source.origin,
            "revision": revision,
            "weights": list(source.dtypes),
            "codebook_size": config.codebook_size,
            "quantizers": config.num_quantizers,
        },
        progress=progress,
    )


def build(
    checkpoint: Checkpoint, *, streaming: bool, batch: int | None = None, dtype: Precision = "float32"
) -> tuple[ir.Model, dict[str, str]]:
    """Build the graph; its weights are read when it is saved.

    Parameters
    ----------
    checkpoint : Checkpoint
        The tensors.
    streaming : bool
        Which form.
    batch : int, optional
        As for `code2wav`.
    dtype : "float32" or "float64"
        What it computes in. ONNX Runtime has no convolutions in float64; the form is for proofs elsewhere.

    Returns
    -------
    onnx_ir.Model
        The model.
    dict of str to str
        Carried state: each input's name to its output's; empty for the one-shot form.

    Raises
    ------
    ModelError
        Where a tensor is missing or of another shape, or the configuration cannot be streamed.
    """
    config = checkpoint.config
    if batch is not None and batch < 1:
        raise ModelError(f"Expected a batch of at least 1, got {batch} - at batch")
    if streaming and not config.streams:
        raise ModelError(
            f"Expected one frame to give every block a column, got upsampling_ratios {list(config.upsampling_ratios)}"
            f" and upsample_rates {list(config.upsample_rates)} - at the streaming form",
            hint="export the one-shot form",
        )
    size: int | str = batch or (1 if streaming else BATCH)
    graph = Graph(checkpoint, ir.DataType.DOUBLE if dtype == "float64" else ir.DataType.FLOAT)
    codes = graph.input(CODES, ir.DataType.INT64, [size, config.num_quantizers, FRAMES])
    form: Form = Streaming(graph, codes, size) if streaming else OneShot(graph, codes)
    frames = transformer(graph, form, _embedded(graph, codes))
    columns = upsampler(graph, form, graph.op("Transpose", frames, perm=[0, 2, 1]))
    graph.output(WAVEFORM, decoder(graph, form, columns), [size, 1, "samples"])
    model = graph.model()
    model.graph.outputs.insert(0, model.graph.outputs.pop())
    key, allowed = ranges.entry(CODES, 0, config.codebook_size - 1)
    model.metadata_props[key] = allowed
    return model, form.state


def _embedded(graph: Graph, codes: ir.Value) -> ir.Value:
    """Mean of the quantizers' embeddings, [batch, frames, hidden]; each quantizer has its own part of one table."""
    config = graph.config
    with graph.scope("code_embedding"):
        rows = config.codebook_size * config.num_quantizers
        table = graph.tensor("code_embedding.weight", (rows, config.hidden_size))
        starts = np.arange(config.num_quantizers, dtype=np.int64)[:, None] * config.codebook_size
        vectors = graph.op("Gather", table, graph.op("Add", codes, graph.constant(starts)), axis=0)
        return graph.op("ReduceMean", vectors, graph.whole(1), keepdims=0)
