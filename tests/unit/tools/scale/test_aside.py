"""Work beside the event loop: few at a time, and nothing of it left running by who leaves."""

from __future__ import annotations

import asyncio
import threading

import pytest

from omni_sdk.tools.scale.aside import Aside
from omni_sdk.tools.scale.gate import Deadline
from omni_sdk.tools.scale.problems import Problem


def test_it_runs_on_another_thread_and_errors_come_back():
    async def scene() -> None:
        aside = Aside(1, 0)
        assert await aside.run(Deadline(5), threading.get_ident) != threading.get_ident()
        with pytest.raises(ZeroDivisionError):
            await aside.run(Deadline(5), divmod, 1, 0)
        assert aside.gate.running == 0
        aside.close()

    asyncio.run(scene())


def test_more_than_may_wait_is_turned_away_but_answers_are_not():
    async def scene() -> None:
        aside, go_on = Aside(1, 0), threading.Event()
        first = asyncio.create_task(aside.run(Deadline(5), go_on.wait, 5))
        await asyncio.sleep(0)
        with pytest.raises(Problem) as caught:
            await aside.run(Deadline(5), int)
        assert caught.value.status == 429
        answer = asyncio.create_task(aside.run(Deadline(5), int, bounded=False))
        await asyncio.sleep(0)
        go_on.set()
        assert (await first, await answer) == (True, 0)
        aside.close()

    asyncio.run(scene())


def test_a_turn_is_kept_until_the_thread_is_done_with_it():
    async def scene() -> None:
        aside, entered, go_on = Aside(1, 0), threading.Event(), threading.Event()

        def work() -> None:
            entered.set()
            assert go_on.wait(5)

        task = asyncio.create_task(aside.run(Deadline(5), work))
        while not entered.is_set():
            await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.sleep(0.01)
        assert (aside.gate.running, task.done()) == (1, False)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert aside.gate.running == 0
        aside.close()

    asyncio.run(scene())
