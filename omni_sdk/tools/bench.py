"""The comparison benchmark: every contender in its own process, in turns, with intervals."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

from omni_sdk.bundle import Bundle, is_bundle
from omni_sdk.errors import InputError
from omni_sdk.tools.measure import ablation as ablating
from omni_sdk.tools.measure.contenders import DEFAULT, Contender, parse, parse_all
from omni_sdk.tools.measure.inputs import Shapes, Values
from omni_sdk.tools.measure.results import Benchmark, machine
from omni_sdk.tools.measure.schedule import Effort, Inputs, Progress, Race, inputs_file

__all__ = ["ROUNDS", "Benchmark", "Contender", "Effort", "bench"]

ROUNDS = 7
"""Pairs for each comparison: chance puts seven on one side one time in sixty-four."""


def bench(
    model: str | os.PathLike[str],
    against: Sequence[str | Contender] = DEFAULT,
    *,
    inputs: Inputs = None,
    shapes: Shapes | None = None,
    values: Values | None = None,
    rounds: int = ROUNDS,
    effort: Effort | None = None,
    ablation: tuple[str, str] | None = None,
    sample_rate: int | None = None,
    seed: int = 0,
    progress: Progress = lambda name, number, phase: None,
) -> Benchmark:
    """Measure contenders side by side.

    Parameters
    ----------
    model : path
        A `.onnx` or `.ort` file or a bundle.
    against : sequence of str or Contender
        Contenders as `omni-sdk bench --against` names them; the first is what the others are compared with.
    inputs : path, str, sequence of them, mapping or None
        An `.npz` file, `module:function`, several that complete one another, arrays by name, or None for made-up
        values.
    shapes : mapping of str to shape, optional
        Of made-up inputs with symbolic dimensions.
    values : mapping of str to number or lists, optional
        Of made-up inputs that have to be something, such as `{"sr": 16000}`; the other integers are 0 or 1.
    rounds : int
        Processes of each contender; each round is one pair of every comparison.
    effort : Effort, optional
        How much each process measures.
    ablation : (str, str), optional
        Bare and full settings, such as `("baseline", "ultra")`: measures every lever between them instead of `against`.
    sample_rate : int, optional
        Hz of the waveform, for RTF; a bundle knows its own.
    seed : int
        Of made-up inputs.
    progress : callable, optional
        Called with a contender's name, the round and what it is at.

    Returns
    -------
    Benchmark
        Rows that failed say why; what was measured before Ctrl-C is kept, and `interrupted` is set.

    Raises
    ------
    InputError, ModelError
        When there are no inputs to measure with, or nothing to compare.
    """
    if rounds < 1:
        raise InputError(f"Expected at least one round, got {rounds} - at rounds")
    place = os.fspath(model)
    chosen = parse_all(against, place)
    if ablation is not None:
        bare, full = (parse(text, place) for text in ablation)
        chosen = ablating.contenders(bare, full)
    if not chosen:
        raise InputError("Expected at least one contender, got none - at bench")
    rate, output = _audio(place, sample_rate)
    with inputs_file(place, inputs=inputs, shapes=shapes, seed=seed, values=values) as (path, fed):
        race = Race(
            chosen,
            path,
            path.parent,
            effort or Effort(),
            sample_rate=rate,
            output=output,
            progress=progress,
        )
        found = Benchmark(
            model=place,
            machine=machine(),
            shapes=fed,
            rows=race.rows,
            command=shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
            when=f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC",
            ablation=(full.name, bare.name) if ablation is not None else None,
        )
        try:
            for _ in range(rounds):
                race.round()
        except KeyboardInterrupt:
            found.interrupted = True
        race.judge_outputs()
    return found


def _audio(model: str, sample_rate: int | None) -> tuple[int | None, str | None]:
    audio = Bundle.open(model).manifest.audio if is_bundle(model) else None
    if audio is None:
        return sample_rate, None
    return sample_rate or audio.sample_rate, audio.output
