"""The order of things: one process at a time, contenders in turns, so that a drifting machine favours none.

Round by round every contender gets a fresh process. The order turns around from round to round (A B, B A, A B ...),
which cancels a steady drift; one process at a time keeps idle pools and resident weights of the others out of the
figures. A round is one pair for every comparison.
"""

from __future__ import annotations

import logging
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from omni_sdk.errors import InputError
from omni_sdk.tools import metrics
from omni_sdk.tools.archives import read_npz
from omni_sdk.tools.evaluate.values import read_written, write_arrays
from omni_sdk.tools.measure import process
from omni_sdk.tools.measure.contenders import Contender
from omni_sdk.tools.measure.inputs import Feeds, Shapes, Values, call, make_up
from omni_sdk.tools.measure.results import Row, Run

__all__ = ["Effort", "Race", "inputs_file", "make_up"]

log = logging.getLogger(__name__)

Inputs = str | Path | Mapping[str, Any] | Sequence[str | Path] | None
"""What to feed, as `inputs_file` takes it."""

Progress = Callable[[str, int, str], None]
"""Called with a contender's name, the number of the round, and what it is at."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured in each process.

    Attributes
    ----------
    seconds : float
        Of steady inferences, at least.
    runs : (int, int or None)
        Least and most steady inferences, whatever time they take; None for as many as the seconds hold.
    timeout : float
        Seconds after which a process is given up.

    Raises
    ------
    InputError
        When there would be nothing to measure, or no time to.
    """

    seconds: float = 1.0
    runs: tuple[int, int | None] = (3, None)
    timeout: float = 900.0

    def __post_init__(self) -> None:
        least, most = self.runs
        if not (math.isfinite(self.seconds) and self.seconds >= 0.0):
            raise InputError(f"Expected seconds of zero or more, got {self.seconds:g} - at seconds")
        if least < 1 or (most is not None and most < least):
            raise InputError(f"Expected at least one run, and no more least than most, got {self.runs} - at runs")
        if not self.timeout > self.seconds:
            raise InputError(
                f"Expected more seconds than the {self.seconds:g} measured, got {self.timeout:g} - at timeout",
                hint="a process also imports, loads and warms up",
            )


class Race:
    """Contenders on one set of inputs; each call of `round` measures all that take part once.

    Parameters
    ----------
    contenders : sequence of Contender
        The first is the reference for outputs.
    inputs : Path
        Feeds as `.npz`.
    folder : Path
        For outputs, temporary.
    effort : Effort
    sample_rate : int, optional
        Hz of the output, for audio.
    output : str, optional
        Name of the waveform; default the first output.
    progress : callable, optional
    """

    def __init__(
        self,
        contenders: Sequence[Contender],
        inputs: Path,
        folder: Path,
        effort: Effort,
        *,
        sample_rate: int | None = None,
        output: str | None = None,
        progress: Progress = lambda name, number, phase: None,
    ) -> None:
        self.rows = [Row.before(contender) for contender in contenders]
        self._inputs, self._folder, self._effort = inputs, folder, effort
        self._sample_rate, self._output, self._progress = sample_rate, output, progress
        self._rounds, self._turned = 0, False

    def add(self, contender: Contender) -> Row:
        """One more from the next round on."""
        self.rows.append(Row.before(contender))
        return self.rows[-1]

    def round(self, rows: Sequence[Row] | None = None) -> None:
        """Measure each of some rows (default: all) once, those that failed left out; a failure is in its row."""
        chosen = [row for row in (self.rows if rows is None else rows) if not row.failure]
        for row in chosen[::-1] if self._turned else chosen:
            self._measure(row)
        self._rounds += 1
        self._turned ^= len(chosen) > 1  # one alone has no order to turn around

    def outputs(self, row: Row) -> Feeds | None:
        """What a row gave in its first round; None before it."""
        path = self._outputs_path(row)
        return read_written(path) if path.exists() else None

    def judge_outputs(self) -> None:
        """Fill in `snr_db` of every row against the first; None of each where the first has no outputs."""
        reference = self.outputs(self.rows[0])
        for row in self.rows:
            candidate = self.outputs(row)
            row.snr_db = None if not reference or candidate is None else _worst_snr(reference, candidate)

    def _measure(self, row: Row) -> None:
        path = self._outputs_path(row)
        job = {
            "contender": row.contender.to_dict(),
            "inputs": str(self._inputs),
            "seconds": self._effort.seconds,
            "runs": self._effort.runs,
            "outputs": None if path.exists() else str(path),
        }
        number = self._rounds
        outcome = process.run_job(
            job,
            timeout=self._effort.timeout,
            on_phase=lambda phase: self._progress(row.name, number, phase),
        )
        if outcome.failure:
            row.failure = outcome.failure
            log.info("%s: %s", row.name, outcome.failure)
            return
        row.runs[number] = Run.of(outcome, sample_rate=self._sample_rate, output=self._output)
        row.remarks = tuple(outcome.events["done"]["remarks"])
        row.versions = outcome.events["done"]["versions"]

    def _outputs_path(self, row: Row) -> Path:
        position = next(index for index, each in enumerate(self.rows) if each is row)
        return self._folder / f"outputs-{position}.npz"


@contextmanager
def inputs_file(
    model: str, *, inputs: Inputs, shapes: Shapes | None, seed: int, values: Values | None = None
) -> Iterator[tuple[Path, dict[str, list[int]]]]:
    """Feeds for every contender in one file, in a temporary folder; the path, and the shapes fed.

    Parameters
    ----------
    model : str
    inputs : path, str, sequence of them, mapping or None
        An `.npz` file, `module:function`, several that complete one another, arrays by name, or None for made-up
        values.
    shapes : mapping, optional
        Of made-up inputs with symbolic dimensions.
    seed : int
    values : mapping, optional
        Of made-up inputs that have to be something, such as a sample rate.

    Raises
    ------
    InputError, ModelError
        When inputs cannot be had.
    """
    if seed < 0:
        raise InputError(f"Expected a seed of zero or more, got {seed} - at seed")
    with tempfile.TemporaryDirectory(prefix="omni-sdk-bench-") as folder:
        path = Path(folder) / "inputs.npz"
        if inputs is None:
            process.make_inputs(model, shapes or {}, values or {}, seed, path)
        elif shapes or values:
            what = "shapes" if shapes else "values"
            raise InputError(f"Expected {what} or inputs, got both - at bench", hint=f"inputs have their own {what}")
        else:
            write_arrays(path, _given(inputs))
        yield path, {name: list(array.shape) for name, array in read_written(path).items()}


def _given(inputs: str | Path | Mapping[str, Any] | Sequence[str | Path]) -> Feeds:
    if isinstance(inputs, Mapping):
        return {name: np.asarray(array) for name, array in inputs.items()}
    joined: Feeds = {}
    for each in [inputs] if isinstance(inputs, str | Path) else inputs:
        found = _read(each)
        if twice := sorted(joined.keys() & found.keys()):
            raise InputError(f"Expected each input once, got {twice[0]!r} again - at {each}")
        joined |= found
    return joined


def _read(place: str | Path) -> Feeds:
    text = str(place)
    return call(text) if ":" in text and not Path(text).exists() else read_npz(text)


def _worst_snr(reference: Feeds, candidate: Feeds) -> float:
    """The lowest signal-to-noise ratio over the outputs; minus infinity where two of them cannot be compared.

    That is where one is missing, of another shape, holds other words, or other infinities or NaNs than the reference.
    Where both hold the same ones, what is finite is compared: a NaN is equal to itself.
    """
    worst = math.inf
    for name, wanted in reference.items():
        found = candidate.get(name)
        if found is None or found.shape != wanted.shape or (found.dtype.kind == "U") != (wanted.dtype.kind == "U"):
            return -math.inf
        if wanted.dtype.kind == "U":
            if not np.array_equal(wanted, found):
                return -math.inf
            continue
        finite = np.isfinite(wanted)
        if not np.array_equal(wanted[~finite], found[~finite], equal_nan=True) or not np.isfinite(found[finite]).all():
            return -math.inf
        if finite.any():
            worst = min(worst, metrics.snr_db(wanted[finite], found[finite]))
    return worst
