"""One selection of layers and tables as a model that runs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import onnx_ir as ir

from omni_sdk.tools.prepare.ledger import Ledger
from omni_sdk.tools.prepare.quantize.selection import select
from omni_sdk.tools.prepare.quantize.tables import tables_to_bytes
from omni_sdk.tools.prepare.rewriting import settle_shapes
from omni_sdk.tools.prepare.rules.order import Pass


def build(
    quantized: Path | None, original: Path, chosen: Collection[str], folder: Path, *, passes: Sequence[Pass] = ()
) -> tuple[ir.Model, Ledger]:
    """A model with the chosen nodes on bytes and all others in float.

    Weights are not copied: the model refers to the files beside `quantized`, `original` and in `folder`; those that
    passes pack are packed when the model is written.

    Parameters
    ----------
    quantized : pathlib.Path or None
        The model with all layers quantized; None where only tables are chosen.
    original : pathlib.Path
        The FP32 model.
    chosen : collection of str
        Names of nodes: quantizable layers, and `Gather` of tables.
    folder : pathlib.Path
        Where the model will be saved; tables' bytes are written there.
    passes : sequence of Pass
        What makes the model fast once layers are quantized; none by default.

    Returns
    -------
    onnx_ir.Model, Ledger
        The ledger says which rules for quantized layers fired.
    """
    model, ledger = ir.load(original) if quantized is None else select(quantized, original, chosen), Ledger()
    tables_to_bytes(model, chosen, folder)
    if quantized is not None:
        for each in passes:
            each(model, ledger)
        settle_shapes(model)
    return model, ledger
