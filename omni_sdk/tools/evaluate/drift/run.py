"""Drift of a candidate from its reference: outputs on the same inputs, determinism, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import omni_sdk as omni
from omni_sdk.bundle import Bundle, is_bundle
from omni_sdk.errors import InputError
from omni_sdk.tools.archives import read_arrays
from omni_sdk.tools.evaluate.audio import SUFFIXES, read_channels, resample
from omni_sdk.tools.evaluate.drift.compare import Limits, OutputDrift, compare
from omni_sdk.tools.evaluate.drift.determinism import Repetition, check_determinism
from omni_sdk.tools.evaluate.values import plain_arrays

Arrays = Mapping[str, npt.NDArray[Any]]

WAVEFORM_NAMES = frozenset({"waveform", "audio", "wav"})
"""Outputs that are taken for waveforms by their name, where no manifest says so."""
AUDIO = "audio"


@dataclass(frozen=True, slots=True)
class Pair:
    """Both arrays of one compared output, kept for the picture."""

    drift: OutputDrift
    reference: npt.NDArray[Any]
    candidate: npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class DriftReport:
    """What was compared, and what came of it.

    Attributes
    ----------
    reference, candidate : str
        Where both came from.
    pairs : tuple of Pair
        One for each output of each case.
    repetitions : tuple of Repetition
        The candidate's determinism, on the first case; empty where recordings were compared.
    missing : tuple of str
        Outputs that only one of both has.
    limits : Limits
        What the verdict went by.
    sample_rate : int
        Hz of the waveforms.
    resampled : bool
        The candidate's recording had another sample rate and was resampled.
    """

    reference: str
    candidate: str
    pairs: tuple[Pair, ...]
    repetitions: tuple[Repetition, ...]
    missing: tuple[str, ...]
    limits: Limits
    sample_rate: int
    resampled: bool = False

    @property
    def faults(self) -> tuple[str, ...]:
        """Everything that speaks against the candidate, each with where it was found."""
        found = [f"output: {name} is given by only one of both" for name in self.missing]
        for pair in self.pairs:
            where = " ".join(filter(None, (pair.drift.case, pair.drift.name)))
            found += [f"{where}: {fault}" for fault in pair.drift.faults]
        for again in self.repetitions:
            if again.bit_equal or (again.by_threads and again.snr_db >= self.limits.threads_snr_db):
                continue
            found.append(f"determinism: {again.way} differ, by {again.peak_error:.3g} at most ({again.snr_db:.1f} dB)")
        return tuple(found)

    @property
    def passed(self) -> bool:
        """Nothing speaks against the candidate."""
        return not self.faults

    def to_dict(self) -> dict[str, Any]:
        """Every figure, ready for JSON."""
        return {
            "reference": self.reference,
            "candidate": self.candidate,
            "passed": self.passed,
            "faults": self.faults,
            "outputs": [asdict(pair.drift) for pair in self.pairs],
            "determinism": [asdict(again) for again in self.repetitions],
            "limits": asdict(self.limits),
            "sample_rate": self.sample_rate,
            "resampled": self.resampled,
        }


def drift(
    reference: str | Path,
    candidate: str | Path,
    inputs: Mapping[str, Arrays] | None = None,
    *,
    limits: Limits | None = None,
    settings: omni.Settings | None = None,
    waveforms: Sequence[str] = (),
    sample_rate: int = 24_000,
    repeats: int = 3,
) -> DriftReport:
    """Compare two models on the same inputs, or two recordings.

    Parameters
    ----------
    reference, candidate : str or Path
        Both models (files or bundles), or both recordings.
    inputs : mapping
        Arrays by input name, for each case by its name. State inputs of a bundle may be left out: they are zeros.
    limits : Limits, optional
        What the verdict goes by.
    settings : Settings, optional
        For both models.
    waveforms : sequence of str
        Outputs that are waveforms, besides what a bundle's manifest says and those named waveform, audio or wav.
    sample_rate : int
        Hz, where no manifest and no recording says it.
    repeats : int
        How often each way of running again is tried; 0 leaves determinism out.

    Returns
    -------
    DriftReport
        Its `passed` is the verdict.

    Raises
    ------
    InputError
        A recording is compared with a model, no inputs are given, or they do not fit; or no output has a name among
        `waveforms`; or either is given for recordings.
    """
    limits = limits or Limits()
    recordings = [Path(source).suffix.lower() in SUFFIXES for source in (reference, candidate)]
    if all(recordings):
        if inputs or waveforms:
            what = "inputs" if inputs else "waveforms"
            raise InputError(f"Expected no {what} beside two recordings, got some - at drift, {what}")
        return _compare_recordings(reference, candidate, limits)
    if any(recordings):
        raise InputError(f"Expected two models or two recordings, got one of each - at {reference} and {candidate}")
    if not inputs:
        raise InputError("Expected at least one case of inputs for the models, got none - at drift, inputs")
    rates = {**dict.fromkeys([*waveforms, *WAVEFORM_NAMES], sample_rate), **_manifest_rates(reference, candidate)}
    ours, theirs = _outputs(reference, inputs, settings), _outputs(candidate, inputs, settings)
    _check_names(waveforms, [name for outputs in (*ours.values(), *theirs.values()) for name in outputs])
    pairs, missing, heard = [], dict[str, None](), list[int]()
    for case in inputs:
        names, alone = _match(ours[case], theirs[case])
        missing |= dict.fromkeys(alone)
        for name, other in names:
            both = ours[case][name], theirs[case][other]
            own = [rates[known] for known in (name, other) if known in rates]
            heard += own
            found = compare(*both, case=case, name=name, waveform=bool(own), limits=limits)
            pairs.append(Pair(found, *both))
    first = _with_state(candidate, next(iter(inputs.values())))
    repetitions = check_determinism(candidate, first, settings=settings, repeats=repeats) if repeats else ()
    rate = next(iter(heard), sample_rate)
    return DriftReport(str(reference), str(candidate), tuple(pairs), repetitions, tuple(missing), limits, rate)


def read_case(path: str | Path, model: str | Path) -> dict[str, npt.NDArray[Any]]:
    """Read one case of inputs.

    Parameters
    ----------
    path : str or Path
        `.npz` with an array for each input; or `.npy`, for a model with one input.
    model : str or Path
        Whose inputs they are; read for a `.npy` only.

    Returns
    -------
    dict
        Arrays by input name.

    Raises
    ------
    InputError
        The file is neither, or the model has several inputs.
    """
    content = read_arrays(path)
    if not isinstance(content, np.ndarray):
        return content
    state = _state(model)
    with omni.load(model, cache_dir=None) as loaded:
        names = [spec.name for spec in loaded.inputs if spec.name not in state]
    if len(names) != 1:
        raise InputError(f"Expected a model with one input for an .npy file, got {', '.join(names)} - at {path}")
    return {names[0]: content}


def _check_names(waveforms: Sequence[str], outputs: Sequence[str]) -> None:
    if unknown := [name for name in waveforms if name not in outputs]:
        known = ", ".join(sorted(set(outputs)))
        raise InputError(f"Expected outputs among {known}, got {', '.join(unknown)} - at drift, waveforms")


def _compare_recordings(reference: str | Path, candidate: str | Path, limits: Limits) -> DriftReport:
    ours, rate = read_channels(reference)
    recorded, own_rate = read_channels(candidate)
    theirs = resample(recorded, own_rate, rate)
    found = compare(ours, theirs, name=AUDIO, waveform=True, limits=limits)
    pair = Pair(found, ours, theirs)
    return DriftReport(str(reference), str(candidate), (pair,), (), (), limits, rate, own_rate != rate)


def _outputs(
    source: str | Path, inputs: Mapping[str, Arrays], settings: omni.Settings | None
) -> dict[str, dict[str, npt.NDArray[Any]]]:
    hidden = set(_state(source).values())
    with omni.load(source, settings, cache_dir=None) as model:
        return {
            case: plain_arrays({name: value for name, value in model.infer(_with_state(source, feeds, model)).items()
                                if name not in hidden})
            for case, feeds in inputs.items()
        }  # fmt: skip


def _with_state(source: str | Path, feeds: Arrays, model: omni.Model | None = None) -> dict[str, npt.NDArray[Any]]:
    """The feeds, with zeros for whatever state they leave out: a stream's beginning."""
    state = set(_state(source)) - set(feeds)
    if not state:
        return dict(feeds)
    if model is None:
        with omni.load(source, cache_dir=None) as loaded:
            return _with_state(source, feeds, loaded)
    blank = {spec.name: np.zeros([1 if not isinstance(n, int) else n for n in spec.shape], spec.dtype)
             for spec in model.inputs if spec.name in state}  # fmt: skip
    return {**feeds, **blank}


def _match(ours: Arrays, theirs: Arrays) -> tuple[list[tuple[str, str]], tuple[str, ...]]:
    """Outputs of one name belong together; so do two models' only outputs."""
    one, other = list(ours), list(theirs)
    if len(one) == len(other) == 1:
        return [(one[0], other[0])], ()
    return [(name, name) for name in one if name in other], tuple(sorted(set(one) ^ set(other)))


def _state(source: str | Path) -> Mapping[str, str]:
    return Bundle.open(source).manifest.state if is_bundle(source) else {}


def _manifest_rates(*sources: str | Path) -> dict[str, int]:
    manifests = [Bundle.open(source).manifest for source in sources if is_bundle(source)]
    return {m.audio.output: m.audio.sample_rate for m in manifests if m.audio is not None}
