"""Apply the passes to a model, prove that it still says the same, and name the pass at fault where it does not."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir
import sympy
from onnx_ir.passes import common

from omni_sdk.errors import ModelError
from omni_sdk.tools.prepare.ledger import Ledger
from omni_sdk.tools.prepare.parity import TOLERANCE, Difference, Trial, compare, first_bad
from omni_sdk.tools.prepare.rules.order import Pass
from omni_sdk.tools.prepare.symbols import Symbols
from omni_sdk.tools.saving import save_model

log = logging.getLogger(__name__)

KEEP_TYPE = frozenset(
    ("Conv", "Conv1d", "MatMul", "Add", "Reshape", "Transpose", "Slice", "Snake", "AddSnake", "ShuffleSnake")
)
"""What rules write; their outputs have the type of their first input."""

Progress = Callable[[str, float], None]
"""Called with what is going on and the fraction done, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A rewritten model on disk and the proof of its parity."""

    graph: Path
    nodes: int
    ledger: Ledger
    differences: list[Difference]


def apply_passes(model: ir.Model, passes: Sequence[Pass], progress: Progress) -> Ledger:
    """Run the passes over a model in place; what fired and what refused comes back."""
    ledger = Ledger()
    common.ShapeInferencePass()(model)
    for done, each in enumerate(passes):
        progress(f"rule {each.title}", done / len(passes))
        each(model, ledger)
        log.debug("%s: %d nodes", each.title, len(model.graph))
    settle_shapes(model)
    return ledger


def settle_shapes(model: ir.Model) -> None:
    """Declare each value's type and shape by what is known of it, in place of what the exporter once declared.

    Dimensions become numbers or expressions in the inputs' names: ONNX Runtime lets an operator work in place only
    where it sees by number or name that input and output are equally large.
    """
    common.ClearMetadataAndDocStringPass()(model)
    symbols = Symbols(model)
    given = {each for value in model.graph.inputs for size in symbols.shape(value) or () for each in size.free_symbols}
    for node in model.graph:
        for value in node.outputs:
            shape = symbols.shape(value)
            if value.const_value is not None or (value.is_graph_output() and shape is None):
                continue
            source = node.inputs[0] if node.inputs else None
            dtype = source.dtype if source is not None and node.op_type in KEEP_TYPE else None
            if value.dtype is None and dtype is not None:
                value.dtype = dtype
            known = value.dtype is not None and shape is not None
            value.shape = ir.Shape([_named(size, given) for size in shape or ()]) if known else None
    common.TopologicalSortPass()(model)


def _named(size: sympy.Expr, given: set[sympy.Symbol]) -> int | str | None:
    if size.is_Integer:
        return int(size)
    return str(sympy.expand(size)) if size.free_symbols <= given else None


def rewrite(
    read: Callable[[], ir.Model], passes: Sequence[Pass], trials: Sequence[Trial], graph: Path, progress: Progress
) -> Rewritten:
    """Rewrite a model and compare it with the original on all trials.

    Parameters
    ----------
    read : callable
        Gives a fresh copy of the original.
    passes : sequence of Pass
        What to apply, in order.
    trials : sequence of Trial
        Feeds with the original's outputs.
    graph : pathlib.Path
        Where the rewritten model goes.
    progress : callable
        Told what is going on.

    Returns
    -------
    Rewritten

    Raises
    ------
    ModelError
        Where an output differs by more than the tolerance; names the pass that made it so.
    """

    def after(count: int) -> Rewritten:
        model = read()
        ledger = apply_passes(model, passes[:count], progress)
        save_model(graph, model)
        nodes = len(model.graph)
        del model  # the sessions below need the room
        return Rewritten(graph, nodes, ledger, compare(graph, trials))

    def is_good(count: int) -> bool:
        return all(difference.agrees for difference in after(count).differences)

    rewritten = after(len(passes))
    if all(difference.agrees for difference in rewritten.differences):
        return rewritten
    guilty = passes[first_bad(len(passes), is_good) - 1]
    worst = max(rewritten.differences, key=lambda difference: difference.relative)
    raise ModelError(
        f"Expected outputs within {TOLERANCE:g} of the original's after rewriting, got {worst.relative:.2g} in "
        f"{worst.output!r} - at rule {guilty.title}, sizes {worst.sizes}",
        hint=f"prepare without it: skip=[{guilty.title!r}]",
    )
