"""Proof by running that a rewritten model still says what the original says, and who is to blame where it does not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from omni_sdk.errors import ModelError
from omni_sdk.tools.metrics import snr_db
from omni_sdk.tools.prepare.feeds import Feeds, InputSpec, make_feeds, trials
from omni_sdk.tools.prepare.sessions import open_session, run

TOLERANCE = 1e-4
"""Largest difference of an output, as a fraction of its largest magnitude, that FP32 rewrites may make."""

FEWEST_SHAPES = 2
LARGEST_SMALLEST = 64
"""Where a model does not run at size 1, sizes are doubled up to this one to find the smallest at which it does."""

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
) -> list[Trial]:
    """Run the original on several shapes, the smallest that it runs at among them.

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

    Returns
    -------
    list of Trial

    Raises
    ------
    ModelError
        Where the original runs at fewer than two of the shapes; with the last error.
    """
    session = open_session(graph)
    found, failure, beside = [], None, constants or {}
    sizes = list(trials(specs))
    smallest = sizes[0]
    while smallest and max(smallest.values()) < LARGEST_SMALLEST:
        try:
            run(session, {**make_feeds(specs, smallest, seed), **beside})
            break
        except ModelError as error:
            failure, smallest = error, {name: 2 * size for name, size in smallest.items()}
    for trial in [smallest, *sizes[1:]]:
        feeds = make_feeds(specs, trial, seed)
        try:
            found.append(Trial(trial, feeds, run(session, {**feeds, **beside})))
        except ModelError as error:
            failure = error
    found += [Trial({}, feeds, run(session, {**feeds, **beside})) for feeds in given]
    if not found or (len(found) < min(FEWEST_SHAPES, len(sizes)) and not given):
        raise ModelError(
            f"Expected a model that runs at sizes like {sizes[0]}, got {failure} - at {graph}",
            hint="give calibration inputs that fit the model",
        ) from failure
    return found


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


def relative_difference(expected: np.ndarray, got: np.ndarray | None) -> float:
    """Largest absolute difference over the largest magnitude expected; exact equality is asked of what is no float."""
    if got is None or got.shape != expected.shape or got.dtype != expected.dtype:
        return float("inf")
    if expected.dtype.kind != "f":
        return 0.0 if np.array_equal(expected, got) else float("inf")
    known = np.isfinite(expected)
    if not np.array_equal(known, np.isfinite(got)) or not np.array_equal(expected[~known], got[~known], equal_nan=True):
        return float("inf")
    if not known.any():
        return 0.0
    reference, candidate = expected[known].astype(np.float64), got[known].astype(np.float64)
    scale = float(np.abs(reference).max())
    difference = float(np.abs(reference - candidate).max())
    return difference / scale if scale > 0 else (0.0 if difference == 0 else float("inf"))


def first_bad(count: int, is_good: Callable[[int], bool]) -> int:
    """The smallest number of passes that breaks parity, where all `count` do and none does not, by bisection."""
    good, bad = 0, count
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if is_good(middle) else (good, middle)
    return bad
