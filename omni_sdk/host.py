"""Host: several models in one process under one memory budget, on one thread pool and one arena.

A model takes its place in the budget before it is loaded, with what the load is estimated to take. Where there is no
room, the least recently used model that neither runs nor is pinned is put away. Requests are served in the order they
came in: one that waits for room goes before those behind it, so a busy pair of models cannot starve a third.

Why nothing deadlocks: only a request that waits for room blocks others, and what it waits for are runs under way.
Those end by themselves unless their thread waits here as well, holding one model and asking for another. A thread that
holds a model is therefore let past the queue, and where every holder waits, the last to come is refused.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import CancelledError

from omni_sdk import budget, compiled, forking, memory
from omni_sdk import session as sessions
from omni_sdk.awaiting import AwaitedCalls
from omni_sdk.binding import Interrupt
from omni_sdk.budget import RunBudget
from omni_sdk.compiled import CacheDir
from omni_sdk.errors import ClosedError, InputError, MemoryBudgetError
from omni_sdk.hosted import HostedModel
from omni_sdk.memory import human
from omni_sdk.model import Model
from omni_sdk.places import HostStats, Place, stats_of
from omni_sdk.settings import Settings
from omni_sdk.source import Source

DEFAULT_WAIT_SECONDS = 60.0


class Host:
    """Several models in one process.

    Parameters
    ----------
    memory_budget : int or str, default "60%"
        Bytes, `"2 GiB"`, or a share of what the device has, for all models together.
    settings : Settings, optional
        For models that are added without their own. Their thread counts size the shared pool; the first host of a
        process decides.
    cache_dir : path or None, optional
        As for `omni_sdk.load`.
    wait : float or None, default 60
        Seconds that a request waits for room: 0 fails at once, None waits as long as it takes.
    shared_threads : bool, default True
        Run all models on ORT's process-wide thread pool and arena. Once a process has them, ORT refuses sessions with
        threads of their own: this package's use the pool from then on, and code that makes `InferenceSession`s itself
        must set `use_per_session_threads = False`.

    Raises
    ------
    SettingsError
        When the budget is none.
    """

    def __init__(
        self,
        memory_budget: int | str = "60%",
        *,
        settings: Settings | None = None,
        cache_dir: CacheDir = ...,
        wait: float | None = DEFAULT_WAIT_SECONDS,
        shared_threads: bool = True,
    ) -> None:
        self.memory_budget = memory.parse(memory_budget, where="Host(memory_budget)")
        self._settings = (settings or Settings()).replace(shared_threads=shared_threads)
        self._cache_dir = cache_dir
        self._wait_seconds = wait
        self._places: dict[str, Place] = {}
        self._changed = threading.Condition()
        self._queue: deque[object] = deque()
        self._waiting: set[int] = set()
        self._clock = 0
        self._peak = 0
        self._closed: str | None = None
        self.calls = AwaitedCalls(self._settings.async_workers)
        self._runs = RunBudget(self.memory_budget, self._held, "host", relieve=self._relieve)
        if shared_threads:
            sessions.share_threads(self._settings)
        forking.watch(self)

    def add(
        self,
        name: str,
        source: str | os.PathLike[str] | bytes,
        *,
        pinned: bool = False,
        settings: Settings | None = None,
    ) -> None:
        """Make a model known; it is loaded when it is first used, a pinned one now.

        Parameters
        ----------
        name : str
            What `host[name]` will call it.
        source : path or bytes
            As for `omni_sdk.load`.
        pinned : bool, default False
            Never put away.
        settings : Settings, optional
            Default: the host's.

        Raises
        ------
        InputError
            When the name is taken.
        MemoryBudgetError
            When it cannot fit even with every other model that is not pinned put away.
        OmniError
            As `omni_sdk.load` does.
        """
        opened = Source(source)
        settings = (settings or self._settings).replace(shared_threads=self._settings.shared_threads)
        mapped = compiled.serves(opened, settings, self._cache_dir)
        parts = budget.load_parts(
            opened.size, mapped=mapped, prepacking=settings.prepacking, cache_bytes=settings.cache_bytes
        )
        with self._changed:
            self._check_open()
            if name in self._places:
                raise InputError(f"Expected a name not in use, got {name!r} - at Host.add")
            fixed = {f"pinned {place.name}": place.bytes for place in self._places.values() if place.pinned}
            budget.require({**parts, **fixed}, self.memory_budget, f"Host.add({name!r})")
            self._places[name] = Place(name, source, settings, pinned, sum(parts.values()))
        if pinned:
            try:
                with self.using(name):
                    pass
            except BaseException:
                with self._changed:
                    del self._places[name]
                raise

    def __getitem__(self, name: str) -> Model:
        """The model of this name: it may be put away between calls, and is loaded again by the next one."""
        with self._changed:
            place = self._place(name)
        return HostedModel(self, place.name)

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._places))

    def __len__(self) -> int:
        return len(self._places)

    @contextlib.contextmanager
    def using(self, name: str) -> Iterator[Model]:
        """The model itself, loaded, and not put away as long as the context lasts.

        Raises
        ------
        MemoryBudgetError
            When there was no room for it in time, or never will be.
        ClosedError
            When the host is closed.
        """
        model = self.hold(name)
        try:
            yield model
        finally:
            self.let_go(name, threading.get_ident())

    def hold(self, name: str, interrupt: Interrupt | None = None) -> Model:
        """As entering `using`; `let_go` must follow. Firing the interrupt ends the wait with a `CancelledError`."""
        me = threading.get_ident()
        if interrupt is not None:
            interrupt.told.add_done_callback(lambda told: self._wake())
        with self._changed:
            place = self._place(name)
            ticket = object()
            self._queue.append(ticket)
            try:
                found = self._take_turn(place, ticket, me, interrupt)
            finally:
                self._queue.remove(ticket)
                self._changed.notify_all()
        return found if found is not None else self._load(place, me)

    def let_go(self, name: str, holder: int) -> None:
        """The end of what `hold` began on the thread `holder`."""
        with self._changed:
            self._places[name].holders.remove(holder)
            self._changed.notify_all()

    def stats(self) -> HostStats:
        """What the host holds now."""
        with self._changed:
            models = {place.name: stats_of(place) for place in self._places.values()}
            return HostStats(self.memory_budget, self._in_use(), self._peak, len(self._waiting), models)

    def close(self) -> None:
        """Close every model; runs under way finish. Closing twice is fine."""
        self.calls.close()
        with self._changed:
            self._closed = self._closed or "closed"
            for place in self._places.values():
                if place.model is not None:
                    place.model.close()
                    place.model = None
            self._changed.notify_all()

    def disown(self) -> None:
        """In a forked child: closed, and nobody waits for it. See `omni_sdk.forking`."""
        self._closed = "the parent process's: make one in the forked child"
        self._changed = threading.Condition()  # another thread may have held it at the fork
        self._queue.clear()
        self._waiting.clear()

    def __enter__(self) -> Host:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def __repr__(self) -> str:
        loaded = sum(place.model is not None for place in self._places.values())
        return f"<Host: {loaded} of {len(self)} models loaded, {human(self._in_use())} of {human(self.memory_budget)}>"

    def _take_turn(self, place: Place, ticket: object, me: int, interrupt: Interrupt | None) -> Model | None:
        """Wait for the turn and for room; the model, or None where the caller is to load it now."""
        deadline = None if self._wait_seconds is None else time.monotonic() + self._wait_seconds
        while True:
            self._check_open()
            if interrupt is not None and interrupt.fired:
                raise CancelledError
            first = self._queue[0] is ticket or any(me in other.holders for other in self._places.values())
            if first and place.model is not None:
                self._use(place, me)
                return place.model
            if first and not place.loading and self._make_room(place.bytes):
                place.loading = True
                self._peak = max(self._peak, self._in_use())
                return None
            self._wait(place, me, deadline, first)

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _wait(self, place: Place, me: int, deadline: float | None, first: bool) -> None:
        self._waiting.add(me)
        try:
            others = self._places.values()
            holders = {holder for other in others for holder in other.holders}
            if first and holders <= self._waiting and not any(other.loading for other in others):
                self._refuse(place, "every model in use is held by a request that waits for room itself")
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                self._refuse(place, f"no room came free within {self._wait_seconds:g} s")
            self._changed.wait(left)
        finally:
            self._waiting.discard(me)

    def _load(self, place: Place, me: int) -> Model:
        model = None
        try:
            model = Model(place.source, place.settings, cache_dir=self._cache_dir)
            model.join(self._runs, place.name)
        finally:
            with self._changed:
                place.loading = False
                if model is not None and self._closed is None:
                    place.model = model
                    place.loads += 1
                    self._use(place, me)
                self._changed.notify_all()
        if self._closed is not None:
            model.close()
        self._check_open()
        return model

    def _use(self, place: Place, me: int) -> None:
        self._clock += 1
        place.used_at = self._clock
        place.holders.append(me)

    def _make_room(self, need: int) -> bool:
        """Put models away until `need` bytes fit; none is where that would not suffice."""
        idle = [place for place in self._places.values() if place.model and not place.pinned and not place.holders]
        missing = self._in_use() + need - self.memory_budget
        if missing > sum(place.bytes for place in idle):
            return False
        for place in sorted(idle, key=lambda place: place.used_at):
            if missing <= 0:
                break
            assert place.model is not None
            place.model.close()
            place.model = None
            place.put_away += 1
            missing -= place.bytes
            self._runs.shrink_next = True
        return True

    def _relieve(self, need: int) -> None:
        """A run needs more than is left: idle models make room for it."""
        with self._changed:
            self._make_room(need)

    def _held(self) -> dict[str, int]:
        with self._changed:
            return {place.name: place.bytes for place in self._places.values() if place.model or place.loading}

    def _in_use(self) -> int:
        held = sum(place.bytes for place in self._places.values() if place.model or place.loading)
        return held + self._runs.arena

    def _place(self, name: str) -> Place:
        self._check_open()
        if name not in self._places:
            known = ", ".join(map(repr, self._places)) or "none"
            raise InputError(f"Expected the name of a model that was added ({known}), got {name!r} - at Host")
        return self._places[name]

    def _check_open(self) -> None:
        if self._closed is not None:
            raise ClosedError(f"Expected an open host, got one that is {self._closed} - at Host")

    def _refuse(self, place: Place, why: str) -> None:
        held = ", ".join(f"{name} {human(size)}" for name, size in self._held().items()) or "nothing"
        raise MemoryBudgetError(
            f"Expected room for {human(place.bytes)} within {human(self.memory_budget)}, got none: {why}"
            f" (loaded: {held}; arena {human(self._runs.arena)}) - at {place.name!r} of the host",
            hint="raise memory_budget, pin fewer models, or end streams that hold one",
        )
