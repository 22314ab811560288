"""How many replicas a load needs, and what an hour of audio costs: arithmetic over measured figures."""

from __future__ import annotations

import math
from dataclasses import dataclass

from omni_sdk.errors import InputError

UTILIZATION = 0.7
"""Share of a replica's time that steady load may take; the rest absorbs arrivals that come together."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a number of concurrent streams needs.

    Attributes
    ----------
    streams : int
        In real time: each takes a second of audio a second.
    streams_per_replica : int
        What one replica sustains: a stream stays on the replica that began it.
    replicas : int
    cores : int
        CPUs of all replicas.
    cost_per_hour : float
        Of all of them, in the price's currency.
    cost_per_audio_hour : float
        The same for each hour of audio that comes out.
    """

    streams: int
    streams_per_replica: int
    replicas: int
    cores: int
    cost_per_hour: float
    cost_per_audio_hour: float


def plan(
    streams: int, rtf: float, *, price_per_core_hour: float, cores: int = 1, utilization: float = UTILIZATION
) -> Plan:
    """Replicas and cost for a number of streams in real time.

    One replica makes `1 / rtf` seconds of audio a second, so it sustains `floor(utilization / rtf)` streams.

    Parameters
    ----------
    streams : int
        Concurrent, at least 1.
    rtf : float
        Seconds of compute per second of audio, as measured on one replica under load.
    price_per_core_hour : float
        Of one core for an hour.
    cores : int, default 1
        Of a replica: as many as `rtf` was measured on.
    utilization : float, default 0.7
        Within 0 and 1.

    Raises
    ------
    InputError
        When a figure is out of its range, or one replica does not sustain a single stream.
    """
    counts = all(1 <= count < math.inf for count in (streams, cores))
    if not counts or not 0 < rtf < math.inf or not 0 < utilization <= 1 or not 0 <= price_per_core_hour < math.inf:
        raise InputError(
            f"Expected streams and cores of 1 or more, an RTF above 0, a utilization up to 1 and a price, got"
            f" {streams}, {cores}, {rtf}, {utilization}, {price_per_core_hour} - at plan"
        )
    each = math.floor(utilization / rtf + 1e-9)
    if each < 1:
        raise InputError(
            f"Expected an RTF of at most {utilization}, so that a replica sustains a stream, got {rtf} - at plan",
            hint="measure with more threads for each replica, or quantize the model: omni-sdk prepare",
        )
    replicas = math.ceil(streams / each)
    cost = replicas * cores * price_per_core_hour
    return Plan(streams, each, replicas, replicas * cores, cost, cost / streams)
