"""Predicted speech quality: DNSMOS P.835 (Reddy et al., 2022), run through this SDK.

The model hears 9.01 s of 16 kHz audio and gives raw signal, background and overall scores, which a polynomial each maps
to the scale of listeners, from 1 to 5. A longer clip is heard through windows that hop by a second; a shorter one is
repeated until it fills one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import omni_sdk as omni
from omni_sdk.errors import InputError, ModelError
from omni_sdk.source import Source
from omni_sdk.tools.evaluate.audio import read_audio, stamp_of
from omni_sdk.tools.evaluate.journal import Journal
from omni_sdk.tools.statistics import Interval, bootstrap_interval

Array = npt.NDArray[np.float64]

SAMPLE_RATE = 16_000
SCALE = (1.0, 5.0)
"""Of the opinions that are predicted."""
WINDOW_SECONDS = 9.01
WINDOW = int(WINDOW_SECONDS * SAMPLE_RATE)

POLYNOMIALS = np.array(
    [
        [-0.08397278, 1.22083953, 0.0052439],
        [-0.13166888, 1.60915514, -0.39604546],
        [-0.06766283, 1.11546468, 0.04602535],
    ]
)
"""From raw SIG, BAK and OVRL to the listeners' scale, highest power first: constants of the published scorer."""


@dataclass(frozen=True, slots=True)
class Mos:
    """Predicted mean opinion scores, from 1 (bad) to 5 (excellent): of the signal, the background, and overall."""

    sig: float
    bak: float
    ovrl: float


@dataclass(frozen=True, slots=True)
class Prediction:
    """Scores of one clip's windows.

    Attributes
    ----------
    mos : Mos
        Mean over the windows that the published scorer hears.
    every_window : Mos
        Mean over all of them.
    windows, lost : int
        How many there are, and how many of them the published scorer loses to rounding.
    """

    mos: Mos
    every_window: Mos
    windows: int
    lost: int


@dataclass(frozen=True, slots=True)
class ClipMos:
    """Scores of one file.

    Attributes
    ----------
    path : str
        The file.
    prediction : Prediction or None
        None where the file could not be scored.
    seconds : float
        Duration of the clip.
    source_rate : int
        Hz of the file before any resampling.
    detail : str
        Why there is no score.
    """

    path: str
    prediction: Prediction | None = None
    seconds: float = 0.0
    source_rate: int = 0
    detail: str = ""


@dataclass(frozen=True, slots=True)
class MosReport:
    """Scores of every file, and the mean over those that were scored with its confidence interval.

    `interrupted` where Ctrl-C came before the last file; what was scored until then is here.
    """

    clips: tuple[ClipMos, ...]
    sig: Interval | None
    bak: Interval | None
    ovrl: Interval | None
    interrupted: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Every figure, ready for JSON."""
        return asdict(self)


class Dnsmos:
    """The predictor. Owns its model until `close`.

    Parameters
    ----------
    model : str or Path
        The DNSMOS P.835 model: one float32 input [batch, 144160], one output [batch, 3].
    settings : Settings, optional
        For the model.

    Raises
    ------
    ModelError
        The model is another one.
    """

    def __init__(self, model: str | Path, settings: omni.Settings | None = None) -> None:
        self._model = omni.load(model, settings)
        shapes = [tuple(spec.shape) for spec in (*self._model.inputs, *self._model.outputs)]
        # A symbolic length may turn out to fit; another number cannot.
        if len(shapes) != 2 or len(shapes[0]) != 2 or (isinstance(shapes[0][1], int) and shapes[0][1] != WINDOW):
            self._model.close()
            raise ModelError(
                f"Expected DNSMOS P.835, [batch, {WINDOW}] in and [batch, 3] out, got {shapes} - at {model}"
            )
        self._input, self._output = self._model.inputs[0].name, self._model.outputs[0].name

    def score(self, samples: npt.NDArray[np.float32]) -> Prediction:
        """Score one clip.

        Parameters
        ----------
        samples : numpy.ndarray
            Float32 [samples], mono, 16 kHz, at least one.

        Returns
        -------
        Prediction
            On the listeners' scale.
        """
        while samples.size < WINDOW:
            samples = np.append(samples, samples)
        starts, heard = window_starts(samples.size)
        mapped = np.stack([self._window(samples[start : start + WINDOW]) for start in starts])
        published, every = (Mos(*map(float, rows.mean(axis=0))) for rows in (mapped[heard], mapped))
        return Prediction(published, every, heard.size, int(np.count_nonzero(~heard)))

    def close(self) -> None:
        """Give the model back."""
        self._model.close()

    def __enter__(self) -> Dnsmos:
        return self

    def __exit__(self, *reason: object) -> None:
        self.close()

    def _window(self, samples: npt.NDArray[np.float32]) -> Array:
        raw = self._model.infer({self._input: samples[np.newaxis].astype(np.float32)})[self._output]
        if raw.shape != (1, 3):
            raise ModelError(f"Expected three scores of one window, got shape {raw.shape} - at output {self._output!r}")
        with np.errstate(all="ignore"):  # raw scores that are not finite map to others, and the clip is reported
            return np.array([np.polyval(row, x) for row, x in zip(POLYNOMIALS, raw[0].astype(np.float64), strict=True)])


def window_starts(size: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Where windows begin, and which of them the published scorer hears.

    Parameters
    ----------
    size : int
        Samples of the clip, a window at least.

    Returns
    -------
    (numpy.ndarray, numpy.ndarray)
        First sample of each window, and whether it counts. The published scorer computes a window's end as
        int((second + 9.01) * 16000); where that product lies a rounding error below the whole number the window is a
        sample short, and is left out. Its published figures are means over what remains, so ours are.
    """
    hops = int(np.floor(size / SAMPLE_RATE) - WINDOW_SECONDS) + 1
    seconds = range(hops)
    ends = [int((second + WINDOW_SECONDS) * SAMPLE_RATE) for second in seconds]
    starts = np.array([second * SAMPLE_RATE for second in seconds], dtype=np.int64)
    return starts, np.array([min(end, size) - start >= WINDOW for end, start in zip(ends, starts, strict=True)])


def predict_mos(
    files: Iterable[str | Path],
    model: str | Path,
    *,
    settings: omni.Settings | None = None,
    journal: str | Path | None = None,
    on_clip: Callable[[ClipMos], None] = lambda clip: None,
) -> MosReport:
    """Score recordings.

    Parameters
    ----------
    files : iterable of str or Path
        Recordings; at other rates than 16 kHz they are resampled.
    model : str or Path
        The DNSMOS P.835 model.
    settings : Settings, optional
        For the model.
    journal : str or Path, optional
        A file for each clip's scores, on disk before the next is begun. Clips in it whose files are as they were are
        not scored again.
    on_clip : callable
        Called with each clip as it is done, those of the journal among them.

    Returns
    -------
    MosReport
        A file that cannot be read is a clip without a score that says why. Ctrl-C ends it early, with what there is.

    Raises
    ------
    ModelError
        The model is another one.
    InputError
        The journal is another model's, or cannot be written.
    """
    with ExitStack() as opened:
        predictor = opened.enter_context(Dnsmos(model, settings))
        if journal is None:
            return _predict(files, predictor, None, on_clip)
        header = {"kind": "mos", "model": Source(model).fingerprint.hex()}
        return _predict(files, predictor, opened.enter_context(Journal(journal, header)), on_clip)


def _predict(
    files: Iterable[str | Path], predictor: Dnsmos, journal: Journal | None, on_clip: Callable[[ClipMos], None]
) -> MosReport:
    rows = [_from_json(row, journal.path) for row in journal.rows] if journal is not None else []
    done = {clip.path: (stamp, clip) for stamp, clip in rows}
    clips, interrupted = [], False
    try:
        for path in files:
            stamp = stamp_of(path)
            then, clip = done.get(str(path), (None, None))
            if clip is None or then != stamp:
                clip = _score_file(predictor, path)
                if journal is not None:
                    journal.append({**asdict(clip), "stamp": stamp})
            clips.append(clip)
            on_clip(clip)
    except KeyboardInterrupt:  # hours of scores are not to be lost with the last one
        interrupted = True
    scored = [clip.prediction.mos for clip in clips if clip.prediction is not None]
    sig, bak, ovrl = (
        bootstrap_interval([getattr(mos, name) for mos in scored], bounds=SCALE) if scored else None
        for name in Mos.__slots__
    )
    return MosReport(tuple(clips), sig, bak, ovrl, interrupted)


def _from_json(row: Mapping[str, Any], path: Path) -> tuple[list[int] | None, ClipMos]:
    """A clip of the journal, and the stamp of its file then."""
    try:
        found = row["prediction"]
        prediction = None
        if found is not None:
            mos, every = (Mos(*(float(found[key][name]) for name in Mos.__slots__)) for key in ("mos", "every_window"))
            prediction = Prediction(mos, every, int(found["windows"]), int(found["lost"]))
        clip = ClipMos(row["path"], prediction, float(row["seconds"]), int(row["source_rate"]), str(row["detail"]))
        return row["stamp"], clip
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"Expected the scores of a clip, got a row without a usable {error} - at {path}") from error


def _score_file(predictor: Dnsmos, path: str | Path) -> ClipMos:
    try:
        clip = read_audio(path, SAMPLE_RATE)
    except InputError as error:
        return ClipMos(str(path), detail=str(error))
    found = predictor.score(clip.samples)
    scores = [*asdict(found.mos).values(), *asdict(found.every_window).values()]
    detail = "" if np.isfinite(scores).all() else "the model's scores of it are not finite"
    return ClipMos(str(path), None if detail else found, clip.seconds, clip.source_rate, detail)
