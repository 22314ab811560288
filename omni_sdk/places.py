"""What a host keeps of each model, and what it tells of them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from omni_sdk.model import Model
from omni_sdk.settings import Settings


@dataclass(slots=True)
class Place:
    """A model's place in a host: what it was added with, and whether it is loaded, used, or being loaded."""

    name: str
    source: str | os.PathLike[str] | bytes
    settings: Settings
    pinned: bool
    bytes: int
    model: Model | None = None
    loading: bool = False
    holders: list[int] = field(default_factory=list)
    used_at: int = 0
    loads: int = 0
    put_away: int = 0


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
        Bytes: what may be taken, what is taken by loaded models and the shared arena, and its highest so far.
    waiting : int
        Requests that wait for room.
    models : dict of str to HostedStats
    """

    budget: int
    in_use: int
    peak: int
    waiting: int
    models: dict[str, HostedStats]


def stats_of(place: Place) -> HostedStats:
    """What is told of a model."""
    loaded = place.model is not None
    return HostedStats(loaded, place.pinned, place.bytes, place.loads, place.put_away, len(place.holders))
