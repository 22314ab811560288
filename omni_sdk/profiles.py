"""Tuned profiles: the settings that won on this device, kept per model, CPU and ONNX Runtime version.

A profile is one small JSON file in a private folder, named by the model's fingerprint and by a digest of the CPU and
the version, so that a home shared by two machines holds a profile for each. It counts for exactly the three it was
measured with: when any of them changes, `find` finds none, and says which of the three did change.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xxhash import xxh3_64_hexdigest

from omni_sdk import cpu, files, folders, strict
from omni_sdk import session as sessions
from omni_sdk.errors import BundleError, OmniError, SettingsError
from omni_sdk.folders import CacheDir
from omni_sdk.settings import Settings
from omni_sdk.source import Source

FORMAT = "omni-sdk tuned profile"
SCHEMA = 1
PRIVATE = "profiles are read only from a folder of this user's own, mode 700, which nobody else can replace"


@dataclass(frozen=True, slots=True)
class Profile:
    """Settings that were measured to win.

    Attributes
    ----------
    model : str
        Fingerprint of the model, hexadecimal.
    cpu : str
        The processor, what of it the process could use, and its instruction sets.
    onnxruntime : str
        Version.
    goal : str
        What was tuned for.
    settings : Settings
    measured : mapping of str to JSON
        The figures that decided, for people to read.
    """

    model: str
    cpu: str
    onnxruntime: str
    goal: str
    settings: Settings
    measured: Mapping[str, strict.JSON]

    @property
    def filename(self) -> str:
        """`MODEL-DEVICE.json`."""
        return f"{self.model}-{xxh3_64_hexdigest(f'{self.cpu}|{self.onnxruntime}'.encode())}.json"

    def to_text(self) -> str:
        """As JSON."""
        document = {
            "format": FORMAT,
            "schema": SCHEMA,
            "model": self.model,
            "cpu": self.cpu,
            "onnxruntime": self.onnxruntime,
            "goal": self.goal,
            "settings": self.settings.to_dict(),
            "measured": self.measured,
        }
        return json.dumps(document, indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_bytes(cls, text: bytes) -> Profile:
        """The way back.

        Raises
        ------
        BundleError
            When the text is no whole profile.
        SettingsError
            When its settings are none that this version takes.
        """
        document = strict.Reader(strict.decode(text, "profile"), "profile")
        if document.take("format") != FORMAT:
            strict.refuse(f"the format {FORMAT!r}", "another one", "profile.format")
        if document.integer("schema", minimum=1) > SCHEMA:
            strict.refuse(f"schema {SCHEMA}", "a later one", "profile.schema")
        profile = cls(
            model=document.digest("model"),
            cpu=document.string("cpu"),
            onnxruntime=document.string("onnxruntime"),
            goal=document.string("goal"),
            settings=_settings(document.mapping("settings")),
            measured=document.mapping("measured"),
        )
        document.close()
        return profile


def blank(source: Source, goal: str, settings: Settings, measured: Mapping[str, strict.JSON]) -> Profile:
    """A profile of this model on this device, now."""
    return Profile(source.fingerprint.hex(), device(), sessions.ort_version(), goal, settings, measured)


def device() -> str:
    """The processor as a profile names it: with the cores this process may use, since thread counts hang on them."""
    here = cpu.describe(cpu.affinity())
    return f"{here.name}, {cpu.usable_cores()} usable cores, {' '.join(here.useful) or 'no vector extensions'}"


def folder(cache_dir: CacheDir = ...) -> Path:
    """Where profiles stand: below the cache folder, the usual one where `cache_dir` turns the compile cache off."""
    place = folders.cache(cache_dir) or folders.cache()
    assert place is not None
    return place / "profiles"


def make_folder(cache_dir: CacheDir = ...) -> Path:
    """The folder of profiles, made where there is none.

    Raises
    ------
    SettingsError
        When it cannot be made, or is not private to this user.
    """
    place = folder(cache_dir)
    try:
        folders.make_private(place)
    except OSError as error:
        raise _not_kept(place, error) from error
    return place


def save(profile: Profile, cache_dir: CacheDir = ...) -> Path:
    """Keep a profile in place of an earlier one; what stands there is whole at every instant.

    Raises
    ------
    SettingsError
        When the folder is not private to this user, or the disk does not take the file.
    """
    path = make_folder(cache_dir) / profile.filename
    try:
        folders.put(path, profile.to_text())
    except OSError as error:
        raise _not_kept(path, error) from error
    return path


def _not_kept(path: Path, error: OSError) -> SettingsError:
    return SettingsError(f"Expected to keep a profile, got {error.strerror or error} - at {path}", hint=PRIVATE)


def find(source: Source, cache_dir: CacheDir = ...) -> Profile | None:
    """The profile for this model, CPU and ONNX Runtime; None where there is none.

    Raises
    ------
    SettingsError
        When there is one and it is cut short, damaged or not this user's own.
    """
    wanted = blank(source, "", Settings(), {})
    path = folder(cache_dir) / wanted.filename
    try:
        folders.check_private(path.parent)
        if not os.path.lexists(path):
            return None
        text = _read(path)
    except FileNotFoundError:
        return None
    except (OSError, BundleError) as error:
        why = error.strerror or error if isinstance(error, OSError) else f"one that is not to be read ({error})"
        raise SettingsError(f"Expected a readable profile, got {why} - at {path}", hint=PRIVATE) from error
    try:
        found = Profile.from_bytes(text)
    except OmniError as error:
        raise SettingsError(
            f"Expected a tuned profile, got a file that is none ({error}) - at {path}", hint="tune the model anew"
        ) from error
    same = (found.model, found.cpu, found.onnxruntime) == (wanted.model, wanted.cpu, wanted.onnxruntime)
    return found if same else None


def settings_for(source: Source | str | os.PathLike[str] | bytes, cache_dir: CacheDir = ...) -> Settings:
    """The tuned settings of a model on this device: what `load(..., settings="tuned")` takes.

    Raises
    ------
    SettingsError
        When there is no profile that holds here; says which of model, CPU and ONNX Runtime changed since.
    """
    source = source if isinstance(source, Source) else Source(source)
    profile = find(source, cache_dir)
    if profile is None:
        raise SettingsError(
            f"Expected a tuned profile for this model, CPU and onnxruntime, got {_stale(source, cache_dir)}"
            f" - at settings='tuned' for {source}",
            hint=f"omni-sdk tune {source}",
        )
    return profile.settings


def effects(tuned: Settings) -> dict[str, tuple[object, str]]:
    """What a profile changed of the defaults, as `Model.explain` tells it: field -> value and reason."""
    fields = (field.name for field in dataclasses.fields(Settings))
    values = ((name, getattr(tuned, name)) for name in fields if getattr(tuned, name) != getattr(Settings(), name))
    return {name: (value, "from the tuned profile") for name, value in values}


def _stale(source: Source, cache_dir: CacheDir) -> str:
    """What there is instead of a profile that holds."""
    wanted = blank(source, "", Settings(), {})
    for path in sorted(folder(cache_dir).glob(f"{wanted.model}-*.json")):
        try:
            found = Profile.from_bytes(_read(path))
        except (OmniError, OSError):
            continue
        pairs = (
            ("onnxruntime", found.onnxruntime, wanted.onnxruntime),
            ("the CPU", found.cpu, wanted.cpu),
        )
        changed = [f"{what} {then}, where now it is {now}" for what, then, now in pairs if then != now]
        return f"one measured with {' and '.join(changed)}"
    return "none"


def _read(path: Path) -> bytes:
    with files.opened(path.parent, path.name) as (descriptor, _):
        return os.read(descriptor, strict.MAX_BYTES + 1)


def _settings(plain: Mapping[str, Any]) -> Settings:
    try:
        return Settings.from_dict(plain)
    except (TypeError, AttributeError, ValueError) as error:
        raise SettingsError(f"Expected settings, got values that are none ({error}) - at profile.settings") from error
