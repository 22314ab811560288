"""The gate: so many run, so many wait, the rest are told when to come back."""

from __future__ import annotations

import asyncio

import pytest

from omni_sdk.tools.scale import gate as gates
from omni_sdk.tools.scale.gate import Deadline, Gate
from omni_sdk.tools.scale.problems import Problem


async def hold(gate: Gate, name: str, seen: list[str], end: asyncio.Event | None = None, **options: object) -> None:
    async with gate.slot(options.pop("deadline", Deadline(5)), **options):
        seen.append(name)
        if end is not None:
            await end.wait()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_slots_queue_and_refusal():
    async def scene() -> None:
        gate, seen, end = Gate(2, 1), [], asyncio.Event()
        tasks = [asyncio.create_task(hold(gate, name, seen, end)) for name in "abc"]
        await settle()
        assert (seen, gate.running, gate.waiting) == (["a", "b"], 2, 1)
        with pytest.raises(Problem) as caught:
            await hold(gate, "d", seen)
        assert caught.value.status == 429
        assert int(caught.value.headers["retry-after"]) >= 1
        end.set()
        await asyncio.gather(*tasks)
        assert (seen, gate.running, gate.waiting) == (["a", "b", "c"], 0, 0)
        await hold(gate, "e", seen)

    asyncio.run(scene())


def test_while_the_queue_overflows_its_last_place_is_given_late_in_a_run(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(gates.time, "monotonic", lambda: clock[0])

    async def scene() -> None:
        gate, seen = Gate(1, 1), []

        async def run(end: asyncio.Event) -> asyncio.Task[None]:
            task = asyncio.create_task(hold(gate, "run", seen, end, deadline=Deadline(1e6)))
            await settle()
            return task

        async def tried(name: str) -> asyncio.Task[None] | None:
            task = asyncio.create_task(hold(gate, name, seen, deadline=Deadline(1e6)))
            await settle()
            return None if task.done() and task.exception() else task

        first_end, second_end = asyncio.Event(), asyncio.Event()
        first = await run(first_end)
        queued = await tried("at once, nobody was turned away yet")
        assert queued is not None
        assert await tried("one too many") is None
        clock[0] += 1.0  # a run takes a second
        first_end.set()
        await asyncio.gather(first, queued)
        second = await run(second_end)
        clock[0] += 0.1
        assert await tried("early in a run") is None
        clock[0] += 0.5
        late = await tried("late in a run")
        assert late is not None
        second_end.set()
        await asyncio.gather(second, late)
        clock[0] += 60.0  # nobody came for long
        third_end = asyncio.Event()
        third = await run(third_end)
        calm = await tried("at once again")
        assert calm is not None
        third_end.set()
        await asyncio.gather(third, calm)

    asyncio.run(scene())


def test_turns_come_in_order_and_streams_pass_the_bound():
    async def scene() -> None:
        gate, seen, end = Gate(1, 1), [], asyncio.Event()
        first = asyncio.create_task(hold(gate, "first", seen, end))
        await settle()
        rest = [asyncio.create_task(hold(gate, "queued", seen))]
        await settle()
        rest += [asyncio.create_task(hold(gate, f"step {i}", seen, bounded=False)) for i in range(3)]
        await settle()
        assert gate.waiting == 4
        end.set()
        await asyncio.gather(first, *rest)
        assert seen == ["first", "queued", "step 0", "step 1", "step 2"]

    asyncio.run(scene())


def test_a_deadline_in_the_queue():
    async def scene() -> None:
        gate, seen, end = Gate(1, 1), [], asyncio.Event()
        first = asyncio.create_task(hold(gate, "first", seen, end))
        await settle()
        with pytest.raises(Problem) as caught:
            await hold(gate, "late", seen, deadline=Deadline(0.01))
        assert caught.value.status == 503
        assert "retry-after" in caught.value.headers
        assert gate.waiting == 0
        end.set()
        await first
        await hold(gate, "next", seen)
        assert seen == ["first", "next"]

    asyncio.run(scene())


@pytest.mark.parametrize("after_the_turn", [False, True])
def test_who_is_cancelled_takes_no_turn_along(after_the_turn):
    async def scene() -> None:
        gate, seen, end = Gate(1, 2), [], asyncio.Event()
        first = asyncio.create_task(hold(gate, "first", seen, end))
        await settle()
        leaver = asyncio.create_task(hold(gate, "leaver", seen))
        await settle()
        if after_the_turn:  # its turn comes and it is cancelled before it can take it
            end.set()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        leaver.cancel()
        end.set()
        await asyncio.gather(first, leaver, return_exceptions=True)
        await asyncio.wait_for(hold(gate, "next", seen), 1)
        assert seen[-1] == "next"
        assert (gate.running, gate.waiting) == (0, 0)

    asyncio.run(scene())


def test_a_run_that_fails_gives_its_turn_back():
    async def scene() -> None:
        gate = Gate(1, 0)
        with pytest.raises(ZeroDivisionError):
            async with gate.slot(Deadline(1)):
                raise ZeroDivisionError
        await hold(gate, "next", [])

    asyncio.run(scene())


def test_a_run_that_hangs_shows(monkeypatch):
    async def scene() -> None:
        gate, end = Gate(1, 0), asyncio.Event()
        task = asyncio.create_task(hold(gate, "hangs", [], end, deadline=Deadline(0.001)))
        await settle()
        assert not gate.is_stuck
        monkeypatch.setattr(gates, "STUCK_SECONDS", 0.01)
        await asyncio.sleep(0.05)
        assert gate.is_stuck
        end.set()
        await task
        assert not gate.is_stuck

    asyncio.run(scene())


def test_a_deadline_is_brought_forward_and_never_put_off():
    deadline = Deadline(10)
    deadline.shorten(20)
    assert 9 < deadline.left() <= 10
    deadline.shorten(2)
    assert 1 < deadline.left() <= 2
    deadline.shorten(0)
    assert deadline.left() == 0
