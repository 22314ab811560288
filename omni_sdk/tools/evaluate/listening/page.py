"""Writes a listening test: one HTML file for raters, one key for who asks them."""

from __future__ import annotations

import base64
import html
import importlib.resources
import io
import json
import random
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

from omni_sdk.errors import InputError
from omni_sdk.tools.evaluate.audio import Clip
from omni_sdk.tools.evaluate.extras import require
from omni_sdk.tools.evaluate.listening.loudness import matching_gains
from omni_sdk.tools.evaluate.listening.plan import Plan, make_plan, read_conditions
from omni_sdk.tools.evaluate.output import check_writable, escape_surrogates, write_files

FORMAT = 1
"""Of the key and of the results."""


@dataclass(frozen=True, slots=True)
class ListeningTest:
    """What was written.

    Attributes
    ----------
    page, key : Path
        The page goes to raters; the key stays, for it says what each clip is.
    trials : int
        Questions a rater.
    loudness_lufs : float
        What every clip was brought to.
    bytes : int
        Size of the page.
    """

    page: Path
    key: Path
    trials: int
    loudness_lufs: float
    bytes: int


def write_page(
    folder: str | Path,
    output: str | Path,
    *,
    kind: str = "mos",
    reference: str | None = None,
    title: str = "Listening test",
    seed: int | None = None,
) -> ListeningTest:
    """Make a blind listening test of the recordings in a folder.

    Parameters
    ----------
    folder : str or Path
        `folder/<condition>/<item>.wav`; every condition has every item.
    output : str or Path
        The page to write; its key gets the same name with `.key.json`, and is written first.
    kind : str
        `"mos"` (rate each clip, ITU-T P.800 absolute category rating) or `"abx"` (tell each condition from the
        reference).
    reference : str, optional
        Condition to compare with; the folder named `reference`, else the first by name.
    title : str
        Shown to raters.
    seed : int, optional
        For the same page again; random by default.

    Returns
    -------
    ListeningTest
        Both files are complete when this returns.

    Raises
    ------
    InputError
        The folder, kind or reference will not do; a file cannot be written, or the key of another test stands where
        this one's would; it says why.
    """
    page, key = check_writable(output), check_writable(Path(output).with_suffix(".key.json"))
    conditions = read_conditions(folder)
    chosen = reference or ("reference" if "reference" in conditions else next(iter(conditions)))
    seed = secrets.randbits(48) if seed is None else seed
    plan = make_plan(conditions, kind, reference=chosen, seed=seed)
    clips = list(plan.audio.values())
    loudness, gains = matching_gains([clip.samples for clip in clips], [clip.sample_rate for clip in clips])
    matched = dict(zip(plan.audio, gains, strict=True))
    name = f"{random.Random(seed).getrandbits(64):016x}"

    text = _page(plan, name, title, matched).encode()
    secret = escape_surrogates(json.dumps(_key(plan, name, loudness, matched), indent=1, ensure_ascii=False))
    if key.exists() and key.read_bytes() != secret:
        raise InputError(
            f"Expected a new key or the same one, got the key of another test - at {key}",
            hint="answers to that test can be scored with that key alone: choose another output, or move the key",
        )
    write_files({key: secret, page: text})
    return ListeningTest(page, key, len(plan.trials), loudness, len(text))


def _page(plan: Plan, name: str, title: str, gains: dict[str, float]) -> str:
    data = {
        "format": FORMAT,
        "test": name,
        "kind": plan.kind,
        # Sorted by token: where a clip stands tells nothing of what it is.
        "clips": {token: _encode(plan.audio[token], gains[token]) for token in sorted(plan.audio)},
        "trials": [{"trial": trial.token, "clips": sorted(trial.clips)} for trial in plan.trials],
    }
    parts = importlib.resources.files("omni_sdk.tools.evaluate.listening")
    page = (parts / "page.html").read_text(encoding="utf-8")
    for mark, content in (
        ("{{title}}", html.escape(title)),
        ("{{style}}", (parts / "page.css").read_text(encoding="utf-8")),
        ("{{script}}", (parts / "page.js").read_text(encoding="utf-8")),
        ("{{data}}", json.dumps(data).replace("<", "\\u003c")),
    ):
        page = page.replace(mark, content)
    return page


def _encode(clip: Clip, gain_db: float) -> str:
    wav = io.BytesIO()
    samples = clip.samples * 10.0 ** (gain_db / 20.0)
    require("soundfile").write(wav, samples, clip.sample_rate, format="WAV", subtype="PCM_16")
    return base64.b64encode(wav.getvalue()).decode()


def _key(plan: Plan, name: str, loudness: float, gains: dict[str, float]) -> dict[str, object]:
    return {
        "format": FORMAT,
        "test": name,
        "kind": plan.kind,
        "reference": plan.reference,
        "loudness_lufs": loudness,
        "clips": {token: {**asdict(source), "gain_db": gains[token]} for token, source in plan.sources.items()},
        "trials": {trial.token: {"clips": trial.clips, "role": trial.role} for trial in plan.trials},
    }
