"""Who takes part: settings of this package, raw ONNX Runtime, and the peers a user would pick instead."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from omni_sdk import profiles
from omni_sdk.errors import InputError, OmniError
from omni_sdk.settings import PRESETS, Settings

Kind = Literal["settings", "session", "openvino", "callable"]

DEFAULT = ("baseline", "ultra", "balanced", "session")
NAMES = frozenset({*PRESETS, "tuned", "session", "openvino"})
MODEL_SUFFIXES = (".onnx", ".ort")


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to run a model.

    Attributes
    ----------
    name : str
        As the report calls it.
    kind : {"settings", "session", "openvino", "callable"}
        `"settings"` is `omni_sdk.load`; `"session"` is `onnxruntime.InferenceSession.run` with ORT's defaults;
        `"openvino"` is OpenVINO's own runtime; `"callable"` is a function of the user's.
    model : str
        Path of the model.
    settings : Settings, optional
        Of the kind `"settings"`.
    function : str, optional
        Of the kind `"callable"`: `module:function`, called with the model's path; returns a callable that takes a
        mapping of arrays and returns one.
    problem : str
        Why it cannot take part; empty when it can.
    """

    name: str
    kind: Kind
    model: str
    settings: Settings | None = None
    function: str | None = None
    problem: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON and for the worker."""
        return {
            "name": self.name,
            "kind": self.kind,
            "model": self.model,
            "settings": None if self.settings is None else self.settings.to_dict(),
            "function": self.function,
            "problem": self.problem,
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Contender:
        """The way back from `to_dict`."""
        settings = plain["settings"]
        return cls(**{**plain, "settings": None if settings is None else Settings.from_dict(settings)})


def parse(text: str, model: str) -> Contender:
    """A contender as the command line names it; one that cannot take part says why in `problem`.

    Parameters
    ----------
    text : str
        A preset's name, `tuned`, a settings file (`.toml`), `session`, `openvino`, `provider:NAME`,
        `module:function`, another model's path, or `MODEL@` before any of these.
    model : str
        The model where `text` names none.
    """
    path, how = _split(text, model)
    try:
        contender = _parsed(text, path, how)
    except OmniError as error:
        return Contender(text, "settings", path, problem=str(error))
    if not Path(path).exists():
        return Contender(text, contender.kind, path, problem=f"Expected a model, got no such file - at {path}")
    return contender


def parse_all(texts: Iterable[str | Contender], model: str) -> list[Contender]:
    """Contenders by distinct names.

    Raises
    ------
    InputError
        When two have one name.
    """
    found = [text if isinstance(text, Contender) else parse(text, model) for text in texts]
    names = [contender.name for contender in found]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"Expected each contender once, got {name!r} twice - at bench")
    return found


def _split(text: str, model: str) -> tuple[str, str]:
    if text in NAMES:  # also where a folder bears that name: ./baseline is the folder
        return model, text
    if not Path(text).exists() and "@" in text:
        # Paths may hold the sign too: it divides where a model stands before it, else at the last one.
        places = [position for position, char in enumerate(text) if char == "@"]
        place = next((each for each in places if Path(text[:each]).exists() and each), places[-1])
        return text[:place], text[place + 1 :]
    looks_like_model = text.endswith(MODEL_SUFFIXES) or Path(text).is_dir()
    return (text, "balanced") if looks_like_model else (model, text)


def _parsed(name: str, model: str, how: str) -> Contender:
    if how in PRESETS:
        return Contender(name, "settings", model, Settings.from_dict({"preset": how}))
    if how == "tuned":
        return Contender(name, "settings", model, profiles.settings_for(model))
    if how in ("session", "openvino"):
        return Contender(name, how, model)  # type: ignore[arg-type]
    if how.endswith(".toml"):
        if not Path(how).is_file():
            raise InputError(f"Expected a settings file, got no such file - at {how}")
        return Contender(name, "settings", model, Settings.from_file(how))
    if how.startswith("provider:"):
        settings = Settings(providers=(how.removeprefix("provider:"),))
        return Contender(name, "settings", model, settings)
    if ":" in how:
        return Contender(name, "callable", model, function=how)
    raise InputError(
        f"Expected a preset, a settings file, session, openvino, provider:NAME, module:function or a model,"
        f" got {how!r} - at --against",
        hint=f"presets: {', '.join(PRESETS)}, tuned",
    )
