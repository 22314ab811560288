"""Who runs and who waits: a fixed number of runs at a time, a bounded queue before them, a deadline for each.

As long as the queue overflows, somebody comes at every moment, and whoever takes the last place the moment it is free
waits for a whole run more. Then the last place is given only once a part of the run is over: as many are served, and
none waits for the longest that a full queue could mean.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from omni_sdk.tools.scale.problems import TOO_MANY, UNAVAILABLE, Problem

SMOOTHING = 0.2
"""Weight of the newest run in the average that `Retry-After` is reckoned from."""
PATIENCE = 0.5
"""Of a run: how long the last in the queue waits at most while the queue overflows, beside those before it."""
OVERFLOW_RUNS = 8.0
"""Runs' time after the last overflow for which this holds."""
STUCK_SECONDS = 10.0
"""A run that goes on for so long after its deadline will not end any more."""


class Deadline:
    """A point in time until which an answer is of use.

    Parameters
    ----------
    seconds : float
        From now.
    """

    __slots__ = ("at", "since")

    def __init__(self, seconds: float) -> None:
        self.since = time.monotonic()
        self.at = self.since + seconds

    def left(self) -> float:
        """Seconds until then; 0 once it has passed."""
        return max(0.0, self.at - time.monotonic())

    def shorten(self, seconds: float) -> None:
        """Bring it forward to `seconds` after it was made; never put it off."""
        self.at = min(self.at, self.since + seconds)


class Gate:
    """Lets `slots` through at a time, in the order they came; used from one event loop.

    Parameters
    ----------
    slots : int
        Runs at a time.
    queue : int
        How many may wait; the next is turned away.
    """

    def __init__(self, slots: int, queue: int) -> None:
        self.slots = slots
        self.queue = queue
        self._free = slots
        self._turns: deque[asyncio.Future[None]] = deque()
        self._queued = 0
        self._average = 0.0
        self._overflowed = float("-inf")
        self._running: dict[object, tuple[Deadline, float]] = {}

    @asynccontextmanager
    async def slot(self, deadline: Deadline, *, bounded: bool = True) -> AsyncIterator[None]:
        """Wait for a turn, and have it as long as the context lasts.

        Parameters
        ----------
        deadline : Deadline
        bounded : bool, default True
            Whether the queue's bound holds. It does not for the steps of a stream that was let in: they are as many
            as there are streams.

        Raises
        ------
        Problem
            429 when the queue is full, 503 when the deadline came before the turn; both say when to try again.
        """
        await self._enter(deadline, bounded)
        ticket, started = object(), time.monotonic()
        self._running[ticket] = deadline, started
        try:
            yield
        finally:
            del self._running[ticket]
            seconds = time.monotonic() - started
            self._average += (seconds - self._average) * (SMOOTHING if self._average else 1.0)
            self._leave()

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._turns)

    @property
    def running(self) -> int:
        """How many run."""
        return len(self._running)

    @property
    def is_stuck(self) -> bool:
        """Whether a run has long outlived its deadline, which only one that hangs outside Python does."""
        now = time.monotonic()
        return any(now - deadline.at > STUCK_SECONDS for deadline, _ in self._running.values())

    def retry_after(self) -> float:
        """Seconds until whoever comes now would likely have had a turn."""
        return self._average * (len(self._turns) + 1) / self.slots

    async def _enter(self, deadline: Deadline, bounded: bool) -> None:
        if self._free and not self._turns:
            self._free -= 1
            return
        if bounded and not self._has_place():
            raise Problem(
                f"Expected room in the queue, got {self._queued} waiting and more to come - at the server",
                status=TOO_MANY,
                retry_after=self.retry_after(),
            )
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._turns.append(turn)
        self._queued += bounded
        try:
            await asyncio.wait([turn], timeout=deadline.left())
        except asyncio.CancelledError:
            self._give_up(turn)
            raise
        finally:
            self._queued -= bounded
        if not turn.done():
            self._give_up(turn)
            raise Problem(
                "Expected a turn before the request's deadline, got none - at the server's queue",
                status=UNAVAILABLE,
                retry_after=self.retry_after(),
            )

    def _has_place(self) -> bool:
        """Whether a request may wait; the last place has to be worth it while the queue overflows."""
        now = time.monotonic()
        if self._queued >= self.queue:
            self._overflowed = now
            return False
        if self._queued < self.queue - 1 or now - self._overflowed > OVERFLOW_RUNS * self._average:
            return True
        begun = min((started for _, started in self._running.values()), default=now)
        return self._average - (now - begun) <= PATIENCE * self._average

    def _give_up(self, turn: asyncio.Future[None]) -> None:
        if turn.done():  # the turn came in the same moment: it is the next one's
            self._leave()
        else:
            self._turns.remove(turn)

    def _leave(self) -> None:
        if self._turns:
            self._turns.popleft().set_result(None)
        else:
            self._free += 1
