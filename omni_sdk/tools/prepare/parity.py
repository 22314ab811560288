"""Proof by running that a rewritten model still says what the original says, and who is to blame where it does not."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort

from omni_sdk.errors import ModelError
from omni_sdk.tools.metrics import snr_db
from omni_sdk.tools.prepare.calibration import sample_runs
from omni_sdk.tools.prepare.differences import TOLERANCE, relative_difference
from omni_sdk.tools.prepare.feeds import SIZES, Feeds, InputSpec, apart, at_size, make_feeds, one_by_one, trials
from omni_sdk.tools.prepare.randomness import check_repeats
from omni_sdk.tools.prepare.sessions import open_session, run

FEWEST_SHAPES = 2
ONE_BY_ONE_AT = 2
"""Which of the trials is made with one dimension apart from the others at a time, where the model does not run with all
apart."""

LARGEST_SMALLEST = 64
"""Where a model does not run at size 1, sizes are doubled up to this one to find the smallest at which it does."""

AFFORDABLE_SECONDS = 4.0
"""A declared size is tried where the original is expected to take no longer there: rewritten models run at it often."""

Outputs = dict[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Trial:
    """Feeds and what the original model makes of them."""

    sizes: dict[str, int]
    feeds: Feeds
    expected: Outputs


@dataclass(frozen=True, slots=True)
class Difference:
    """How far a model is from the original on one trial."""

    sizes: dict[str, int]
    output: str
    relative: float  # largest difference by largest magnitude; infinite where shapes or finiteness differ
    snr_db: float  # infinite where equal, minus infinity where `relative` is infinite

    @property
    def agrees(self) -> bool:
        return self.relative <= TOLERANCE


def make_trials(
    graph: Path,
    specs: Sequence[InputSpec],
    given: Sequence[Feeds] = (),
    seed: int = 0,
    constants: Feeds | None = None,
    frames: Sequence[int] = (),
) -> list[Trial]:
    """Run the original on several shapes, the smallest that it runs at among them.

    Dimensions of different names, and those without, have different sizes wherever the model runs so.

    Parameters
    ----------
    graph : pathlib.Path
        The original model.
    specs : sequence of InputSpec
        Its inputs.
    given : sequence of Feeds
        The user's own inputs to add.
    seed : int
        Of the made-up inputs.
    constants : Feeds, optional
        What the original is fed beside `specs`, the same in every trial.
    frames : sequence of int
        Declared sizes of all dimensions but the batch, tried as well where that takes no more than seconds.

    Returns
    -------
    list of Trial

    Raises
    ------
    ModelError
        Where the original runs at fewer than two of the shapes, with the last error; or where it gives something else
        on the same inputs.
    """
    original = _Original(open_session(graph), specs, seed, constants or {})
    sizes = list(trials(specs))
    smallest = sizes[0]
    found = original.smallest(smallest)
    for number, size in enumerate(sizes[1:], start=1):
        unlike = apart(specs, size, number)
        trial = original.at(unlike)
        if trial is None and unlike != size:
            trial = original.at(size)
            if number == ONE_BY_ONE_AT:
                found += [each for sizes_ in one_by_one(specs, size) if (each := original.at(sizes_)) is not None]
        found += [trial] if trial is not None else []
    found += original.at_declared(frames)
    for index, feeds in enumerate(given):
        with sample_runs(f"held-out sample {index}"):
            found.append(Trial({}, feeds, original.outputs(feeds)))
    if not found or (len(found) < min(FEWEST_SHAPES, len(sizes)) and not given):
        raise ModelError(
            f"Expected a model that runs at sizes like {smallest}, got {original.failure} - at {graph}",
            hint="give calibration inputs that fit the model",
        ) from original.failure
    sample = max(found, key=lambda each: sum(array.size for array in each.expected.values()))
    check_repeats(graph, sample.expected, original.outputs(sample.feeds))
    return found


@dataclass(slots=True)
class _Original:
    """The original model at made-up sizes."""

    session: ort.InferenceSession
    specs: Sequence[InputSpec]
    seed: int
    constants: Feeds
    failure: ModelError | None = None  # the last
    pace: float = 0.0  # seconds of a run, for each unit of size

    def outputs(self, feeds: Feeds) -> Outputs:
        return run(self.session, {**feeds, **self.constants})

    def at(self, sizes: dict[str, int]) -> Trial | None:
        """What it gives at these sizes; None where it does not run at them."""
        feeds = make_feeds(self.specs, sizes, self.seed)
        start = time.perf_counter()
        try:
            trial = Trial(sizes, feeds, self.outputs(feeds))
        except ModelError as error:
            self.failure = error
            return None
        self.pace = (time.perf_counter() - start) / max(sizes.values(), default=1)
        return trial

    def smallest(self, sizes: dict[str, int]) -> list[Trial]:
        """At the smallest sizes, doubled until it runs."""
        while (trial := self.at(sizes)) is None and sizes and max(sizes.values()) < LARGEST_SMALLEST:
            sizes = {name: 2 * size for name, size in sizes.items()}
        return [] if trial is None else [trial]

    def at_declared(self, frames: Sequence[int]) -> list[Trial]:
        """At the declared sizes that were not tried and are not expected to take long."""
        chosen = [size for size in dict.fromkeys(frames) if size not in SIZES and at_size(self.specs, size)]
        found = [self.at(at_size(self.specs, size)) for size in sorted(chosen) if self.pace * size < AFFORDABLE_SECONDS]
        return [trial for trial in found if trial is not None]


def compare(graph: Path, trials: Sequence[Trial]) -> list[Difference]:
    """Differences of a model's outputs from the expected ones: for each trial its worst output."""
    session = open_session(graph)
    worst = []
    for trial in trials:
        outputs = run(session, trial.feeds)
        differences = [
            _difference(trial.sizes, name, expected, outputs.get(name)) for name, expected in trial.expected.items()
        ]
        worst.append(max(differences, key=lambda each: each.relative))
    return worst


def _difference(sizes: dict[str, int], name: str, expected: np.ndarray, got: np.ndarray | None) -> Difference:
    relative = relative_difference(expected, got)
    if relative in (0.0, float("inf")) or got is None:
        return Difference(sizes, name, relative, float("inf") if relative == 0 else float("-inf"))
    known = np.isfinite(expected)
    return Difference(sizes, name, relative, snr_db(expected[known], got[known]))


def first_bad(count: int, is_good: Callable[[int], bool]) -> int:
    """The smallest number of passes that breaks parity, where all `count` do and none does not, by bisection."""
    good, bad = 0, count
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if is_good(middle) else (good, middle)
    return bad
