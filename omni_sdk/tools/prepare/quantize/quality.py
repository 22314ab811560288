"""How good a quantized model is: its outputs on held-out samples against the original's.

Outputs of floats have noise. One that is the same everywhere in a sample is judged by its error against its magnitude,
one of zeros by its error against 1. Outputs of other types, such as codes or flags, have to be equal.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omni_sdk.errors import InputError
from omni_sdk.tools.metrics import RESOLUTIONS, log_spectral_distance, multi_resolution_stft_distance, snr_db
from omni_sdk.tools.prepare.calibration import sample_runs
from omni_sdk.tools.prepare.feeds import Feeds
from omni_sdk.tools.prepare.sessions import open_session, run

SHORTEST_SPECTRUM = max(fft for fft, _, _ in RESOLUTIONS)
"""Samples; shorter outputs have no spectrum to compare."""


@dataclass(frozen=True, slots=True)
class Quality:
    """Of a model against the original, over all held-out samples: of the worst output each.

    Attributes
    ----------
    snr_db : float
        Minus infinity where an output that is no float differs.
    log_spectral_db, multi_resolution_stft : float or None
        None where no output of floats that vary is long enough.
    """

    snr_db: float
    log_spectral_db: float | None
    multi_resolution_stft: float | None


@dataclass(frozen=True, slots=True)
class Judge:
    """Held-out samples and what the original makes of them.

    Parameters
    ----------
    samples : list of Feeds
    expected : list of dict
        The original's outputs but the carried state, for each sample.
    """

    samples: list[Feeds]
    expected: list[dict[str, NDArray[Any]]]

    @classmethod
    def of(cls, original: Path, samples: Sequence[Feeds], state: Mapping[str, str]) -> Judge:
        """Run the original on the held-out samples.

        Raises
        ------
        InputError
            Where the model does not run on a sample, an output is not finite, or no output of floats varies, so that
            noise says nothing.
        """
        session = open_session(original)
        expected = []
        for index, sample in enumerate(samples):
            with sample_runs(f"held-out sample {index}"):
                outputs = run(session, sample)
            counted = {name: array for name, array in outputs.items() if name not in state.values()}
            floats = {name: array for name, array in counted.items() if array.dtype.kind == "f"}
            for name, array in floats.items():
                if not np.isfinite(array).all():
                    raise InputError(
                        f"Expected finite outputs, got NaN or infinity in {name} - at held-out sample {index}"
                    )
            if not any(map(_varies, floats.values())):
                raise InputError(
                    f"Expected outputs that vary, got constant ones - at held-out sample {index}",
                    hint="quality is measured on the outputs; give inputs that make some",
                )
            expected.append(counted)
        return cls(list(samples), expected)

    def quality(self, graph: Path) -> Quality:
        """Worst figures of a model over samples and outputs."""
        session = open_session(graph)
        ratios: list[float] = []
        spectral: list[float] = []
        resolutions: list[float] = []
        for sample, expected in zip(self.samples, self.expected, strict=True):
            outputs = run(session, sample)
            for name, reference in expected.items():
                ratios.append(_snr_db(reference, outputs[name]))
                has_spectrum = _varies(reference) and reference.shape[-1] >= SHORTEST_SPECTRUM
                if has_spectrum and math.isfinite(ratios[-1]):
                    spectral.append(log_spectral_distance(reference, outputs[name]))
                    resolutions.append(multi_resolution_stft_distance(reference, outputs[name]))
        return Quality(min(ratios), max(spectral, default=None), max(resolutions, default=None))


def _varies(array: NDArray[Any]) -> bool:
    return array.dtype.kind == "f" and array.size > 1 and bool(np.ptp(array) > 0)


def _snr_db(reference: NDArray[Any], candidate: NDArray[Any]) -> float:
    if reference.dtype.kind != "f" or reference.size == 0:
        return math.inf if np.array_equal(reference, candidate) else -math.inf
    if not reference.any():
        return snr_db(np.ones(reference.shape), 1.0 + candidate.astype(np.float64))
    return snr_db(reference, candidate)
