"""What is played to whom: trials of a listening test, and the key that says what each clip was."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from omni_sdk.errors import InputError
from omni_sdk.tools.evaluate.audio import SUFFIXES, Clip, read_audio

KINDS = ("mos", "abx")
ANCHOR = "anchor"
"""The condition that is made on purpose to be heard as bad: it tells attentive raters from others."""
ANCHOR_Q_DB = 10.0
"""Signal to modulated noise of the anchor (MNRU, ITU-T P.810): plainly bad, never mistaken for clean speech."""
ANCHORS, REPEATS = 2, 2
"""How many trials at most are anchors, and how many come twice."""

Token = str
"""A random name without a meaning."""


@dataclass(frozen=True, slots=True)
class Source:
    """What one clip really is."""

    condition: str
    item: str


@dataclass(frozen=True, slots=True)
class Trial:
    """One question: one clip to rate, or two to tell apart. `role` is `test`, `anchor` or `repeat`."""

    token: Token
    clips: tuple[Token, ...]
    role: str


@dataclass(slots=True)
class Plan:
    """A whole test before it becomes a page."""

    kind: str
    reference: str
    sources: dict[Token, Source] = field(default_factory=dict)
    audio: dict[Token, Clip] = field(default_factory=dict)
    trials: list[Trial] = field(default_factory=list)


def read_conditions(folder: str | Path) -> dict[str, dict[str, Clip]]:
    """Read `folder/<condition>/<item>.wav`.

    Parameters
    ----------
    folder : str or Path
        Two conditions or more, each with a recording of the same name for every item.

    Returns
    -------
    dict
        Clips by condition and item, both sorted by name.

    Raises
    ------
    InputError
        There are fewer than two conditions, an item is missing in one or there twice, or a recording cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"Expected a folder of conditions, got none - at {folder}")
    conditions = {sub.name: _items(sub) for sub in sorted(folder.iterdir()) if sub.is_dir()}
    conditions = {name: paths for name, paths in conditions.items() if paths}
    if len(conditions) < 2:
        raise InputError(
            f"Expected two folders of recordings or more, got {', '.join(conditions) or 'none'} - at {folder}",
            hint="One folder a condition, with files of the same names: reference/a.wav, int8/a.wav",
        )
    if ANCHOR in conditions:
        raise InputError(f"Expected no condition named {ANCHOR!r}, which the test makes itself - at {folder}")
    every = set().union(*conditions.values())
    for name, paths in conditions.items():
        if missing := sorted(every - set(paths)):
            raise InputError(f"Expected every item in every condition, {name} lacks {', '.join(missing)} - at {folder}")
    return {name: {item: read_audio(path) for item, path in paths.items()} for name, paths in conditions.items()}


def _items(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in SUFFIXES and found.setdefault(path.stem, path) != path:
            raise InputError(
                f"Expected one recording of each item, got {found[path.stem].name} and {path.name} - at {folder}"
            )
    return found


def make_plan(conditions: Mapping[str, Mapping[str, Clip]], kind: str, *, reference: str, seed: int) -> Plan:
    """Lay out a test.

    Parameters
    ----------
    conditions : mapping
        From `read_conditions`.
    kind : str
        `"mos"`: each clip is rated from 1 to 5. `"abx"`: is X the reference or the other condition?
    reference : str
        The condition that others are compared with, and that anchors are made from.
    seed : int
        Seed of the tokens, of the anchors' noise and of which trials come twice.

    Returns
    -------
    Plan
        Trials in a meaningless order; each rater's page shuffles them again.

    Raises
    ------
    InputError
        The kind is neither, there is no such reference, or the seed is negative.
    """
    if kind not in KINDS:
        raise InputError(f"Expected one of {', '.join(KINDS)}, got {kind!r} - at make_plan, kind")
    if reference not in conditions:
        raise InputError(f"Expected one of {', '.join(conditions)}, got {reference!r} - at make_plan, reference")
    if seed < 0:
        raise InputError(f"Expected a seed of zero or more, got {seed} - at make_plan, seed")
    rng = random.Random(seed)
    plan, tokens = Plan(kind, reference), {}
    anchored = rng.sample(sorted(conditions[reference]), k=min(ANCHORS, len(conditions[reference])))
    anchors = {item: _anchor(conditions[reference][item], seed) for item in anchored}
    for condition, clips in {**conditions, ANCHOR: anchors}.items():
        for item, clip in clips.items():
            token = tokens[condition, item] = _token(rng)
            plan.sources[token], plan.audio[token] = Source(condition, item), clip
    others = [name for name in conditions if kind == "mos" or name != reference]
    for item in conditions[reference]:
        for condition in [*others, *([ANCHOR] if item in anchors else [])]:
            pair = (tokens[condition, item], tokens[reference, item])
            role = ANCHOR if condition == ANCHOR else "test"
            plan.trials.append(Trial(_token(rng), pair[:1] if kind == "mos" else pair, role))
    tested = [trial for trial in plan.trials if trial.role == "test"]
    if kind == "mos":
        for trial in rng.sample(tested, k=min(REPEATS, len(tested))):
            plan.trials.append(Trial(_token(rng), trial.clips, "repeat"))
    rng.shuffle(plan.trials)
    return plan


def _token(rng: random.Random) -> Token:
    return f"{rng.getrandbits(48):012x}"


def _anchor(clip: Clip, seed: int) -> Clip:
    noise = np.random.default_rng(seed).standard_normal(clip.samples.size)
    samples = clip.samples * (1.0 + 10.0 ** (-ANCHOR_Q_DB / 20.0) * noise)
    return Clip(samples.astype(np.float32), clip.sample_rate, clip.source_rate)
