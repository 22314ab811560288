"""Seconds of each layer where it stands in its model, read from ONNX Runtime's profiler.

A layer alone in a loop keeps its weights in the cache; in a step of a few frames it reads them from memory. So layers
are timed in the whole model, all of one tile at once.
"""

from __future__ import annotations

import json
import logging
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omni_sdk.errors import ModelError
from omni_sdk.tools.prepare.feeds import Feeds, InputSpec, at_size, make_feeds, named_dimensions
from omni_sdk.tools.prepare.sessions import open_session, run
from omni_sdk.tools.prepare.timing import FEWEST_RUNS, MOST_RUNS
from omni_sdk.tools.saving import full

log = logging.getLogger(__name__)

KERNEL_TIME = "_kernel_time"
"""What the profiler puts behind a node's name."""

ENOUGH_SECONDS = 1.0
"""Of one size: runs go on until they took this long."""


@dataclass(frozen=True, slots=True)
class Step:
    """One declared size and feeds of it."""

    frames: int
    feeds: Feeds


def steps_of(graph: Path, specs: Sequence[InputSpec], frames: Sequence[int], seed: int) -> list[Step]:
    """Feeds for each declared size that the model runs at; the others are logged and left out.

    Parameters
    ----------
    graph : pathlib.Path
        The model.
    specs : sequence of InputSpec
        Its inputs.
    frames : sequence of int
        Sizes of every named dimension but the batch, which is 1.
    seed : int
        Of the made-up inputs.
    """
    session, names, found = open_session(graph), named_dimensions(specs), []
    for size in dict.fromkeys(frames) if names else [1]:
        feeds = make_feeds(specs, at_size(specs, size), seed)
        try:
            run(session, feeds)
        except ModelError as error:
            log.warning("The model does not run at step_frames %d, which counts for no choice: %s", size, error)
            continue
        found.append(Step(size, feeds))
    return found


def seconds_of_layers(graph: Path, step: Step, threads: int | None) -> Mapping[str, float]:
    """Seconds of every node's fastest run, by its name.

    Parameters
    ----------
    graph : pathlib.Path
        The model.
    step : Step
        What to run it on.
    threads : int or None
        Of the operators' pool.

    Raises
    ------
    BundleError
        Where the disk has no room for the profile.
    """
    with tempfile.TemporaryDirectory(dir=graph.parent) as scratch:
        session = open_session(graph, threads=threads, profile=Path(scratch) / "run")
        start, runs = time.perf_counter(), 0
        while runs < FEWEST_RUNS or (time.perf_counter() - start < ENOUGH_SECONDS and runs < MOST_RUNS):
            run(session, step.feeds)
            runs += 1
        events = _events(Path(session.end_profiling()))
    fastest: dict[str, float] = {}
    for event in events:
        name = str(event.get("name", ""))
        if event.get("cat") == "Node" and name.endswith(KERNEL_TIME):
            node, seconds = name.removesuffix(KERNEL_TIME), float(event["dur"]) * 1e-6
            fastest[node] = min(seconds, fastest.get(node, seconds))
    return fastest


def _events(profile: Path) -> list[dict[str, Any]]:
    """What the profiler wrote; it says nothing where the disk did not take all of it."""
    try:
        events: list[dict[str, Any]] = json.loads(profile.read_text())
    except ValueError as error:
        raise full(profile.parent) from error
    return events
