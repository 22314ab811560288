"""Output shapes learned from runs, by the shapes that went in."""

from __future__ import annotations

import threading
from collections import OrderedDict

ShapeSet = tuple[tuple[int, ...], ...]

# Input shapes remembered, and as many doubted. Beyond these the least recently used goes.
REMEMBERED_SHAPES = 1024


class LearnedShapes:
    """What runs of one kind gave. Any number of threads may use it at once.

    A shape that was learned is believed until a run bound to it fails. If ORT, left to allocate, then gives another
    one, shapes depend on the data and nothing is learned any more; if it gives the same or fails, the data is at fault.
    """

    def __init__(self) -> None:
        self.data_dependent = False
        self._lock = threading.Lock()
        self._learned: OrderedDict[ShapeSet, ShapeSet] = OrderedDict()
        self._doubted: OrderedDict[ShapeSet, ShapeSet] = OrderedDict()

    @property
    def inputs(self) -> tuple[ShapeSet, ...]:
        """Input shapes that are remembered."""
        with self._lock:
            return tuple(self._learned)

    def get(self, inputs: ShapeSet) -> ShapeSet | None:
        """Output shapes for these inputs; None where they are not known, or depend on the data."""
        with self._lock:
            outputs = None if self.data_dependent else self._learned.get(inputs)
            if outputs is not None:
                self._learned.move_to_end(inputs)
            return outputs

    def learn(self, inputs: ShapeSet, outputs: ShapeSet) -> None:
        """A run whose outputs ORT allocated gave these."""
        with self._lock:
            self.data_dependent = self.data_dependent or self._doubted.pop(inputs, outputs) != outputs
            self._learned[inputs] = outputs
            if len(self._learned) > REMEMBERED_SHAPES:
                self._learned.popitem(last=False)

    def doubt(self, inputs: ShapeSet) -> None:
        """A run bound for these inputs failed: the data is at fault, or an output has another shape than was learned.

        The next run at these shapes lets ORT allocate, which tells the two apart.
        """
        with self._lock:
            outputs = self._learned.pop(inputs, None)
            if outputs is not None:
                self._doubted[inputs] = outputs
                if len(self._doubted) > REMEMBERED_SHAPES:
                    self._doubted.popitem(last=False)

    def clear(self) -> None:
        """Forgets all."""
        with self._lock:
            self._learned.clear()
            self._doubted.clear()

    def after_fork(self) -> None:
        """In a forked child: another thread may have held the lock at the fork."""
        self._lock = threading.Lock()
