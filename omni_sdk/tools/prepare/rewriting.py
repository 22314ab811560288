"""Apply the passes to a model, prove that it still says the same, and name the pass at fault where it does not."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir
import sympy
from onnx_ir.passes import common

from omni_sdk.errors import InternalError, ModelError, OmniError
from omni_sdk.tools.prepare.differences import TOLERANCE
from omni_sdk.tools.prepare.ledger import Ledger
from omni_sdk.tools.prepare.parity import Difference, Trial, compare, first_bad
from omni_sdk.tools.prepare.rules.conv1d_node import BYTES
from omni_sdk.tools.prepare.rules.order import Pass
from omni_sdk.tools.prepare.symbols import Symbols
from omni_sdk.tools.saving import save_model

log = logging.getLogger(__name__)

KEEP_TYPE = frozenset(
    ("Conv", "Conv1d", "MatMul", "Add", "Reshape", "Transpose", "Slice", "Snake", "AddSnake", "ShuffleSnake", "Concat")
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


def apply_passes(model: ir.Model, passes: Sequence[Pass], progress: Progress, *, settled: bool = False) -> Ledger:
    """Run the passes over a model in place; what fired and what refused comes back.

    Parameters
    ----------
    model : onnx_ir.Model
    passes : sequence of Pass
    progress : callable
        Told what is going on.
    settled : bool, default False
        Whether the shapes in the model are from here, so that they hold.
    """
    ledger = Ledger()
    declared = {value.name: value.shape for value in model.graph.outputs}
    if not settled:
        forget_shapes(model)
    common.ShapeInferencePass()(model)
    for done, each in enumerate(passes):
        progress(f"rule {each.title}", done / len(passes))
        _apply(each, model, ledger)
        log.debug("%s: %d nodes", each.title, len(model.graph))
    settle_shapes(model)
    for value in model.graph.outputs:
        value.shape = declared.get(value.name) if value.shape is None else value.shape
    return ledger


def _apply(each: Pass, model: ir.Model, ledger: Ledger) -> None:
    try:
        each(model, ledger)
    except (OmniError, MemoryError):
        raise
    except Exception as error:  # a rule met what it does not know, which is our bug; without it the rest still works
        raise InternalError(
            f"Expected a model that can be rewritten, got {type(error).__name__}: {error} - at rule {each.title}",
            hint=f"prepare without it: skip=[{each.title!r}]",
        ) from error


def forget_shapes(model: ir.Model) -> None:
    """Drop what is declared of all values but the inputs, so that it is inferred anew.

    An exporter may have declared them for one size while the input's is free. ONNX's inference would believe it, and
    give up on a contradiction.
    """
    for node in model.graph.all_nodes():
        for value in node.outputs:
            value.shape = None


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
            dtype = _type_of(node, value)
            if value.dtype is None and dtype is not None:
                value.dtype = dtype
            known = value.dtype is not None and shape is not None
            # Within the graph a size of its own, such as what is left of a state, may have a name as well.
            names = given if value.is_graph_output() else {each for size in shape or () for each in size.free_symbols}
            value.shape = ir.Shape([_named(size, names) for size in shape or ()]) if known else None
    common.TopologicalSortPass()(model)


def _type_of(node: ir.Node, value: ir.Value) -> ir.DataType | None:
    if node.op_type == "QConv1d":
        return ir.DataType.UINT8 if value in node.outputs[BYTES:] else ir.DataType.FLOAT
    source = node.inputs[0] if node.inputs else None
    return source.dtype if source is not None and node.op_type in KEEP_TYPE else None


def _named(size: sympy.Expr, given: set[sympy.Symbol]) -> int | str | None:
    if size.is_Integer:
        return int(size)
    return str(sympy.expand(size)) if size.free_symbols <= given else None


def rewrite(
    read: Callable[[], ir.Model],
    passes: Sequence[Pass],
    trials: Sequence[Trial],
    graph: Path,
    progress: Progress,
    *,
    settled: bool = False,
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
    settled : bool, default False
        As for `apply_passes`.

    Returns
    -------
    Rewritten

    Raises
    ------
    ModelError
        Where the rewritten model does not run, or an output differs by more than the tolerance; names the pass that
        made it so.
    BundleError
        Where the disk does not take the model.
    InternalError
        Where a pass fails; names it.
    """

    def after(count: int) -> Rewritten:
        model = read()
        ledger = apply_passes(model, passes[:count], progress, settled=settled)
        save_model(graph, model)
        nodes = len(model.graph)
        del model  # the sessions below need the room
        return Rewritten(graph, nodes, ledger, compare(graph, trials))

    def is_good(count: int) -> bool:
        try:
            return all(difference.agrees for difference in after(count).differences)
        except ModelError as error:  # it does not load, or does not run
            log.debug("after %d passes: %s", count, error)
            return False

    failure: ModelError | None = None
    try:
        rewritten = after(len(passes))
    except ModelError as error:
        failure, got = error, str(error)
    else:
        if all(difference.agrees for difference in rewritten.differences):
            return rewritten
        worst = max(rewritten.differences, key=lambda difference: difference.relative)
        got = f"{worst.relative:.2g} in {worst.output!r} at sizes {worst.sizes}"
    if not passes or not is_good(0):
        raise ModelError(
            f"Expected outputs within {TOLERANCE:g} of the original's with no rule applied, got {got} - at {graph.name}"
        ) from failure
    guilty = passes[first_bad(len(passes), is_good) - 1]
    raise ModelError(
        f"Expected outputs within {TOLERANCE:g} of the original's after rewriting, got {got} - at rule {guilty.title}",
        hint=f"prepare without it: skip=[{guilty.title!r}]",
    ) from failure
