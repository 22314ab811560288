"""Calls that are awaited: run on a bounded number of threads, and ended when the one who awaits them is cancelled."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from omni_sdk.binding import Interrupt
from omni_sdk.errors import ClosedError

T = TypeVar("T")


class AwaitedCalls:
    """Threads for calls that are awaited; they start with the first one.

    Parameters
    ----------
    workers : int
        How many calls run at once; more wait.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._executor: ThreadPoolExecutor | None = None
        self._closed = False
        self._lock = threading.Lock()

    async def run(self, call: Callable[[], T], interrupt: Interrupt) -> T:
        """What `call` returns. Cancelling fires `interrupt`, and is done when the call has ended.

        Raises
        ------
        TimeoutError
            When the interrupt's time, which counts from when it was made, is up before the call's turn or its end.
        ClosedError
            When `close` came before the call's turn.
        """
        with interrupt:  # entered first of all here, not on the thread that will run the call
            work = self._threads().submit(call)
            waiting = asyncio.wrap_future(work)
            interrupt.told.add_done_callback(lambda told: work.cancel())  # while it waits for its turn
            try:
                await asyncio.wait([waiting])
            except asyncio.CancelledError:
                interrupt.fire()
                await asyncio.wait([waiting])
                if not waiting.cancelled():
                    waiting.exception()  # looked at, so that asyncio does not report it as lost
                raise
        try:
            return waiting.result()
        except asyncio.CancelledError:  # the work was, by the interrupt or by `close`, and not the caller
            if not interrupt.fired:
                raise _closed_meanwhile() from None
            raise TimeoutError(f"Expected a result within {interrupt.timeout} s, got none - at infer_async") from None

    def close(self) -> None:
        """Calls that run finish, those that wait are refused."""
        with self._lock:
            self._closed = True
            executor = self._executor
        if executor is not None:
            executor.shutdown(wait=False, cancel_futures=True)

    def _threads(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._closed:
                raise _closed_meanwhile()
            if self._executor is None:
                self._executor = ThreadPoolExecutor(self._workers, thread_name_prefix="omni-sdk")
            return self._executor


def _closed_meanwhile() -> ClosedError:
    return ClosedError("Expected an open model, got one that was closed meanwhile - at infer_async")
