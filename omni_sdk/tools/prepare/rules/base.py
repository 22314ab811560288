"""What every rule is: a pattern, the plan that its conditions allow, and the rewrite."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnxscript.rewriter import RewriteRule
from onnxscript.rewriter.pattern import MatchResult, RewriteRuleClassBase

from omni_sdk.tools.prepare.ledger import Ledger
from omni_sdk.tools.prepare.symbols import Symbols

Plan = TypeVar("Plan")


class Refused(Exception):
    """A rule recognised its subject and declines: the sentence says why, the node's name stands beside it."""


class Rule(RewriteRuleClassBase, ABC, Generic[Plan]):
    """One rewrite, written as three short parts.

    `pattern` names the matched output `root`. `plan` receives the matched values and returns what `replace` needs,
    returns None where the match is not the rule's business, and raises `Refused` where it is but a condition fails.
    `replace` builds the new nodes. Nodes that nothing uses any more are removed after the pass, so a match may have
    other consumers.

    Parameters
    ----------
    ledger : Ledger
        Where firings and refusals are noted.
    symbols : Symbols
        Shapes and shape values of the model under rewriting.
    """

    title: ClassVar[str]

    def __init__(self, ledger: Ledger, symbols: Symbols) -> None:
        super().__init__(self.title, remove_nodes=False)
        self.ledger = ledger
        self.symbols = symbols
        self._plan: Plan | None = None
        self._made = 0

    @classmethod
    def bind(cls, ledger: Ledger, symbols: Symbols) -> RewriteRule:
        """The rule as onnxscript's rewriter takes it."""
        bound: RewriteRule = cls.rule(ledger, symbols)  # type: ignore[no-untyped-call]
        return bound

    @abstractmethod
    def plan(self, *args: Any, **bound: Any) -> Plan | None:
        """What `replace` needs; None where the match is not the rule's business."""

    @abstractmethod
    def replace(self, op: Any, plan: Plan) -> Any:
        """The new nodes in place of the old."""

    def check(self, op: Any, *args: Any, **bound: Any) -> MatchResult:
        result, root = MatchResult(), bound["root"]
        try:
            self._plan = self.plan(**bound)
        except Refused as refusal:
            self.ledger.refuse(self.title, label(root), str(refusal))
            return result.fail(str(refusal))
        return result if self._plan is not None else result.fail("not this rule's business")

    def rewrite(self, op: Any, root: ir.Value, **bound: Any) -> Any:
        assert self._plan is not None, "onnxscript calls rewrite right after a check that succeeded"
        self.ledger.fire(self.title, label(root))
        return self.replace(op, self._plan)

    @staticmethod
    def with_second(first: ir.Value, old: ir.Value, second: ir.Value) -> ir.Value:
        """The value to return from `replace` where the new node's second output stands in for `old` as well.

        Users of `old` may come before the new node, so the pass sorts the graph afterwards.
        """
        if len(old.uses()) > 1 or old.is_graph_output():
            stand_in(second, old)
        else:
            _drop_second(first)
        return first

    @staticmethod
    def with_second_output(first: ir.Value, old: ir.Node, second: ir.Value) -> ir.Value:
        """The same where the second output stands in for another node's second output, if that has one."""
        if len(old.outputs) > 1 and (old.outputs[1].uses() or old.outputs[1].is_graph_output()):
            stand_in(second, old.outputs[1])
        else:
            _drop_second(first)
        return first

    def initializer(self, op: Any, like: ir.Value, array: NDArray[Any]) -> ir.Value:
        """A new initializer whose name derives from `like` and is not taken in its graph."""
        return self.lazy_initializer(op, like, lambda name: ir.tensor(np.ascontiguousarray(array), name=name))

    def lazy_initializer(self, op: Any, like: ir.Value, make: Callable[[str], ir.TensorProtocol]) -> ir.Value:
        """The same of a tensor that may compute its elements when they are written; `make` is told the name."""
        taken = like.graph.initializers if like.graph is not None else {}
        self._made += 1
        while (name := f"{like.name}.{self.title}.{self._made}") in taken:
            self._made += 1
        made: ir.Value = op.initializer(make(name), name=name)
        return made


def stand_in(new: ir.Value, old: ir.Value) -> None:
    """Give a new value the old one's users, type, shape and, since a graph's outputs keep their names, its name."""
    new.type, new.shape, new.name = old.type, old.shape, old.name
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    old.name = f"{old.name}.replaced"


def _drop_second(first: ir.Value) -> None:
    node = first.producer()
    assert node is not None, "a value made by the node that also makes the second"
    node.resize_outputs(1)


def label(value: ir.Value) -> str:
    """The name by which reports speak of the node that makes `value`."""
    node = value.producer()
    return (node.name if node is not None and node.name else None) or value.name or "?"


def constant(value: ir.Value | None) -> NDArray[Any] | None:
    """The array of a value fixed in the model; None for what is computed or what callers may override."""
    if value is None or value.const_value is None or value.is_graph_input():
        return None
    return np.asarray(value.const_value.numpy())


def made_by(value: ir.Value | None, *op_types: str) -> ir.Node | None:
    """The standard-domain node that makes `value`, if it is one of `op_types`."""
    node = value.producer() if value is not None else None
    return node if node is not None and node.domain in ("", "ai.onnx") and node.op_type in op_types else None
