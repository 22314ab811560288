"""Word and character error rate of a transcriber on a dataset.

`transcribe` makes the rows, slowly and resumably; `score` turns rows into rates in a moment, so that other
normalisation rules need no new transcription.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from omni_sdk.errors import InputError
from omni_sdk.tools.evaluate.audio import read_audio, stamp_of
from omni_sdk.tools.evaluate.dataset import Utterance
from omni_sdk.tools.evaluate.extras import require
from omni_sdk.tools.evaluate.journal import Journal
from omni_sdk.tools.evaluate.text import normalize
from omni_sdk.tools.statistics import Interval, bootstrap_interval, ratio_of_sums

logger = logging.getLogger(__name__)

Transcriber = Callable[[npt.NDArray[np.float32], int], str]
"""From mono samples and their rate in Hz to text."""

RATES = (0.0, 1.0)
"""Between which the interval of a rate is open where all utterances agree; insertions alone lead beyond."""

OK = "ok"
EMPTY_REFERENCE = "empty reference"
UNREADABLE = "unreadable audio"
RAISED = "transcriber raised"
NOT_TEXT = "transcriber gave no text"


@dataclass(frozen=True, slots=True)
class Row:
    """What came of one utterance.

    Attributes
    ----------
    id, reference : str
        From the dataset.
    status : str
        `"ok"`, or why the utterance counts for nothing.
    hypothesis : str
        What the transcriber heard, as it gave it.
    audio_seconds, compute_seconds : float
        Duration of the recording, and of the transcription.
    source_rate : int
        Hz of the recording before any resampling; 0 where it was not read.
    detail : str
        The error's text, where there was one.
    """

    id: str
    status: str
    reference: str
    hypothesis: str = ""
    audio_seconds: float = 0.0
    compute_seconds: float = 0.0
    source_rate: int = 0
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Errors:
    """Edit operations that lead from the references to the hypotheses, and how many units the references have."""

    substitutions: int
    deletions: int
    insertions: int
    reference: int

    @property
    def total(self) -> int:
        """All three together."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Errors over reference units; above 1 where much was inserted."""
        return self.total / self.reference if self.reference else 0.0


@dataclass(frozen=True, slots=True)
class Score:
    """One utterance's errors, on normalised text."""

    id: str
    reference: str
    hypothesis: str
    words: Errors
    characters: Errors
    rtf: float


@dataclass(frozen=True, slots=True)
class WerReport:
    """Error rates of a dataset.

    Attributes
    ----------
    wer, cer : Interval or None
        Rates with their confidence intervals over utterances (Bisani and Ney, 2004); None where nothing was
        scored. One utterance alone says nothing of the spread: its interval is everything.
    words, characters : Errors
        The edit operations behind both rates.
    scores : tuple of Score
        Every scored utterance, the most word errors first.
    failures : tuple of Row
        Utterances that could not be scored, and why.
    rtf : float
        Compute seconds over audio seconds of all scored utterances.
    resampled : dict
        How many recordings came at another sample rate than the transcriber's, by that rate in Hz.
    language : str
        Whose normalisation rules.
    """

    wer: Interval | None
    cer: Interval | None
    words: Errors
    characters: Errors
    scores: tuple[Score, ...]
    failures: tuple[Row, ...]
    rtf: float
    resampled: dict[int, int]
    language: str

    @property
    def broken(self) -> bool:
        """Whether an utterance could not be transcribed, for another reason than an empty reference."""
        return any(row.status != EMPTY_REFERENCE for row in self.failures)

    def to_dict(self) -> dict[str, Any]:
        """Every figure and every row, ready for JSON."""
        return asdict(self)


def transcribe(
    utterances: Iterable[Utterance],
    transcriber: Transcriber,
    journal: Journal,
    *,
    sample_rate: int = 16_000,
    retry: bool = False,
    on_row: Callable[[Row], None] = lambda row: None,
) -> list[Row]:
    """Run the transcriber over what the journal does not hold yet.

    Parameters
    ----------
    utterances : iterable of Utterance
        The dataset.
    transcriber : callable
        Called with float32 mono samples and `sample_rate`; gives text. What it raises becomes a row.
    journal : Journal
        Where rows are kept; those already in it are not made again, unless their text or recording changed since.
    sample_rate : int
        Hz at which the transcriber wants its audio; recordings at other rates are resampled.
    retry : bool
        Make failed rows again.
    on_row : callable
        Called with every row, old ones included, as the run gets to it.

    Returns
    -------
    list of Row
        One an utterance, in order.

    Raises
    ------
    InputError
        The journal holds something else than rows.
    """
    read = [(_from_json(entry, journal.path), entry.get("stamp")) for entry in journal.rows]
    done = {row.id: (row, stamp) for row, stamp in read}
    rows = []
    for utterance in utterances:
        row, then = done.get(utterance.id, (None, None))
        stamp = stamp_of(utterance.audio)
        is_current = row is not None and row.reference == utterance.reference and then == stamp
        if row is None or not is_current or (retry and row.status != OK):
            row = _transcribe_one(utterance, transcriber, sample_rate)
            journal.append({**asdict(row), "stamp": stamp})
        rows.append(row)
        on_row(row)
    return rows


def score(rows: Iterable[Row], *, language: str = "plain", sample_rate: int = 16_000) -> WerReport:
    """Count errors.

    Parameters
    ----------
    rows : iterable of Row
        From `transcribe`.
    language : str
        Normalisation rules: `"es"`, `"en"` or `"plain"`.
    sample_rate : int
        Hz that the transcriber was given.

    Returns
    -------
    WerReport
        Rates over all scored utterances together: all errors over all words.
    """
    scores, failures, audio, compute = [], [], 0.0, 0.0
    resampled: dict[int, int] = {}
    for row in rows:
        if row.source_rate not in (0, sample_rate):
            resampled[row.source_rate] = resampled.get(row.source_rate, 0) + 1
        reference = normalize(row.reference, language)
        if row.status != OK:
            failures.append(row)
        elif not reference:
            failures.append(Row(row.id, EMPTY_REFERENCE, row.reference, detail="no word is left by normalisation"))
        else:
            scores.append(_score_one(row, reference, normalize(row.hypothesis, language)))
            audio, compute = audio + row.audio_seconds, compute + row.compute_seconds
    words, characters = [s.words for s in scores], [s.characters for s in scores]
    return WerReport(
        wer=_interval(words),
        cer=_interval(characters),
        words=_sum(words),
        characters=_sum(characters),
        scores=tuple(sorted(scores, key=lambda s: (-s.words.total, -s.words.rate, s.id))),
        failures=tuple(failures),
        rtf=compute / audio if audio else 0.0,
        resampled=resampled,
        language=language,
    )


def _transcribe_one(utterance: Utterance, transcriber: Transcriber, sample_rate: int) -> Row:
    if not utterance.reference.strip():
        return Row(utterance.id, EMPTY_REFERENCE, utterance.reference)
    try:
        clip = read_audio(utterance.audio, sample_rate)
    except InputError as error:
        return Row(utterance.id, UNREADABLE, utterance.reference, detail=str(error))
    begun = time.perf_counter()
    try:
        text: object = transcriber(clip.samples, sample_rate)
        status, detail = (OK, "") if isinstance(text, str) else (NOT_TEXT, f"got {type(text).__name__}")
    except (Exception, SystemExit) as error:  # an exit would end the run, and with status 0 seem to be a pass
        logger.warning("The transcriber raised on %s", utterance.id, exc_info=True)
        text, status, detail = "", RAISED, f"{type(error).__name__}: {error}"
    return Row(
        id=utterance.id,
        status=status,
        reference=utterance.reference,
        hypothesis=text if isinstance(text, str) else "",
        audio_seconds=clip.seconds,
        compute_seconds=time.perf_counter() - begun,
        source_rate=clip.source_rate,
        detail=detail,
    )


def _score_one(row: Row, reference: str, hypothesis: str) -> Score:
    jiwer = require("jiwer")
    return Score(
        id=row.id,
        reference=reference,
        hypothesis=hypothesis,
        words=_errors(jiwer.process_words(reference, hypothesis)),
        characters=_errors(jiwer.process_characters(reference, hypothesis)),
        rtf=row.compute_seconds / row.audio_seconds if row.audio_seconds else 0.0,
    )


def _errors(output: Any) -> Errors:
    reference = output.hits + output.substitutions + output.deletions
    return Errors(output.substitutions, output.deletions, output.insertions, reference)


def _sum(errors: list[Errors]) -> Errors:
    return Errors(*(sum(getattr(e, field.name) for e in errors) for field in fields(Errors)))


def _interval(errors: list[Errors]) -> Interval | None:
    if not errors:
        return None
    return bootstrap_interval([[e.total, e.reference] for e in errors], ratio_of_sums, bounds=RATES)


def _from_json(entry: dict[str, Any], path: Path) -> Row:
    row = {field.name: entry[field.name] for field in fields(Row) if field.name in entry}
    texts = ("id", "status", "reference", "hypothesis", "detail")
    wrong = [name for name in ("id", "status", "reference") if name not in row]
    wrong += [name for name, value in row.items() if not isinstance(value, str if name in texts else int | float)]
    if wrong:
        raise InputError(f"Expected a row of a transcription, got one without a usable {wrong[0]} - at {path}")
    return Row(**row)
