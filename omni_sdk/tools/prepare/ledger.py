"""What the rules did and what they declined, kept for the report."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Firing:
    """A rule that rewrote the graph at one node."""

    rule: str
    node: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """A rule that recognised a node and declined, with its reason as a sentence."""

    rule: str
    node: str
    reason: str


@dataclass(slots=True)
class Ledger:
    """The rules' own account of one rewriting.

    Attributes
    ----------
    fired : list of Firing
        In the order they fired.
    refused : list of Refusal
        Each (rule, node) once, with the last reason given.
    """

    fired: list[Firing] = field(default_factory=list)
    _refused: dict[tuple[str, str], Refusal] = field(default_factory=dict)

    def fire(self, rule: str, node: str) -> None:
        """Note that `rule` rewrote `node`; an earlier refusal of the same is withdrawn."""
        self._refused.pop((rule, node), None)
        self.fired.append(Firing(rule, node))

    def refuse(self, rule: str, node: str, reason: str) -> None:
        """Note that `rule` recognised `node` and declined because of `reason`."""
        self._refused[rule, node] = Refusal(rule, node, reason)

    @property
    def refused(self) -> list[Refusal]:
        return list(self._refused.values())

    def counts(self) -> dict[str, int]:
        """How often each rule fired, in the order of first firing."""
        return dict(Counter(firing.rule for firing in self.fired))
