"""Does a model give the same bytes again: in the same session, in a new one, in another process, on other threads?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import omni_sdk as omni
from omni_sdk.errors import ModelError
from omni_sdk.tools import metrics
from omni_sdk.tools.evaluate.drift.compare import same_bits
from omni_sdk.tools.evaluate.values import plain_arrays, read_written, write_arrays

Arrays = Mapping[str, npt.NDArray[Any]]

RUNS, LOADS, PROCESSES = "runs", "loads", "processes"
CHILD = f"import sys; from {__name__} import run_child; run_child(*sys.argv[1:])"


@dataclass(frozen=True, slots=True)
class Repetition:
    """What came of running again in one way.

    Attributes
    ----------
    way : str
        `"runs"`, `"loads"`, `"processes"`, or `"2 threads"` and so on.
    count : int
        How many times.
    bit_equal : bool
        Every output had the first run's bytes, every time.
    peak_error, snr_db : float
        How far apart the worst was, where it was not.
    """

    way: str
    count: int
    bit_equal: bool
    peak_error: float
    snr_db: float

    @property
    def by_threads(self) -> bool:
        """The number of threads was varied: sums may then be taken in another order."""
        return self.way not in (RUNS, LOADS, PROCESSES)


def check_determinism(
    source: str | Path,
    feeds: Arrays,
    *,
    settings: omni.Settings | None = None,
    repeats: int = 3,
    threads: Iterable[int] | None = None,
) -> tuple[Repetition, ...]:
    """Run a model again and again on the same inputs.

    Parameters
    ----------
    source : str or Path
        A model file or a bundle.
    feeds : mapping
        Arrays by input name.
    settings : Settings, optional
        As it is to run.
    repeats : int
        Further runs, loads, and processes; each process loads the model anew.
    threads : iterable of int, optional
        Thread counts to try; 1, 2 and as many as the machine has by default.

    Returns
    -------
    tuple of Repetition
        Each way compared with the very first run.

    Raises
    ------
    ModelError
        A child process failed.
    """
    settings = settings or omni.Settings()
    counts = sorted({1, 2, os.cpu_count() or 1}) if threads is None else list(threads)
    with omni.load(source, settings, cache_dir=None) as model:
        first = plain_arrays(model.infer(feeds))
        found = [_repetition(RUNS, first, [plain_arrays(model.infer(feeds, cache=False)) for _ in range(repeats)])]
    found.append(_repetition(LOADS, first, [_load_and_run(source, feeds, settings) for _ in range(repeats)]))
    found.append(_repetition(PROCESSES, first, [_run_apart(source, feeds, settings) for _ in range(repeats)]))
    for count in counts:
        other = _load_and_run(source, feeds, settings.replace(intra_op_num_threads=count))
        found.append(_repetition(f"{count} thread{'s' * (count != 1)}", first, [other]))
    return tuple(found)


def run_child(source: str, settings: str, inputs: str, outputs: str) -> None:
    """Run a model once, from files to a file: what a child process does.

    Parameters
    ----------
    source : str
        A model file or a bundle.
    settings : str
        `Settings.to_dict()` as JSON.
    inputs, outputs : str
        Files to read and to write, as `write_arrays` makes them.
    """
    write_arrays(outputs, _load_and_run(source, read_written(inputs), omni.Settings.from_dict(json.loads(settings))))


def _load_and_run(source: str | Path, feeds: Arrays, settings: omni.Settings) -> dict[str, npt.NDArray[Any]]:
    with omni.load(source, settings, cache_dir=None) as model:
        return plain_arrays(model.infer(feeds))


def _run_apart(source: str | Path, feeds: Arrays, settings: omni.Settings) -> dict[str, npt.NDArray[Any]]:
    with tempfile.TemporaryDirectory() as folder:
        inputs, outputs = Path(folder, "inputs.npz"), Path(folder, "outputs.npz")
        write_arrays(inputs, feeds)
        command = [sys.executable, "-c", CHILD, str(source), json.dumps(settings.to_dict()), str(inputs), str(outputs)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            last = done.stderr.strip().rpartition("\n")[2] or f"exit status {done.returncode}"
            raise ModelError(f"Expected the model to run in a process of its own, got: {last} - at {source}")
        return read_written(outputs)


def _comparable(one: npt.NDArray[Any], two: npt.NDArray[Any]) -> bool:
    kinds_fit = one.dtype.kind == two.dtype.kind == "f" and one.shape == two.shape
    return kinds_fit and bool(np.isfinite(one).all() and np.isfinite(two).all())


def _repetition(way: str, first: Arrays, others: Iterable[Arrays]) -> Repetition:
    count, equal, peak, snr = 0, True, 0.0, np.inf
    for other in others:
        count += 1
        for name in {**first, **other}:
            one, two = first.get(name), other.get(name)  # a sequence may come out longer than before
            if one is not None and two is not None and same_bits(one, two):
                continue
            equal = False
            if one is not None and two is not None and _comparable(one, two):
                peak, snr = max(peak, metrics.peak_error(one, two)), min(snr, metrics.snr_db(one, two))
            else:
                peak, snr = np.inf, -np.inf
    return Repetition(way, count, equal, peak, snr)
