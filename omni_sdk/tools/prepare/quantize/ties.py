"""Values whose channels can change their scale together: those between convolutions, as far as Snake and sums reach.

A tie is a set of signals that must bear one scale a channel: a Snake's input and output, both sides of a residual sum
and all the sums that follow it, a stream's past and what it is joined to. It is of use where only convolutions with
constant weights make its signals and only such read them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import onnx_ir as ir

from omni_sdk.tools.prepare.rules.base import constant
from omni_sdk.tools.prepare.symbolic_bounds import attribute_of

TIME = 2
SNAKES = {"Snake": 1, "AddSnake": 2, "ShuffleSnake": 1}
"""Operators of the domain `omni`, and where their `alpha` stands; `inv_beta` follows."""


@dataclass(slots=True)
class Tie:
    """Signals with one scale a channel, and the nodes whose constants hold that scale.

    Attributes
    ----------
    makers : list of (ir.Node, int)
        Convolutions whose rows make the channels, and how often the channels repeat in the rows (the stride of a pixel
        shuffle).
    snakes : list of (ir.Node, int)
        Activations, and where their `alpha` stands.
    users : list of ir.Node
        Convolutions whose columns read the channels.
    activations : list of ir.Value
        What the activations give.
    """

    makers: list[tuple[ir.Node, int]] = field(default_factory=list)
    snakes: list[tuple[ir.Node, int]] = field(default_factory=list)
    users: list[ir.Node] = field(default_factory=list)
    activations: list[ir.Value] = field(default_factory=list)


def ties_of(model: ir.Model, state: Mapping[str, str]) -> list[Tie]:
    """Ties of a model whose every signal is made and read by what can take the scale.

    Parameters
    ----------
    model : onnx_ir.Model
    state : mapping of str to str
        Carried state, input to output.

    Returns
    -------
    list of Tie
    """
    groups = _Groups()
    outputs = {str(value.name): value for value in model.graph.outputs}
    for value in model.graph.inputs:
        if str(value.name) in state and state[str(value.name)] in outputs:
            groups.join([value, outputs[state[str(value.name)]]])
    for node in model.graph:
        groups.join(_tied(node))
    made = (_tie(values, state, outputs) for values in groups.sets())
    return [tie for tie in made if tie is not None]


def _tied(node: ir.Node) -> list[ir.Value]:
    """Signals that a node keeps in one scale."""
    if node.domain == "omni" and node.op_type in SNAKES:
        signals = list(node.inputs[: SNAKES[node.op_type]]) if node.op_type != "ShuffleSnake" else []
    elif node.domain not in ("", "ai.onnx"):
        return []
    elif node.op_type == "Concat" and attribute_of(node, "axis", 0) in (TIME, TIME - 3):
        signals = list(node.inputs)
    elif node.op_type == "Slice" and _axes_of(node) == [TIME]:
        signals = [node.inputs[0]]
    else:
        return []
    return [value for value in (*signals, *node.outputs) if value is not None]


def _axes_of(node: ir.Node) -> list[int]:
    axes = constant(node.inputs[3]) if len(node.inputs) > 3 else None
    return [] if axes is None else [int(axis) % 3 for axis in axes]


def _tie(values: set[ir.Value], state: Mapping[str, str], outputs: Mapping[str, ir.Value]) -> Tie | None:
    """The tie of a set of signals; None where one is made or read by what cannot take a scale."""
    tie, seen = Tie(), set[ir.Node]()
    for value in values:
        if value.is_graph_input() and outputs.get(state.get(str(value.name), "")) not in values:
            return None
        if value.is_graph_output() and value.name not in state.values():
            return None
        node = value.producer()
        if node is None and not value.is_graph_input():
            return None
        for each in (node, *(user for user, _ in value.uses())):
            if each is not None and each not in seen and _tied(each) and not values.isdisjoint(each.outputs):
                seen.add(each)
                if not _add_activation(tie, each):
                    return None
        if node is not None and node not in seen and not _add_maker(tie, node, 1):
            return None
        for user, index in value.uses():
            if user not in seen and not _add_user(tie, user, index):
                return None
    return tie if tie.snakes and tie.users else None


def _add_activation(tie: Tie, node: ir.Node) -> bool:
    if node.op_type not in SNAKES:
        return True
    alpha = SNAKES[node.op_type]
    if any(constant(value) is None for value in node.inputs[alpha:]) or attribute_of(node, "channels_last", 0):
        return False
    tie.snakes.append((node, alpha))
    tie.activations.append(node.outputs[0])
    if node.op_type != "ShuffleSnake":
        return True
    source = node.inputs[0]
    maker = source.producer() if source is not None else None
    plain = source is not None and len(source.uses()) == 1 and not source.is_graph_output() and len(node.inputs) == 3
    return maker is not None and plain and _add_maker(tie, maker, attribute_of(node, "stride", 1))


def _add_maker(tie: Tie, node: ir.Node, repeats: int) -> bool:
    if not _is_plain(node) or any(constant(value) is None for value in node.inputs[1:]):
        return False
    tie.makers.append((node, repeats))
    return True


def _add_user(tie: Tie, node: ir.Node, index: int) -> bool:
    if index != 0 or not _is_plain(node) or constant(node.inputs[1]) is None:
        return False
    tie.users.append(node)
    return True


def _is_plain(node: ir.Node) -> bool:
    """Whether a node is a convolution over time in one group."""
    if node.op_type != "Conv" or node.domain not in ("", "ai.onnx") or attribute_of(node, "group", 1) != 1:
        return False
    weight = node.inputs[1]
    return weight is not None and weight.const_value is not None and len(weight.const_value.shape) == 3


class _Groups:
    """Sets of values that grow together."""

    def __init__(self) -> None:
        self._of: dict[ir.Value, set[ir.Value]] = {}

    def join(self, values: list[ir.Value]) -> None:
        """Put these values, and whatever is with one of them, in one set."""
        if not values:
            return
        joined = set[ir.Value]().union(*(self._of.get(value, {value}) for value in values))
        self._of.update(dict.fromkeys(joined, joined))

    def sets(self) -> Iterator[set[ir.Value]]:
        """Every set once, in the order of first joining."""
        seen = defaultdict[int, bool](bool)
        for values in self._of.values():
            if not seen[id(values)]:
                seen[id(values)] = True
                yield values
