"""The result cache is exact, bounded in bytes, and computes a key once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from omni_sdk import cache as module
from omni_sdk.cache import ENTRY_BYTES, ResultCache


def feeds(value, size=4):
    return {"x": np.full(size, value, np.float32)}


def answer(value, size=4):
    return {"y": np.full(size, value * 2, np.float32)}


def ask(cache, value, size=4, compute=None):
    given = feeds(value, size)
    return cache.get_or_compute(cache.key(given), given, compute or (lambda: answer(value, size)))


def never():
    raise AssertionError("computed what was stored")


def test_a_hit_is_the_stored_result_and_not_its_dict():
    cache = ResultCache(1 << 20, ("x",), b"")
    first = ask(cache, 1)
    second = ask(cache, 1, compute=never)
    assert second["y"] is first["y"]
    second.clear()
    assert ask(cache, 1, compute=never)["y"][0] == 2
    assert (cache.hits, cache.misses, len(cache)) == (2, 1, 1)


def test_the_stored_inputs_are_copies():
    cache = ResultCache(1 << 20, ("x",), b"")
    given = feeds(1)
    cache.get_or_compute(cache.key(given), given, lambda: answer(1))
    given["x"][:] = 5
    assert ask(cache, 5)["y"][0] == 10


def test_inputs_made_to_collide_are_told_apart(monkeypatch):
    monkeypatch.setattr(module, "content_key", lambda *_: b"the same key for all")
    cache = ResultCache(1 << 20, ("x",), b"")
    assert [ask(cache, value)["y"][0] for value in (1, 2, 1)] == [2, 4, 2]
    assert cache.hits == 0
    assert (len(cache), cache.used_bytes) == (1, ENTRY_BYTES + 2 * feeds(1)["x"].nbytes)
    assert cache.own_bytes == ENTRY_BYTES + feeds(1)["x"].nbytes


def test_a_follower_with_other_bytes_computes_its_own_and_stores_nothing(monkeypatch):
    monkeypatch.setattr(module, "content_key", lambda *_: b"the same key for all")
    cache = ResultCache(1 << 20, ("x",), b"")
    started, go = threading.Event(), threading.Event()

    def slowly():
        started.set()
        go.wait(10)
        return answer(1)

    with ThreadPoolExecutor(2) as pool:
        leader = pool.submit(ask, cache, 1, compute=slowly)
        started.wait(10)
        follower = pool.submit(ask, cache, 2)
        while not cache._flights[b"the same key for all"].done._waiters:  # until it waits
            pass
        go.set()
        assert (leader.result()["y"][0], follower.result()["y"][0]) == (2, 4)
    ask(cache, 1, compute=never)


def test_an_entry_of_the_whole_budget_is_kept():
    size = ENTRY_BYTES + 2 * feeds(1)["x"].nbytes
    for limit, kept in ((size, 1), (size - 1, 0)):
        cache = ResultCache(limit, ("x",), b"")
        ask(cache, 1)
        assert len(cache) == kept
        assert cache.used_bytes == kept * size


def test_bytes_are_given_back_as_entries_go():
    cache = ResultCache(3 * ENTRY_BYTES, ("x",), b"")
    for value in range(5):
        ask(cache, value)
    arrays = feeds(1)["x"].nbytes
    assert (cache.used_bytes, cache.own_bytes) == (2 * (ENTRY_BYTES + 2 * arrays), 2 * (ENTRY_BYTES + arrays))


def test_a_result_larger_than_the_budget_puts_nothing_else_out():
    cache = ResultCache(3 * ENTRY_BYTES, ("x",), b"")
    ask(cache, 1)
    ask(cache, 2, size=10_000)
    assert len(cache) == 1
    ask(cache, 1, compute=never)


def test_clear_keeps_the_counters():
    cache = ResultCache(1 << 20, ("x",), b"")
    ask(cache, 1)
    cache.clear()
    assert (len(cache), cache.used_bytes, cache.misses) == (0, 0, 1)


def test_threads_that_want_the_same_compute_it_once():
    cache = ResultCache(1 << 20, ("x",), b"")
    started, go, calls, found = threading.Event(), threading.Event(), [], []

    def slow():
        calls.append(1)
        started.set()
        go.wait(10)
        return answer(3)

    threads = [threading.Thread(target=lambda: found.append(ask(cache, 3, compute=slow)["y"])) for _ in range(8)]
    for thread in threads:
        thread.start()
    started.wait(10)
    go.set()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert len({id(array) for array in found}) == 1
    assert (cache.hits, cache.misses) == (7, 1)


def test_a_look_overtaken_by_a_leader_coming_home_computes_nothing(monkeypatch):
    cache = ResultCache(1 << 20, ("x",), b"")
    real, looks = cache.get, []

    def overtaken(key, given):
        looks.append(1)
        if len(looks) == 1:
            with cache._lock:
                cache._entries[key] = module._Entry((given["x"].copy(),), answer(4))
        return real(key, given)

    monkeypatch.setattr(cache, "get", overtaken)
    assert ask(cache, 4, compute=never)["y"][0] == 8


def test_a_leader_that_fails_leaves_its_followers_to_themselves():
    cache = ResultCache(1 << 20, ("x",), b"")
    started, go = threading.Event(), threading.Event()
    errors, found = [], []

    def fails():
        started.set()
        go.wait(10)
        raise RuntimeError("mine")

    def lead():
        try:
            ask(cache, 1, compute=fails)
        except RuntimeError as error:
            errors.append(error)

    leader = threading.Thread(target=lead)
    leader.start()
    started.wait(10)
    follower = threading.Thread(target=lambda: found.append(ask(cache, 1)))
    follower.start()
    go.set()
    leader.join()
    follower.join()
    assert len(errors) == 1
    assert found[0]["y"][0] == 2


def test_waiting_for_another_thread_ends_in_time():
    cache = ResultCache(1 << 20, ("x",), b"")
    started, go = threading.Event(), threading.Event()

    def slow():
        started.set()
        go.wait(10)
        return answer(1)

    leader = threading.Thread(target=lambda: ask(cache, 1, compute=slow))
    leader.start()
    started.wait(10)
    given = feeds(1)
    with pytest.raises(TimeoutError, match=r"0\.01 s"):
        cache.get_or_compute(cache.key(given), given, never, timeout=0.01)
    go.set()
    leader.join()


class Caches(RuleBasedStateMachine):
    """The cache against an ordered dict with a budget."""

    LIMIT = 8 * ENTRY_BYTES

    def __init__(self):
        super().__init__()
        self.cache = ResultCache(self.LIMIT, ("x",), b"")
        self.model = OrderedDict()

    @rule(value=st.integers(0, 9), size=st.sampled_from([0, 4, 300, 5000]))
    def ask_for(self, value, size):
        name = (value, size)
        stored = name in self.model or (size == 0 and any(key[1] == 0 for key in self.model))
        name = next((key for key in self.model if key[1] == 0), name) if size == 0 else name
        found = ask(self.cache, value, size, compute=never if stored else None)
        assert found["y"].shape == (size,)
        assert (found["y"] == value * 2).all()
        cost = ENTRY_BYTES + 8 * size
        if stored:
            self.model.move_to_end(name)
        elif cost <= self.LIMIT:
            self.model[name] = cost
            while sum(self.model.values()) > self.LIMIT:
                self.model.popitem(last=False)

    @rule()
    def clear(self):
        self.cache.clear()
        self.model.clear()

    @invariant()
    def bytes_add_up(self):
        assert self.cache.used_bytes == sum(self.model.values()) <= self.LIMIT
        assert len(self.cache) == len(self.model)


TestCaches = Caches.TestCase
TestCaches.settings = hypothesis_settings(max_examples=50, stateful_step_count=40)


def test_a_follower_that_is_told_to_stop_does_not_wait_for_the_leader():
    cache, given = ResultCache(1 << 20, ("x",), b""), feeds(1)
    key, leading, landing, told = cache.key(given), threading.Event(), threading.Event(), Future()

    def slow():
        leading.set()
        landing.wait(20)
        return answer(1)

    with ThreadPoolExecutor(2) as threads:
        leader = threads.submit(cache.get_or_compute, key, given, slow)
        leading.wait(20)
        follower = threads.submit(cache.get_or_compute, key, given, never, None, told)
        told.set_result(None)
        with pytest.raises(CancelledError):
            follower.result(20)
        assert not leader.done()
        landing.set()
        assert leader.result(20)["y"][0] == 2
    assert ask(cache, 1, compute=never)["y"][0] == 2
