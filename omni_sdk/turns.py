"""Turns: who waits in a host for room, in which order, how long, and when waiting is in vain.

Requests to load are served in the order they came in: one that waits for room goes before those behind it, so a busy
pair of models cannot starve a third. A run waits for those under way, whatever stands in the queue: its thread holds a
model already.

Why nothing deadlocks: what a request waits for are runs and loads under way. Those end by themselves unless their
thread waits here as well, holding one model and asking for more. A thread that holds a model is therefore let past the
queue, and where every holder has looked since something last changed, and found no room, the last to come is refused.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import NoReturn, Protocol

from omni_sdk.binding import Interrupt
from omni_sdk.errors import MemoryBudgetError


class Held(Protocol):
    """What requests ask for: the models of a host."""

    def holders(self) -> set[int]:
        """The threads that hold one."""

    def loading(self) -> bool:
        """Whether one is being loaded, which ends by itself."""


class Turns:
    """The requests of one host. All but `told` is called with `lock` held.

    Parameters
    ----------
    seconds : float or None
        How long a request waits; None for as long as it takes.
    models : Held
    """

    def __init__(self, seconds: float | None, models: Held) -> None:
        self.lock = threading.Condition()
        self.waiting: set[int] = set()
        self._seconds = seconds
        self._models = models
        self._queue: deque[object] = deque()
        self._stuck: set[int] = set()
        self._interrupts: dict[int, Interrupt] = {}

    def join(self, interrupt: Interrupt | None) -> object:
        """At the end of the queue: the ticket there. Firing the interrupt ends this thread's waits."""
        ticket = object()
        self._queue.append(ticket)
        if interrupt is not None:
            self._interrupts[threading.get_ident()] = interrupt
            interrupt.told.add_done_callback(lambda _: self.told())
        return ticket

    def leave(self, ticket: object) -> None:
        """The request of this ticket is met or refused."""
        self._queue.remove(ticket)
        self.tell()

    def forget(self, holder: int) -> None:
        """The thread lets a model go."""
        self._interrupts.pop(holder, None)
        self.tell()

    def is_first(self, ticket: object) -> bool:
        """Whether it is this ticket's turn."""
        return self._queue[0] is ticket or threading.get_ident() in self._models.holders()

    def tell(self) -> None:
        """Something changed: whoever waits looks again."""
        self._stuck.clear()
        self.lock.notify_all()

    def told(self) -> None:
        """As `tell`, from any thread."""
        with self.lock:
            self.tell()

    def check_interrupt(self) -> None:
        """`CancelledError` where this thread's request was ended."""
        interrupt = self._interrupts.get(threading.get_ident())
        if interrupt is not None and interrupt.fired:
            raise CancelledError

    def wait(self, refusal: MemoryBudgetError, began: float) -> None:
        """A run waits for room; see `omni_sdk.budget.Turns`."""

        def refuse(why: str) -> NoReturn:
            raise refusal

        self.wait_for_change(began, refuse, first=True)

    def wait_for_change(self, began: float, refuse: Callable[[str], NoReturn], *, first: bool) -> None:
        """Returns when something changed.

        Parameters
        ----------
        began : float
            The `time.monotonic` at which the request came in.
        refuse : callable
            Given why; called, and to raise, where waiting is in vain or took too long.
        first : bool
            Whether it is this request's turn: one that only waits for that is never refused for being in vain.
        """
        self.check_interrupt()
        me = threading.get_ident()
        self.waiting.add(me)
        try:
            if first:
                self._check_vain(me, refuse)
            left = None if self._seconds is None else began + self._seconds - time.monotonic()
            if left is not None and left <= 0:
                refuse(f"no room came free within {self._seconds:g} s")
            self.lock.wait(left)
        finally:
            self.waiting.discard(me)
        self.check_interrupt()

    def _check_vain(self, me: int, refuse: Callable[[str], NoReturn]) -> None:
        self._stuck.add(me)
        holders = self._models.holders()
        if self._models.loading() or not holders <= self._stuck:
            return
        refuse(
            "every model in use is held by a request that waits for room itself"
            if holders
            else "no model is in use, so none would come free"
        )

    def after_fork(self) -> None:
        """In a forked child: nobody waits. Another thread may have held the lock at the fork."""
        self.lock = threading.Condition()
        self._queue.clear()
        self.waiting.clear()
        self._stuck.clear()
