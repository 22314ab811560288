"""Turns the answers of raters into scores: who counts, and what the conditions got."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from omni_sdk.errors import InputError
from omni_sdk.tools.evaluate.listening.page import FORMAT
from omni_sdk.tools.evaluate.listening.screening import Answers, screen
from omni_sdk.tools.statistics import Interval, binomial_interval, bootstrap_interval, ratio_of_sums

RATERS_FOR_CLUSTERS = 5
"""From so many raters on the interval is drawn over raters, whose own answers hang together; below, over answers."""
SCALE = (1.0, 5.0)
"""What a rating may be: raters who agree on four need not be followed by one who does."""


@dataclass(frozen=True, slots=True)
class ConditionMos:
    """Mean opinion score of one condition, from 1 (bad) to 5 (excellent)."""

    condition: str
    mos: Interval
    ratings: int


@dataclass(frozen=True, slots=True)
class ConditionAbx:
    """How often one condition was told from the reference, with its exact interval (Clopper and Pearson).

    `p_value` is the chance to do so well by guessing; like the interval it takes answers for independent.
    """

    condition: str
    share_correct: Interval
    correct: int
    answers: int
    p_value: float


@dataclass(frozen=True, slots=True)
class MosReport:
    """Scores by condition, best first; and who was screened out, why."""

    kind: str
    conditions: tuple[ConditionMos, ...]
    raters: int
    rejected: Mapping[str, str]
    unit: str

    def to_dict(self) -> dict[str, Any]:
        """Every figure, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class AbxReport:
    """Shares by condition, most audible first; and who was screened out, why."""

    kind: str
    reference: str
    conditions: tuple[ConditionAbx, ...]
    raters: int
    rejected: Mapping[str, str]
    unit: str

    def to_dict(self) -> dict[str, Any]:
        """Every figure, ready for JSON."""
        return asdict(self)


def score_results(results: Iterable[str | Path], key: str | Path) -> MosReport | AbxReport:
    """Score the files that raters sent back.

    Parameters
    ----------
    results : iterable of str or Path
        One JSON file a rater, as the page saves it.
    key : str or Path
        The key that was written with the page.

    Returns
    -------
    MosReport or AbxReport
        By the test's kind. Answers of a rater who was screened out, and files that are no answers to this test,
        count for nothing; `rejected` names them with the reason.

    Raises
    ------
    InputError
        The key is none, or no rater is left.
    """
    secret = _read(Path(key))
    if not _is_key(secret):
        raise InputError(f"Expected the key of a listening test, got another JSON file - at {key}")
    raters: dict[str, Answers] = {}
    rejected: dict[str, str] = {}
    for path in map(Path, results):
        try:
            answers = Answers.parse(_read(path), secret)
        except InputError as error:
            rejected[path.name] = str(error)
            continue
        if answers.rater in raters:
            rejected[path.name] = f"a second answer of {answers.rater}"
        else:
            raters[answers.rater] = answers
    kept, screened = screen(raters, secret)
    rejected |= screened
    if not kept:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in rejected.items()) or "no file was given"
        raise InputError(f"Expected answers of one rater at least, got none that count ({reasons}) - at {key}")
    return _mos(kept, rejected, secret) if secret["kind"] == "mos" else _abx(kept, rejected, secret)


def chance_of(correct: int, answers: int) -> float:
    """Probability of at least so many correct answers by guessing: the one-sided exact binomial test.

    Parameters
    ----------
    correct, answers : int
        Right ones, and all.

    Returns
    -------
    float
        Sum of C(n, k) / 2^n for k from `correct` to n.
    """
    ways = sum(math.comb(answers, k) for k in range(correct, answers + 1))
    return float(ways / 2**answers)


def _mos(kept: Mapping[str, Answers], rejected: Mapping[str, str], key: Mapping[str, Any]) -> MosReport:
    by_condition: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for rater, answers in kept.items():
        for trial, value in answers.values.items():
            if key["trials"][trial]["role"] != "repeat":
                condition = key["clips"][key["trials"][trial]["clips"][0]]["condition"]
                by_condition[condition][rater].append(value)
    scores = [
        ConditionMos(condition, _interval(list(raters.values())), sum(map(len, raters.values())))
        for condition, raters in by_condition.items()
    ]
    scores.sort(key=lambda score: -score.mos.estimate)
    return MosReport("mos", tuple(scores), len(kept), dict(rejected), _unit(len(kept)))


def _abx(kept: Mapping[str, Answers], rejected: Mapping[str, str], key: Mapping[str, Any]) -> AbxReport:
    by_condition: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for rater, answers in kept.items():
        for trial, value in answers.values.items():
            names = {key["clips"][clip]["condition"] for clip in key["trials"][trial]["clips"]}
            (condition,) = names - {key["reference"]}
            by_condition[condition][rater].append(value)
    scores = []
    for condition, raters in by_condition.items():
        correct, count = int(sum(map(sum, raters.values()))), sum(map(len, raters.values()))
        share = binomial_interval(correct, count)
        scores.append(ConditionAbx(condition, share, correct, count, chance_of(correct, count)))
    scores.sort(key=lambda score: (-score.share_correct.estimate, score.condition))
    return AbxReport("abx", key["reference"], tuple(scores), len(kept), dict(rejected), "answer")


def _is_key(secret: Mapping[str, Any]) -> bool:
    """Whether a file holds all that scoring looks up, for it may have been edited or cut."""
    texts, tables = ("test", "kind", "reference"), ("trials", "clips")
    if secret.get("format") != FORMAT or not all(isinstance(secret.get(name), str) for name in texts):
        return False
    if not all(isinstance(secret.get(name), dict) for name in tables):
        return False
    clips = secret["clips"]
    named = all(isinstance(clip, dict) and {"condition", "item"} <= clip.keys() for clip in clips.values())
    return named and all(
        isinstance(trial, dict) and isinstance(trial.get("role"), str) and isinstance(trial.get("clips"), list)
        and bool(trial["clips"]) and all(isinstance(clip, str) and clip in clips for clip in trial["clips"])
        for trial in secret["trials"].values()
    )  # fmt: skip


def _unit(raters: int) -> str:
    return "rater" if raters >= RATERS_FOR_CLUSTERS else "answer"


def _interval(by_rater: Sequence[Sequence[float]]) -> Interval:
    if _unit(len(by_rater)) == "rater":
        return bootstrap_interval([[sum(values), len(values)] for values in by_rater], ratio_of_sums, bounds=SCALE)
    return bootstrap_interval([value for values in by_rater for value in values], bounds=SCALE)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"Expected a JSON file, got {type(error).__name__}: {error} - at {path}") from error
    if not isinstance(content, dict):
        raise InputError(f"Expected a JSON object, got {type(content).__name__} - at {path}")
    return content
