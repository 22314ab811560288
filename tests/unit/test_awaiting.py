"""A call that is awaited ends in time, told what became of it, whether its turn came or not."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import CancelledError

import pytest

from omni_sdk.awaiting import AwaitedCalls
from omni_sdk.binding import Interrupt
from omni_sdk.errors import ClosedError


@pytest.fixture
def busy():
    """One worker, which waits until it is let go."""
    calls, let_go = AwaitedCalls(1), threading.Event()
    yield calls, let_go
    let_go.set()
    calls.close()


def test_time_counts_from_the_call_and_not_from_the_workers_start(busy):
    calls, let_go = busy

    async def main():
        first = asyncio.create_task(calls.run(lambda: let_go.wait(20), Interrupt()))
        await asyncio.sleep(0.05)
        started = time.monotonic()
        with pytest.raises(TimeoutError, match=r"within 0\.1 s"):
            await calls.run(lambda: pytest.fail("it had no time left"), Interrupt(0.1))
        assert time.monotonic() - started < 5
        assert not first.done()
        let_go.set()
        assert await first

    asyncio.run(main())


def test_a_caller_who_cancels_is_not_told_that_time_is_up(busy):
    calls, let_go = busy

    async def main():
        first = asyncio.create_task(calls.run(lambda: let_go.wait(20), Interrupt()))
        queued = asyncio.create_task(calls.run(lambda: None, Interrupt(30)))
        await asyncio.sleep(0.05)
        queued.cancel()
        with pytest.raises(asyncio.CancelledError):
            await queued
        let_go.set()
        assert await first

    asyncio.run(main())


def test_a_call_whose_wait_for_something_else_was_ended_is_late():
    calls, interrupt = AwaitedCalls(1), Interrupt(0.05)

    def waits():
        interrupt.told.result(20)
        raise CancelledError

    with pytest.raises(TimeoutError):
        asyncio.run(calls.run(waits, interrupt))


def test_after_close_there_are_no_calls():
    calls = AwaitedCalls(1)
    calls.close()
    with pytest.raises(ClosedError):
        asyncio.run(calls.run(lambda: None, Interrupt()))
