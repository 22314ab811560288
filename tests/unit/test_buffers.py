"""Buffers are aligned, used again, and never while anything looks at them."""

from __future__ import annotations

import gc
import itertools
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from omni_sdk._buffers import BufferPool, Lease

LARGE = 2 << 20


@given(size=st.integers(0, 5 << 20), alignment=st.sampled_from([64, 128, 4096, LARGE]))
def test_a_block_is_aligned_and_hardly_larger_than_asked(size, alignment):
    pool = BufferPool(alignment)
    lease = pool.lease(size)
    assert lease.address % alignment == 0
    assert lease.nbytes == memoryview(lease).nbytes == size
    taken = pool.stats()["in_use_bytes"]
    assert size <= taken <= max(64, size + max(64, size // 4 if size < LARGE else 4096))
    if size >= LARGE:
        assert lease.address % LARGE == 0


@pytest.mark.parametrize("alignment", [0, 32, 96, -64, LARGE * 2])
def test_an_alignment_that_cannot_be(alignment):
    with pytest.raises(ValueError, match="power of two"):
        BufferPool(alignment)


def test_an_idle_limit_below_zero():
    with pytest.raises(ValueError, match="0 or more"):
        BufferPool(idle_limit=-1)


@pytest.mark.parametrize("size", [2**62, 2**64 - 1])
def test_more_than_there_is(size):
    pool = BufferPool()
    with pytest.raises(MemoryError, match="BufferPool"):
        pool.lease(size)
    assert pool.stats()["in_use_blocks"] == 0


@pytest.mark.parametrize("size", [100, 3 << 20])
def test_a_block_returns_with_the_last_view(size):
    pool = BufferPool()
    array = pool.array(np.uint8, (size,))
    view = array[3:7]
    address = array.ctypes.data
    del array
    gc.collect()
    assert pool.stats()["in_use_blocks"] == 1
    assert pool.array(np.uint8, (size,)).ctypes.data != address
    del view
    assert pool.stats()["in_use_blocks"] == 0
    reused = pool.stats()["reuses"]
    again = pool.array(np.uint8, (size,))
    assert pool.stats()["reuses"] == reused + 1
    del again


def test_views_outlive_their_pool():
    array = BufferPool().array(np.int32, (1000,))
    array[:] = np.arange(1000)
    gc.collect()
    assert array.sum() == 499_500


def test_a_frozen_lease_stays_read_only():
    lease = BufferPool().lease(16)
    lease.freeze()
    array = np.frombuffer(lease, np.uint8)
    assert not array.flags.writeable
    with pytest.raises(ValueError, match="WRITEABLE"):
        array.flags.writeable = True
    with pytest.raises(TypeError):
        memoryview(lease)[0] = 1


def test_a_lease_that_no_pool_made():
    assert Lease().address == 0
    with pytest.raises(BufferError, match="empty"):
        memoryview(Lease())


def test_objects_get_no_raw_memory():
    with pytest.raises(ValueError, match="plain bytes"):
        BufferPool().array(object, (3,))


def test_idle_memory_is_bounded_and_trimmed():
    pool = BufferPool(idle_limit=4096)
    leases = [pool.lease(1024) for _ in range(8)]
    leases.clear()
    assert pool.stats()["idle_bytes"] == 4096
    assert pool.trim() == 4096
    assert pool.stats()["idle_bytes"] == 0


def test_large_idle_blocks_that_do_not_fit_make_room_first():
    pool = BufferPool()
    for megabytes in (4, 6, 9, 5):
        lease = pool.lease(megabytes << 20)
        del lease
    assert pool.stats()["peak_bytes"] == 9 << 20


@pytest.mark.parametrize(
    ("dtype", "shape", "error", "match"),
    [
        (np.int8, (-1,), ValueError, "0 or more"),
        (np.float64, (2**40, 2**40), MemoryError, "address space"),
        (object, (1,), ValueError, "plain bytes"),
        (np.int8, (1,) * 65, ValueError, "at most 64 dimensions"),
    ],
)
def test_arrays_that_cannot_be_are_refused(dtype, shape, error, match):
    pool = BufferPool()
    with pytest.raises(error, match=match):
        pool.array(dtype, shape)
    assert pool.stats()["in_use_blocks"] == 0


def test_threads_share_a_pool():
    pool, errors = BufferPool(), []

    def work(seed):
        rng = np.random.default_rng(seed)
        held = []
        for _ in range(2000):
            array = pool.array(np.uint8, (int(rng.integers(1, 4000)),))
            array[:] = seed
            held.append(array)
            if len(held) > 8 and (held.pop(int(rng.integers(0, 8))) != seed).any():
                errors.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert pool.stats()["in_use_blocks"] == 0


def test_silence_at_shutdown():
    script = (
        "import numpy as np\nfrom omni_sdk._buffers import BufferPool\npool = BufferPool()\n"
        "held = [pool.array(np.float32, (n,)) for n in (1, 1000, 1 << 20)]\n"
        "cycle = [held, pool]\ncycle.append(cycle)\n"
    )
    done = subprocess.run([sys.executable, "-X", "dev", "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


class Pools(RuleBasedStateMachine):
    """A pool against the simplest model of one: who holds which bytes."""

    leases = Bundle("leases")

    def __init__(self):
        super().__init__()
        self.pool = BufferPool(idle_limit=1 << 20)
        self.held = {}
        self.count = 0

    @rule(target=leases, size=st.one_of(st.integers(0, 5000), st.integers(LARGE - 10, LARGE + 9000)))
    def take(self, size):
        self.count += 1
        array = self.pool.array(np.uint8, (size,))
        array[:] = self.count % 251
        self.held[self.count] = array
        return self.count

    @rule(number=consumes(leases))
    def drop(self, number):
        assert (self.held.pop(number) == number % 251).all()

    @rule()
    def trim(self):
        self.pool.trim()
        assert self.pool.stats()["idle_bytes"] == 0

    @invariant()
    def nothing_is_shared_or_lost(self):
        stats = self.pool.stats()
        assert stats["in_use_blocks"] == len(self.held)
        assert stats["in_use_bytes"] >= sum(array.nbytes for array in self.held.values())
        assert stats["idle_bytes"] <= 1 << 20
        assert stats["peak_bytes"] >= stats["in_use_bytes"] + stats["idle_bytes"]
        spans = sorted((array.ctypes.data, array.nbytes) for array in self.held.values())
        assert all(start + size <= after for (start, size), (after, _) in itertools.pairwise(spans))


TestPools = Pools.TestCase
TestPools.settings = hypothesis_settings(max_examples=40, stateful_step_count=40)
