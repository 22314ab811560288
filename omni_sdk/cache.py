"""An exact cache of results: a hit needs equal bytes, dtypes and shapes of every input."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from typing import Any

import numpy as np

from omni_sdk._keys import content_key, same_bytes
from omni_sdk.stats import Counter

# What an entry costs beside its arrays: the key, the dict, the array headers.
ENTRY_BYTES = 1024

Results = dict[str, np.ndarray]


class ResultCache:
    """Results by the content of their inputs, the least recently used put out first.

    A hit is never wrong: the 128-bit key only finds the entry, then the inputs are compared with the stored ones byte
    for byte, so that not even inputs made to collide are confused. Two threads that miss the same key at once compute
    it once: the second waits for the first.

    Parameters
    ----------
    limit_bytes : int
        Of stored inputs and results, bookkeeping included. An entry larger than that is not kept.
    names : tuple of str
        The model's inputs.
    context : bytes
        What decides results beside the inputs: the model's fingerprint and settings.
    """

    def __init__(self, limit_bytes: int, names: tuple[str, ...], context: bytes) -> None:
        self.limit_bytes = limit_bytes
        self._hits = Counter()
        self.misses = 0
        self._names = names
        self._context = context
        self._used_bytes = 0
        self._own_bytes = 0
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        self._flights: dict[bytes, _Flight] = {}
        self._lock = threading.Lock()

    @property
    def hits(self) -> int:
        """Results that were found."""
        return self._hits.value()

    @property
    def used_bytes(self) -> int:
        """What is stored now."""
        return self._used_bytes

    @property
    def own_bytes(self) -> int:
        """What is stored now, without the results, whose memory is the buffer pool's."""
        return self._own_bytes

    def __len__(self) -> int:
        return len(self._entries)

    def key(self, feeds: Mapping[str, Any]) -> bytes | None:
        """The key of some feeds; None where they are strided, of strings, or do not fit the model's names."""
        return content_key(feeds, self._names, self._context)  # type: ignore[arg-type]

    def get(self, key: bytes, feeds: dict[str, Any]) -> Results | None:
        """The result stored for these very feeds, as read-only arrays, or None. Counts hits only."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            self._entries.move_to_end(key)
        if not same_bytes(entry.inputs, feeds, self._names):
            return None
        self._hits.add()
        return entry.results.copy()

    def get_or_compute(
        self,
        key: bytes,
        feeds: dict[str, Any],
        compute: Callable[[], Results],
        timeout: float | None = None,
        told: Future[None] | None = None,
    ) -> Results:
        """The stored result, that of a thread which is at it, or that of `compute`, which is then stored.

        Raises
        ------
        TimeoutError
            When another thread computes it for longer than `timeout` seconds.
        concurrent.futures.CancelledError
            When `told` is done before that thread is. The thread goes on.
        """
        mine = _Flight()
        try:  # from before it is known: an interrupt at any moment must not leave it for others to wait for
            with self._lock:
                flight = self._flights.setdefault(key, mine)
            if flight is not mine:
                return self._follow(flight, key, feeds, compute, timeout, told)
            found = self.get(key, feeds)  # by a leader only: anyone else's look may be overtaken by one coming home
            if found is not None:
                return found
            with self._lock:
                self.misses += 1
            mine.inputs = tuple(feeds[name].copy() for name in self._names)
            results = mine.results = compute()
            self._put(key, _Entry(mine.inputs, results))
        finally:
            with self._lock:
                if self._flights.get(key) is mine:
                    del self._flights[key]
            mine.done.set_result(None)
        return results.copy()

    def clear(self) -> None:
        """Forgets every entry; the counters stay."""
        with self._lock:
            self._entries.clear()
            self._used_bytes = self._own_bytes = 0

    def _follow(
        self,
        flight: _Flight,
        key: bytes,
        feeds: dict[str, Any],
        compute: Callable[[], Results],
        timeout: float | None,
        told: Future[None] | None,
    ) -> Results:
        ended, _ = wait([flight.done] if told is None else [flight.done, told], timeout, FIRST_COMPLETED)
        if not ended:
            raise TimeoutError(f"Expected a result within {timeout} s, got none from the thread at it - at infer")
        if flight.done not in ended:
            raise CancelledError
        if flight.results is not None and same_bytes(flight.inputs, feeds, self._names):
            self._hits.add()
            return flight.results.copy()
        if flight.results is not None:  # same key, other bytes: nothing that may be shared
            return compute()
        return self.get_or_compute(
            key, feeds, compute, timeout, told
        )  # the leader failed, which is its own matter, or hit

    def _put(self, key: bytes, entry: _Entry) -> None:
        if entry.bytes > self.limit_bytes:
            return
        with self._lock:
            if key in self._entries:
                self._count(self._entries.pop(key), -1)
            self._entries[key] = entry
            self._count(entry, +1)
            while self._used_bytes > self.limit_bytes:
                self._count(self._entries.popitem(last=False)[1], -1)

    def _count(self, entry: _Entry, times: int) -> None:
        self._used_bytes += times * entry.bytes
        self._own_bytes += times * entry.own_bytes


class _Entry:
    __slots__ = ("bytes", "inputs", "own_bytes", "results")

    def __init__(self, inputs: tuple[np.ndarray, ...], results: Results) -> None:
        self.inputs = inputs
        self.results = results
        self.own_bytes = ENTRY_BYTES + sum(array.nbytes for array in inputs)
        self.bytes = self.own_bytes + sum(array.nbytes for array in results.values())


class _Flight:
    """A computation under way, for those who want the same."""

    __slots__ = ("done", "inputs", "results")

    def __init__(self) -> None:
        self.inputs: tuple[np.ndarray, ...] = ()
        self.results: Results | None = None
        self.done: Future[None] = Future()
