"""Host: several models in one process under one memory budget, on one thread pool and one arena.

A model takes its place in the budget before it is loaded, with what the load is estimated to take. Where there is no
room, idle arenas are given back, then the least recently used model that neither runs nor is pinned is put away; where
that is not enough, the request waits (`omni_sdk.turns`).
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from collections.abc import Iterator
from typing import NoReturn

from omni_sdk import budget, compiled, forking, memory
from omni_sdk.awaiting import AwaitedCalls
from omni_sdk.binding import Interrupt
from omni_sdk.compiled import CacheDir
from omni_sdk.errors import ClosedError, InputError, MemoryBudgetError, SettingsError
from omni_sdk.hosted import HostedModel
from omni_sdk.memory import human
from omni_sdk.model import Model
from omni_sdk.places import HostStats, Place, Places, stats_of
from omni_sdk.process_pools import share_threads
from omni_sdk.settings import Settings, settings_of
from omni_sdk.source import Source

DEFAULT_WAIT_SECONDS = 60.0


class Host:
    """Several models in one process.

    Parameters
    ----------
    memory_budget : int or str, default "60%"
        Bytes, `"2 GiB"`, or a share of what the device has, for all models together.
    settings : Settings or str, optional
        Settings or a preset's name, for models that are added without their own. Their thread counts size the shared
        pool; the first host of a process decides.
    cache_dir : path or None, optional
        As for `omni_sdk.load`.
    wait : float or None, default 60
        Seconds that a request, a load or a run, waits for room: 0 fails at once, None waits as long as it takes.
    shared_threads : bool, default True
        Run all models on ORT's process-wide thread pool and arena. Once a process has them, ORT refuses sessions with
        threads of their own: this package's use the pool from then on, and code that makes `InferenceSession`s itself
        must set `use_per_session_threads = False`.

    Raises
    ------
    SettingsError
        When the budget, the settings or the seconds are none.
    """

    def __init__(
        self,
        memory_budget: int | str = "60%",
        *,
        settings: Settings | str | None = None,
        cache_dir: CacheDir = ...,
        wait: float | None = DEFAULT_WAIT_SECONDS,
        shared_threads: bool = True,
    ) -> None:
        self.memory_budget = memory.parse(memory_budget, where="Host(memory_budget)")
        self._settings = settings_of(settings).replace(shared_threads=shared_threads)
        self._cache_dir = cache_dir
        self._places = Places(self.memory_budget, not shared_threads, _seconds(wait))
        self._turns = self._places.turns
        self._closed: str | None = None
        self.calls = AwaitedCalls(self._settings.async_workers)
        if shared_threads:
            share_threads(self._settings)
        forking.watch(self)

    def add(
        self,
        name: str,
        source: str | os.PathLike[str] | bytes,
        *,
        pinned: bool = False,
        settings: Settings | str | None = None,
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
        settings : Settings or str, optional
            Settings or a preset's name; default: the host's.

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
        settings = settings_of(self._settings if settings is None else settings)
        settings = settings.replace(shared_threads=self._settings.shared_threads)
        mapped = compiled.serves(opened, settings, self._cache_dir)
        parts = budget.load_parts(
            opened.size, mapped=mapped, prepacking=settings.prepacking, cache_bytes=settings.cache_bytes
        )
        with self._turns.lock:
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
                with self._turns.lock:
                    del self._places[name]
                raise

    def __getitem__(self, name: str) -> Model:
        """The model of this name: it may be put away between calls, and is loaded again by the next one."""
        with self._turns.lock:
            place = self._place(name)
        return HostedModel(self, place.name)

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._places))

    def __len__(self) -> int:
        return len(self._places)

    @contextlib.contextmanager
    def using(self, name: str, interrupt: Interrupt | None = None) -> Iterator[Model]:
        """The model itself, loaded, and not put away as long as the context lasts.

        Firing the interrupt ends this thread's waits for room, in the context as well, with a `CancelledError`.

        Raises
        ------
        MemoryBudgetError
            When there was no room for it in time, or never will be.
        ClosedError
            When the host is closed.
        """
        model = self.hold(name, interrupt)
        try:
            yield model
        finally:
            self.let_go(name, threading.get_ident())

    def hold(self, name: str, interrupt: Interrupt | None = None) -> Model:
        """As entering `using`; `let_go` must follow."""
        try:
            with self._turns.lock:
                place = self._place(name)
                ticket = self._turns.join(interrupt)
                try:
                    found = self._take_turn(place, ticket)
                finally:
                    self._turns.leave(ticket)
            return found if found is not None else self._load(place)
        except BaseException:
            with self._turns.lock:
                self._turns.forget(threading.get_ident())
            raise

    def let_go(self, name: str, holder: int) -> None:
        """The end of what `hold` began on the thread `holder`."""
        with self._turns.lock:
            self._places[name].holders.remove(holder)
            self._turns.forget(holder)

    def stats(self) -> HostStats:
        """What the host holds now."""
        with self._turns.lock:
            models = {place.name: stats_of(place) for place in self._places.values()}
            runs = self._places.runs
            return HostStats(self.memory_budget, runs.used, runs.peak, len(self._turns.waiting), models)

    def close(self) -> None:
        """Close every model; runs under way finish. Closing twice is fine."""
        self.calls.close()
        with self._turns.lock:
            self._closed = self._closed or "closed"
            self._places.close()
            self._turns.tell()

    def disown(self) -> None:
        """In a forked child: closed, and nobody waits for it. See `omni_sdk.forking`."""
        self._closed = "the parent process's: make one in the forked child"
        self.calls = AwaitedCalls(self._settings.async_workers)  # the threads of the old one stay with the parent
        self._turns.after_fork()

    def __enter__(self) -> Host:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def __repr__(self) -> str:
        loaded = sum(place.model is not None for place in self._places.values())
        used = human(self._places.runs.used)
        return f"<Host: {loaded} of {len(self)} models loaded, {used} of {human(self.memory_budget)}>"

    def _take_turn(self, place: Place, ticket: object) -> Model | None:
        """Wait for the turn and for room; the model, or None where the caller is to load it now."""
        began = time.monotonic()
        while True:
            self._check_open()
            self._turns.check_interrupt()
            first = self._turns.is_first(ticket)
            if first and place.model is not None:
                self._places.use(place, threading.get_ident())
                return place.model
            if first and not place.loading and self._places.make_room(place.bytes):
                place.loading = True
                self._places.runs.loading(+1)
                self._places.runs.note()
                return None
            self._turns.wait_for_change(began, lambda why: self._refuse(place, why), first=first)

    def _load(self, place: Place) -> Model:
        model = None
        try:
            model = Model(place.source, place.settings, cache_dir=self._cache_dir)
        finally:
            with self._turns.lock:
                place.loading = False
                self._places.runs.loading(-1)
                if model is not None and self._closed is None:
                    self._places.join(place, model)
                    self._places.use(place, threading.get_ident())
                self._turns.tell()
        if self._closed is not None:
            model.close()
        self._check_open()
        return model

    def _place(self, name: str) -> Place:
        self._check_open()
        if name not in self._places:
            known = ", ".join(map(repr, self._places)) or "none"
            raise InputError(f"Expected the name of a model that was added ({known}), got {name!r} - at Host")
        return self._places[name]

    def _check_open(self) -> None:
        if self._closed is not None:
            raise ClosedError(f"Expected an open host, got one that is {self._closed} - at Host")

    def _refuse(self, place: Place, why: str) -> NoReturn:
        parts = {**self._places.held(), "arena": self._places.runs.arena}
        held = ", ".join(f"{name} {human(size)}" for name, size in parts.items() if size) or "nothing"
        raise MemoryBudgetError(
            f"Expected room for {human(place.bytes)} within {human(self.memory_budget)}, got none: {why}"
            f" (held: {held}) - at {place.name!r} of the host",
            hint="raise memory_budget, pin fewer models, or end streams that hold one",
            parts={**parts, "this load": place.bytes},
        )


def _seconds(wait: object) -> float | None:
    """Seconds to wait; None for as long as it takes."""
    if wait is None or wait == math.inf:
        return None
    if isinstance(wait, bool) or not isinstance(wait, (int, float)) or not wait >= 0:
        raise SettingsError(f"Expected seconds, 0 or more, or None, got {wait!r} - at Host(wait)")
    return min(float(wait), threading.TIMEOUT_MAX)
