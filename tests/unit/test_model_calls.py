"""Calls to a model that end before their result: by a deadline, cancelled, or because the model is closed."""

from __future__ import annotations

import asyncio
import threading

import graphs
import numpy as np
import pytest

import omni_sdk as omni


@pytest.fixture
def slow():
    with graphs.load(graphs.LONG, intra_op_num_threads=1) as model:
        yield model


FOR_EVER = {"x": np.ones(8, np.float32), "n": np.array(10**9, np.int64)}
AT_ONCE = {"x": np.ones(8, np.float32), "n": np.array(1, np.int64)}


@pytest.mark.parametrize("timeout", [0, 0.05, -1])
def test_a_deadline_ends_the_run(slow, timeout):
    with pytest.raises(TimeoutError, match="Expected a result within"):
        slow.infer(FOR_EVER, timeout=timeout)
    np.testing.assert_allclose(slow.infer(AT_ONCE, timeout=30)["y"], np.sin(np.ones(8)), rtol=1e-6)
    assert slow.infer(AT_ONCE, timeout=float("inf"))["y"].shape == (8,)
    assert slow.stats().bytes_in_use == 0


@pytest.mark.parametrize("timeout", ["soon", float("nan"), [1]])
def test_a_deadline_that_is_no_number(slow, timeout):
    with pytest.raises(omni.InputError, match="seconds"):
        slow.infer(AT_ONCE, timeout=timeout)


def test_async_gives_what_infer_gives_and_cancelling_ends_the_run(slow):
    async def main():
        results = await asyncio.gather(*(slow.infer_async(AT_ONCE) for _ in range(4)))
        task = asyncio.create_task(slow.infer_async(FOR_EVER))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 20)
        with pytest.raises(TimeoutError):
            await slow.infer_async(FOR_EVER, timeout=0.02)
        with pytest.raises(omni.InputError):
            await slow.infer_async(x=1)
        return results

    results = asyncio.run(main())
    assert all((result["y"] == results[0]["y"]).all() for result in results)
    assert slow.infer(AT_ONCE)["y"].shape == (8,)


def test_cancelling_does_not_wait_for_another_thread_that_computes_the_same():
    model = graphs.load(graphs.LONG, cache_bytes=1 << 20, intra_op_num_threads=1)

    async def main():
        leader = asyncio.create_task(model.infer_async(FOR_EVER))
        await asyncio.sleep(0.05)
        follower = asyncio.create_task(model.infer_async(FOR_EVER))
        await asyncio.sleep(0.05)
        follower.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(follower, 20)
        assert not leader.done()
        leader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(leader, 20)

    with model:
        asyncio.run(asyncio.wait_for(main(), 30))


def test_an_awaited_calls_time_counts_from_the_call():
    async def main():
        with graphs.load(graphs.LONG, async_workers=1, intra_op_num_threads=1) as model:
            running = asyncio.create_task(model.infer_async(FOR_EVER))
            await asyncio.sleep(0.05)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(model.infer_async(AT_ONCE, timeout=0.1), 20)
            assert not running.done()
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running

    asyncio.run(main())


def test_closing_with_calls_in_the_queue_tells_them_so():
    async def main():
        model = graphs.load(graphs.LONG, async_workers=1)
        running = asyncio.create_task(model.infer_async(FOR_EVER))
        await asyncio.sleep(0.05)
        queued = asyncio.create_task(model.infer_async(AT_ONCE))
        await asyncio.sleep(0.05)
        model.close()
        with pytest.raises(omni.ClosedError):
            await queued
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(main())


def test_close_while_eight_threads_run():
    model, errors, results = graphs.load(graphs.DOUBLE), [], []
    x = np.ones(1000, np.float32)
    started = threading.Barrier(9)

    def work():
        started.wait()
        try:
            while True:
                results.append(model.infer(x=x)["y"][0])
        except omni.ClosedError:
            return
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    started.wait()
    model.close()
    model.close()
    for thread in threads:
        thread.join(20)
    assert errors == []
    assert set(results) <= {2.0}
    assert "closed" in repr(model)
    for call in (model.warmup, model.explain, lambda: model.infer(x=x)):
        with pytest.raises(omni.ClosedError):
            call()


@pytest.mark.parametrize("cache_bytes", [0, 1 << 20])
def test_a_closed_model_says_so_and_keeps_its_counts(cache_bytes):
    model, x = graphs.load(graphs.DOUBLE, cache_bytes=cache_bytes), np.ones(2, np.float32)
    model.infer(x=x)
    model.infer(x=x)
    before = model.stats()
    model.close()
    after = model.stats()
    assert (after.runs, after.cache_hits, after.cache_misses) == (before.runs, before.cache_hits, before.cache_misses)
    with pytest.raises(omni.ClosedError, match="one that is closed - at <"):
        model.explain()
    parts = model.memory().parts
    assert (parts["session"], parts["weights_mapped"]) == (0, 0)
