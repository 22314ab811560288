"""Many threads on one model: no error, no result written by another, every buffer back at the end."""

from __future__ import annotations

import random
import threading
import time

import graphs
import numpy as np
import psutil
import pytest

THREADS = 8


@pytest.mark.parametrize("seconds", [2, pytest.param(60, marks=pytest.mark.heavy)])
@pytest.mark.parametrize("cache_bytes", [0, 1 << 20])
def test_threads_calling_one_model(seconds, cache_bytes):
    model = graphs.load(graphs.SUM_AND_GAP, intra_op_num_threads=1, cache_bytes=cache_bytes)
    errors, calls = [], [0] * THREADS
    end = time.monotonic() + seconds

    def work(number):
        rng, held = random.Random(number), []
        try:
            while time.monotonic() < end:
                size, value = rng.choice((1, 17, 1000, 40_000)), rng.randrange(1000)
                a = np.full(size, value, np.float32)
                b = np.full(size, number, np.float32)
                results = model.infer(a=a, b=b)
                held.append((value, results["total"], results["gap"]))
                if len(held) > 6:
                    old, total, gap = held.pop(rng.randrange(6))
                    assert (total == old + number).all(), "a result was written over"
                    assert (gap == old - number).all(), "a result was written over"
                calls[number] += 1
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert min(calls) > 10
    if cache_bytes:
        model._results.clear()
    else:
        assert model.stats().runs == sum(calls)
    assert model.stats().bytes_in_use == 0
    model.close()


@pytest.mark.heavy
def test_a_million_calls_leave_memory_flat():
    model = graphs.load(graphs.DOUBLE, intra_op_num_threads=1)
    rng, held, here = random.Random(1), [], psutil.Process()
    feeds = [np.ones(size, np.float32) for size in (1, 100, 5000)]
    resident = []
    for call in range(1, 1_000_001):
        held.append(model.infer(x=feeds[rng.randrange(3)])["y"])
        if len(held) > 50 or rng.random() < 0.5:
            held.pop(rng.randrange(len(held)))
        if call % 100_000 == 0:
            resident.append(here.memory_info().rss)
    held.clear()
    assert max(resident) <= 1.02 * resident[0]
    assert model.stats().bytes_in_use == 0
    model.close()
