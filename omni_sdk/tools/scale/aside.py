"""Work that would hold the event loop up, done on threads beside it: few at a time, a bounded queue before them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from omni_sdk.tools.scale.gate import Deadline, Gate

T = TypeVar("T")


class Aside:
    """Threads that read and render large bodies; used from one event loop.

    Parameters
    ----------
    workers : int
        Threads.
    queue : int
        How many bodies may wait to be read; the next is turned away.
    """

    def __init__(self, workers: int, queue: int) -> None:
        self.gate = Gate(workers, queue)
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="omni-sdk-bodies")

    async def run(self, deadline: Deadline, work: Callable[..., T], *arguments: Any, bounded: bool = True) -> T:
        """The result of `work(*arguments)`.

        Parameters
        ----------
        deadline : Deadline
            For its turn.
        work : callable
        *arguments
        bounded : bool, default True
            Whether the queue's bound holds. It does not for answers: their runs were let in one by one.

        Raises
        ------
        Problem
            429 when the queue is full, 503 when the deadline came before the turn.
        """
        async with self.gate.slot(deadline, bounded=bounded):
            return await finished(self._threads, work, *arguments)

    def close(self) -> None:
        """End the threads once they are done."""
        self._threads.shutdown(wait=False, cancel_futures=True)


async def finished(threads: ThreadPoolExecutor, work: Callable[..., T], *arguments: Any) -> T:
    """The result of work on a thread. Being cancelled waits for its end: a thread cannot be left midway."""
    future = asyncio.get_running_loop().run_in_executor(threads, work, *arguments)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait([future])
        raise
