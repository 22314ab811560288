"""What a host keeps of each model, how it makes room among them, and what it tells of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field

from omni_sdk.budget import RunBudget
from omni_sdk.model import Model
from omni_sdk.process_pools import give_back_arena
from omni_sdk.settings import Settings
from omni_sdk.turns import Turns


@dataclass(slots=True)
class Place:
    """A model's place in a host: what it was added with, and whether it is loaded, used, or being loaded."""

    name: str
    source: str | os.PathLike[str] | bytes
    settings: Settings
    pinned: bool
    bytes: int
    model: Model | None = None
    runs: RunBudget | None = None
    loading: bool = False
    holders: list[int] = field(default_factory=list)
    used_at: int = 0
    loads: int = 0
    put_away: int = 0


class Places(dict[str, Place]):
    """The models of a host, and the budget that they share. Whoever calls has the lock of `turns`.

    Parameters
    ----------
    budget : int
        Bytes for all of it.
    apart : bool
        Whether each model has an arena of its own; otherwise they share one.
    wait : float or None
        Seconds that requests wait for room; None for as long as it takes.

    Attributes
    ----------
    turns : Turns
        The requests that wait.
    runs : RunBudget
        What all runs together have taken.
    """

    def __init__(self, budget: int, apart: bool, wait: float | None) -> None:
        super().__init__()
        self.turns = Turns(wait, self)
        self.runs = RunBudget(budget, self.held, "host", relieve=self._relieve, apart=apart, turns=self.turns)
        self._budget = budget
        self._apart = apart
        self._clock = 0

    def held(self) -> dict[str, int]:
        """Bytes of each model that is loaded or being loaded with its buffers, its arena apart."""
        return {
            f"model {place.name}": place.bytes + _buffers(place)
            for place in self.values()
            if place.model or place.loading
        }

    def loading(self) -> bool:
        """Whether a model is being loaded."""
        return any(place.loading for place in self.values())

    def holders(self) -> set[int]:
        """The threads that hold a model."""
        return {holder for place in self.values() for holder in place.holders}

    def join(self, place: Place, model: Model) -> None:
        """The model is loaded: its runs count towards its own limit and the budget of all."""
        limit = place.settings.memory_limit_bytes
        place.runs = RunBudget(
            limit, model._held_bytes, place.name, relieve=self._relieve_own, within=self.runs, turns=self.turns
        )
        model.share_budget(place.runs, place.name)
        place.model = model
        place.loads += 1

    def use(self, place: Place, holder: int) -> None:
        """The thread `holder` holds the model from now on."""
        self._clock += 1
        place.used_at = self._clock
        place.holders.append(holder)

    def make_room(self, need: int, *, for_run: bool = False) -> bool:
        """Whether `need` bytes fit, once idle arenas are given back and idle models put away, as few as that takes.

        Arenas go first, for a run makes them grow again where a model had to be loaded. Nothing goes where all of it
        would not suffice. A run grows the shared arena itself, so giving it back beforehand leaves a run no more.
        """
        if self.runs.used + need > self._budget:
            for place in self._by_age():
                _trim(place)
        missing = self.runs.used + need - self._budget
        arenas = {} if for_run and not self._apart else self._idle_arenas()
        idle = [place for place in self._by_age() if not place.pinned and not place.holders]
        if missing > sum(arenas.values()) + sum(place.bytes for place in idle):
            return False
        for name in arenas:
            if missing > 0:
                missing -= self._give_back(self[name])
        for place in idle:
            if missing > 0:
                missing -= place.bytes + (self.runs.arena_of(place.name) if self._apart else 0)
                self._put_away(place)
        return missing <= 0

    def close(self) -> None:
        """Every model is closed, and its arena counts no more."""
        for name in self._idle_arenas():
            self._give_back(self[name])
        for place in self.values():
            if place.model is not None:
                place.model.close()
                place.model = None
            self.runs.given_back(place.name)

    def _relieve(self, need: int, growth: int, name: str) -> None:
        """A run needs more than is left: idle models make room for it, and where they cannot, an arena too large."""
        if not self.make_room(need, for_run=True):
            self._relieve_own(need, growth, name)

    def _relieve_own(self, need: int, growth: int, name: str) -> None:
        """A first run may have made the arena larger than the limit, which must not refuse small ones for good.

        One that a run would make grow is given back in vain: it would grow as far again.
        """
        if not growth and self.runs.is_idle(name):
            self._give_back(self[name])

    def _by_age(self) -> Iterator[Place]:
        """Loaded models, the least recently used one first."""
        return iter(sorted((place for place in self.values() if place.model), key=lambda place: place.used_at))

    def _idle_arenas(self) -> dict[str, int]:
        """Bytes of each arena in which nothing runs, by a loaded model that has it."""
        if not self._apart:
            shared = {} if self.runs.running else {place.name: self.runs.arena for place in self._by_age()}
            return dict(list(shared.items())[:1])
        return {place.name: self.runs.arena_of(place.name) for place in self._by_age() if not place.holders}

    def _give_back(self, place: Place) -> int:
        """Bytes that the arena of a model gave back."""
        freed = self.runs.arena_of(place.name)
        assert place.model is not None
        keeps = place.settings.enable_cpu_mem_arena or not self._apart
        if not freed or (keeps and not give_back_arena(place.model._runner.opened(), place.model.inputs)):
            return 0
        for other in [place] if self._apart else self.values():
            if other.runs is not None:
                other.runs.given_back(other.name)
        self.runs.given_back(place.name)
        return freed

    def _put_away(self, place: Place) -> None:
        assert place.model is not None
        place.model.close()
        place.model, place.runs = None, None
        place.put_away += 1
        if self._apart:
            self.runs.given_back(place.name)
        else:
            self.runs.shrink_next = True


@dataclass(frozen=True, slots=True)
class HostedStats:
    """One model of a host: whether it is loaded, its bytes in the budget, how often it was loaded and put away."""

    loaded: bool
    pinned: bool
    bytes: int
    loads: int
    put_away: int
    running: int


@dataclass(frozen=True, slots=True)
class HostStats:
    """What a host holds.

    Attributes
    ----------
    budget, in_use, peak : int
        Bytes: what may be taken, what is taken by loaded models and their arenas, and its highest so far.
    waiting : int
        Requests that wait for room.
    models : dict of str to HostedStats
    """

    budget: int
    in_use: int
    peak: int
    waiting: int
    models: dict[str, HostedStats]


def _trim(place: Place) -> None:
    """Lets go of the buffers that idle."""
    if place.model is not None:
        place.model._runner.pool.trim()


def _buffers(place: Place) -> int:
    """Bytes of a model's buffers, in use and idle."""
    pool = place.model._runner.pool.stats() if place.model is not None else {}
    return sum(pool.get(name, 0) for name in ("in_use_bytes", "idle_bytes"))


def stats_of(place: Place) -> HostedStats:
    """What is told of a model."""
    loaded = place.model is not None
    return HostedStats(loaded, place.pinned, place.bytes, place.loads, place.put_away, len(place.holders))
