"""Which raters count. Each rule looks at one thing, and its sentence is the reason that is reported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from omni_sdk.errors import InputError

Key = Mapping[str, Any]

REPEAT_GAP = 1.0
"""Points by which a rater's two ratings of one clip may differ on average."""
AGREEMENT = 0.2
"""Correlation with the other raters' mean below which a rater seems to answer another question."""
OTHERS = 3
"""Raters besides oneself that make a mean worth agreeing with."""
CATCH_SHARE = 0.75
"""Share of the unmistakable ABX trials that an attentive rater tells apart."""


@dataclass(frozen=True, slots=True)
class Answers:
    """One rater's answers: ratings from 1 to 5, or 1 and 0 for right and wrong, by trial."""

    rater: str
    values: Mapping[str, float]

    @classmethod
    def parse(cls, result: Mapping[str, Any], key: Key) -> Answers:
        """Read one file's content against the key.

        Parameters
        ----------
        result, key : mapping
            As the page and `write_page` wrote them.

        Returns
        -------
        Answers
            What the rater said.

        Raises
        ------
        InputError
            It belongs to another test, or holds what the page cannot have written.
        """
        if result.get("test") != key["test"] or result.get("format") != key["format"]:
            raise InputError(f"Expected answers to test {key['test']}, got {result.get('test')!r} - at the answers")
        values: dict[str, float] = {}
        answers = result.get("answers")
        if not isinstance(answers, list):
            raise InputError(f"Expected a list of answers, got {type(answers).__name__} - at the answers")
        for answer in answers:
            trial = answer.get("trial") if isinstance(answer, dict) else None
            if not isinstance(trial, str) or trial not in key["trials"] or trial in values:
                raise InputError(f"Expected each trial of the test once, got {trial!r} - at the answers")
            values[trial] = _value(answer, key["trials"][trial]["clips"])
        return cls(str(result.get("rater") or "anonymous"), values)


def screen(raters: Mapping[str, Answers], key: Key) -> tuple[dict[str, Answers], dict[str, str]]:
    """Divide raters into those who count and those who do not.

    Parameters
    ----------
    raters : mapping
        Answers by rater.
    key : mapping
        The test's key.

    Returns
    -------
    (dict, dict)
        Answers of those who count; and of the others the reason, by rater. Agreement is judged last, among those who
        passed everything else.
    """
    rules = (
        (_incomplete, _constant, _deaf_to_anchors, _inconsistent) if key["kind"] == "mos" else (_incomplete, _missed)
    )
    rejected: dict[str, str] = {}
    for rater, answers in raters.items():
        reason = next((found for rule in rules if (found := rule(answers, key))), None)
        if reason:
            rejected[rater] = reason
    kept = {rater: answers for rater, answers in raters.items() if rater not in rejected}
    if key["kind"] == "mos" and len(kept) > OTHERS:
        rejected |= _in_disagreement(kept, key)
    return {rater: answers for rater, answers in kept.items() if rater not in rejected}, rejected


def _value(answer: Mapping[str, Any], clips: list[str]) -> float:
    if len(clips) == 1:
        rating = answer.get("rating")
        if answer.get("clip") != clips[0] or isinstance(rating, bool) or rating not in (1, 2, 3, 4, 5):
            raise InputError(f"Expected a rating from 1 to 5 of the trial's clip, got {rating!r} - at the answers")
        return float(rating)
    a, b, x, said = (answer.get(name) for name in ("a", "b", "x", "answer"))
    if sorted(map(str, (a, b))) != sorted(clips) or x not in clips or said not in clips:
        raise InputError("Expected the trial's two clips as A, B, X and answer, got others - at the answers")
    return float(x == said)


def _incomplete(answers: Answers, key: Key) -> str | None:
    missing = len(key["trials"]) - len(answers.values)
    return f"{missing} of {len(key['trials'])} trials are not answered" if missing else None


def _constant(answers: Answers, key: Key) -> str | None:
    return "every clip got the same rating" if len(set(answers.values.values())) == 1 else None


def _deaf_to_anchors(answers: Answers, key: Key) -> str | None:
    originals = {_source(key, trial): value for trial, value in answers.values.items() if _role(key, trial) == "test"}
    gaps = [
        originals[key["reference"], _source(key, trial)[1]] - value
        for trial, value in answers.values.items()
        if _role(key, trial) == "anchor"
    ]
    if not gaps or np.mean(gaps) > 0.0:
        return None
    return "clips with added noise were rated no worse than the same clips without"


def _inconsistent(answers: Answers, key: Key) -> str | None:
    first = {_source(key, trial): value for trial, value in answers.values.items() if _role(key, trial) == "test"}
    gaps = [
        abs(first[_source(key, trial)] - value)
        for trial, value in answers.values.items()
        if _role(key, trial) == "repeat"
    ]
    if not gaps or np.mean(gaps) <= REPEAT_GAP:
        return None
    return f"ratings of the same clip differ by {np.mean(gaps):.1f} points on average"


def _missed(answers: Answers, key: Key) -> str | None:
    caught = [value for trial, value in answers.values.items() if _role(key, trial) == "anchor"]
    if not caught or np.mean(caught) >= CATCH_SHARE:
        return None
    return f"only {int(sum(caught))} of {len(caught)} unmistakable pairs were told apart"


def _in_disagreement(kept: Mapping[str, Answers], key: Key) -> dict[str, str]:
    trials = sorted(key["trials"])
    table = np.array([[answers.values[trial] for trial in trials] for answers in kept.values()])
    rejected = {}
    for row, rater in enumerate(kept):
        others = np.delete(table, row, axis=0).mean(axis=0)
        if np.ptp(others) > 0.0 and (agreement := float(np.corrcoef(table[row], others)[0, 1])) < AGREEMENT:
            rejected[rater] = f"ratings correlate with the other raters' mean by only {agreement:.2f}"
    return rejected


def _role(key: Key, trial: str) -> str:
    return str(key["trials"][trial]["role"])


def _source(key: Key, trial: str) -> tuple[str, str]:
    clip = key["clips"][key["trials"][trial]["clips"][0]]
    return clip["condition"], clip["item"]
