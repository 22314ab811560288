"""A pipeline as its file describes it: voice activity, then stages in order."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omni_sdk.errors import InputError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

WAITS, INTERRUPTS, GOES_ON = "waits", "interrupts", "goes on"
SPEAKERS = (WAITS, INTERRUPTS, GOES_ON)
RESERVED = ("voice", "said", "heard")
"""What reports call voice activity, the speech and the answer."""
LONGEST_SECONDS = 60.0
"""Of a silence or a beginning: who waits longer has no conversation."""
ALL_KINDS = frozenset({"name", "kind", "sample_rate"})
KINDS: Mapping[str, frozenset[str]] = {
    "codes": ALL_KINDS | {"frames", "quantizers", "codebook", "seed", "frames_per_second"},
    "call": ALL_KINDS | {"function"},
    "model": ALL_KINDS | {"model", "settings"},
    "stream": ALL_KINDS | {"model", "settings", "step_frames", "quantizers"},
}
"""What a stage of each kind may have: any other key would do nothing."""
TYPES: Mapping[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (int, float)}
"""What TOML may give for a field of each type; a mapping for any other."""
REFERENCE = "reference"
"""In place of a model's path: Code2Wav at its full size with seeded weights, built when it is first asked for."""


@dataclass(frozen=True, slots=True)
class VoiceConfig:
    """When somebody speaks.

    Attributes
    ----------
    model : str
        Silero VAD.
    threshold : float
        Probability from which on a window is speech; 0.15 less ends it, or 0.01 where that is more.
    min_speech_seconds : float
        Speech that begins a turn.
    min_silence_seconds : float
        Silence that ends it: part of the latency, for nobody knows sooner that the speaker has finished.
    eager_seconds : float
        Silence after which an answer is begun on suspicion. It is heard only once the end is sure, and dropped where
        the speaker goes on, so the silence that makes sure is not time lost. 0 waits until the end is sure.
    settings : mapping
        `Settings` of the model.
    """

    model: str
    threshold: float = 0.5
    min_speech_seconds: float = 0.096
    min_silence_seconds: float = 0.096
    eager_seconds: float = 0.0
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StageConfig:
    """One stage.

    Attributes
    ----------
    name : str
        Unique, for the report.
    kind : str
        `"codes"`: seeded random codes, in place of a talker. `"call"`: a function of the user's. `"model"`: one run of
        a model an item. `"stream"`: a streaming model, fed `step_frames` at a time.
    function : str
        Of `"call"`: `module:function`; takes an item, gives one, or yields several.
    model : str
        Of `"model"` and `"stream"`: path, or `"reference"` for the built-in Code2Wav.
    step_frames : int
        Of `"stream"`: frames a step.
    sample_rate : int
        Of the last stage: Hz of the waveform, where its model is no bundle that says it.
    frames, quantizers, codebook, seed : int
        Of `"codes"`: how many frames a turn, of how many codes each, below which number, from which seed. `quantizers`
        also of a `"stream"` whose model leaves that number open.
    frames_per_second : float
        Of `"codes"`: how fast a talker gives frames; 0 gives all at once.
    settings : mapping
        `Settings` of the model.
    """

    name: str
    kind: str
    function: str = ""
    model: str = ""
    step_frames: int = 4
    sample_rate: int = 24_000
    frames: int = 25
    quantizers: int = 16
    codebook: int = 2048
    seed: int = 0
    frames_per_second: float = 0.0
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PipelineConfig:
    """A whole pipeline.

    Attributes
    ----------
    voice : VoiceConfig
        What finds turns in the audio.
    stages : tuple of StageConfig
        In order; the last gives waveforms.
    speaker : str
        What the recorded speaker does while an answer is made and played. `"waits"`: the recording stands still, in
        silence, until the answer has been heard. `"interrupts"`: it goes on, and who begins to speak again ends the
        answer. `"goes on"`: likewise, but answers queue up.
    """

    voice: VoiceConfig
    stages: tuple[StageConfig, ...]
    speaker: str = WAITS


def read_pipeline(path: str | Path, *, models: Mapping[str, str] | None = None) -> PipelineConfig:
    """Read a pipeline's file.

    Parameters
    ----------
    path : str or Path
        TOML with a table `[voice]` and one `[[stage]]` or more; model paths are relative to the file.
    models : mapping, optional
        Other models by stage name, `voice` for voice activity; relative to the working directory.

    Returns
    -------
    PipelineConfig
        Checked, but no model is opened yet.

    Raises
    ------
    InputError
        A key is unknown, missing or of another type; it says where.
    """
    path = Path(path)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"Expected a pipeline in TOML, got {type(error).__name__}: {error} - at {path}") from error
    _known(content, {"voice", "stage", "speaker"}, f"at {path}")
    tables = content.get("stage")
    if not isinstance(tables, list) or not tables:
        raise InputError(f"Expected one [[stage]] or more, got {tables!r} - at {path}")
    voice = _build(VoiceConfig, content.get("voice"), f"at {path}, [voice]")
    stages = [_build(StageConfig, table, f"at {path}, stage {n}") for n, table in enumerate(tables, start=1)]
    _check_voice(voice, f"at {path}, [voice]")
    for stage, table in zip(stages, tables, strict=True):
        _check(stage, f"at {path}, stage {stage.name!r}")
        _known(table, KINDS[stage.kind], f"at {path}, stage {stage.name!r} of kind {stage.kind}")
    others = dict(models or {})
    chosen = [
        _with_model(part, name, others, path.parent)
        for part, name in [(voice, "voice"), *((s, s.name) for s in stages)]
    ]
    if others:
        known = ", ".join(["voice", *(stage.name for stage in stages if stage.model)])
        raise InputError(f"Expected a model for one of {known}, got one for {', '.join(others)} - at models")
    names = [stage.name for stage in stages]
    if len(set(names)) < len(names):
        raise InputError(f"Expected stages with names of their own, got {', '.join(names)} - at {path}")
    speaker = content.get("speaker", WAITS)
    if speaker not in SPEAKERS:
        raise InputError(f"Expected one of {', '.join(SPEAKERS)}, got {speaker!r} - at {path}, speaker")
    return PipelineConfig(chosen[0], tuple(chosen[1:]), speaker)


def _with_model(part: Any, name: str, others: dict[str, str], folder: Path) -> Any:
    if not part.model or (part.model == REFERENCE and name not in others):
        return part
    model = others.pop(name, None)
    return dataclasses.replace(part, model=model if model is not None else str(folder / part.model))


def _build(kind: type[Any], table: object, where: str) -> Any:
    if not isinstance(table, dict):
        raise InputError(f"Expected a table, got {table!r} - {where}")
    fields = {f.name: f for f in dataclasses.fields(kind)}
    _known(table, set(fields), where)
    for name, f in fields.items():
        required = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        if required and name not in table:
            raise InputError(f"Expected the key {name}, got {', '.join(table) or 'none'} - {where}")
        expected: tuple[type, ...] = TYPES.get(str(f.type), (dict,))
        if name in table and (not isinstance(table[name], expected) or isinstance(table[name], bool)):
            raise InputError(f"Expected {f.type}, got {table[name]!r} - {where}, {name}")
    return kind(**table)


def _known(table: Mapping[str, Any], known: Set[str], where: str) -> None:
    if unknown := sorted(set(table) - known):
        raise InputError(f"Expected keys among {', '.join(sorted(known))}, got {', '.join(unknown)} - {where}")


def _check_voice(voice: VoiceConfig, where: str) -> None:
    for name in ("min_speech_seconds", "min_silence_seconds", "eager_seconds"):
        _check_range(getattr(voice, name), 0.0, LONGEST_SECONDS, f"{where}, {name}")
    _check_range(voice.threshold, 0.0, 1.0, f"{where}, threshold")


def _check_range(value: float, least: float, most: float, where: str) -> None:
    if not least <= value <= most:  # NaN is in no range
        raise InputError(f"Expected {least:g} to {most:g}, got {value} - {where}")


def _check(stage: StageConfig, where: str) -> None:
    if stage.kind not in KINDS:
        raise InputError(f"Expected kind to be one of {', '.join(KINDS)}, got {stage.kind!r} - {where}")
    needed = {"call": "function", "model": "model", "stream": "model"}.get(stage.kind)
    if needed and not getattr(stage, needed):
        raise InputError(f"Expected the key {needed} in a stage of kind {stage.kind}, got none - {where}")
    if stage.name in RESERVED:
        raise InputError(f"Expected another name than {', '.join(RESERVED)}, got {stage.name!r} - {where}, name")
    _check_range(stage.frames_per_second, 0.0, 1e6, f"{where}, frames_per_second")
    for name in ("step_frames", "sample_rate", "frames", "quantizers", "codebook", "seed"):
        least = 0 if name == "seed" else 1
        if getattr(stage, name) < least:
            raise InputError(f"Expected at least {least}, got {getattr(stage, name)} - {where}, {name}")
