"""The ablation: each lever taken away from the full settings and added alone to the bare ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from omni_sdk.errors import InputError
from omni_sdk.providers import long_name
from omni_sdk.settings import Settings
from omni_sdk.tools.measure.compare import Comparison, compare
from omni_sdk.tools.measure.contenders import Contender
from omni_sdk.tools.measure.results import Benchmark

Recommendation = Literal["KEEP", "OPTIONAL", "DROP", "NO EFFECT", "NOT REAL", "UNCLEAR"]

EFFECTS = ("latency", "first", "warmup", "load", "memory")

LEVEL = 0.99
"""Of the intervals here: with ten comparisons a lever, 95 % would find something in every other one by chance."""

# Fields that are one lever together.
TOGETHER = {"arena_extend_strategy": "arena_bytes"}

# Fields that decide nothing of what is measured.
BESIDE = {"strict", "log_severity_level", "async_workers", "allow_fallback"}


@dataclass(frozen=True, slots=True)
class Lever:
    """One difference between two settings.

    Attributes
    ----------
    name : str
        A field, a session entry, or a provider's option.
    before, after : object
        Its value in the bare settings and in the full ones; None where it is not set.
    added, removed : Settings
        The bare settings with it, and the full ones without it.
    unreal : str
        Why it can do nothing at all; empty when it can.
    """

    name: str
    before: object
    after: object
    added: Settings
    removed: Settings
    unreal: str = ""


def levers(bare: Settings, full: Settings, model: object = None) -> list[Lever]:
    """Everything in which two settings differ, one lever each: fields, session entries, options of providers.

    Raises
    ------
    InputError
        When they do not differ.
    """
    found = [*_fields(bare, full), *_entries(bare, full), *_options(bare, full)]
    if not found:
        raise InputError("Expected settings that differ, got equal ones - at ablation")
    return [dataclasses.replace(lever, unreal=_unreal(lever, bare, model)) for lever in found]


def contenders(bare: Contender, full: Contender) -> list[Contender]:
    """The two, and for every lever one without and one with it.

    Raises
    ------
    InputError
        When either is no settings contender, or they do not differ.
    """
    if bare.settings is None or full.settings is None:
        raise InputError("Expected two settings, got another kind of contender - at ablation")
    # Options that do nothing are what an ablation is to find: none of them may keep a process from loading.
    bare = dataclasses.replace(bare, settings=bare.settings.replace(strict=False))
    full = dataclasses.replace(full, settings=full.settings.replace(strict=False))
    assert bare.settings is not None and full.settings is not None
    made = [full, bare]
    for lever in levers(bare.settings, full.settings, full.model):
        without = dataclasses.replace(full, name=f"{full.name} - {lever.name}", settings=lever.removed)
        made += [without, dataclasses.replace(bare, name=f"{bare.name} + {lever.name}", settings=lever.added)]
    return made


@dataclass(frozen=True, slots=True)
class Effect:
    """What one lever does.

    Attributes
    ----------
    lever : Lever
    removed : mapping of str to Comparison
        Full with the lever over full without it, by metric: below 1 is a gain.
    added : mapping of str to Comparison
        Bare with the lever over bare.
    recommendation : str
    reason : str
    """

    lever: Lever
    removed: Mapping[str, Comparison]
    added: Mapping[str, Comparison]
    recommendation: Recommendation
    reason: str


def effects(benchmark: Benchmark) -> list[Effect]:
    """The ablation's table, from a benchmark that was run on `contenders`."""
    if benchmark.ablation is None:
        return []
    full, bare = (benchmark[name] for name in benchmark.ablation)
    assert full.contender.settings is not None and bare.contender.settings is not None
    table = []
    for lever in levers(bare.contender.settings, full.contender.settings, full.contender.model):
        without, with_it = benchmark[f"{full.name} - {lever.name}"], benchmark[f"{bare.name} + {lever.name}"]
        removed = {metric: compare(without, full, metric, level=LEVEL) for metric in EFFECTS}
        added = {metric: compare(bare, with_it, metric, level=LEVEL) for metric in EFFECTS}
        failure = without.failure or with_it.failure
        table.append(Effect(lever, removed, added, *_recommend(lever, removed, added, failure)))
    return table


def _recommend(
    lever: Lever, removed: Mapping[str, Comparison], added: Mapping[str, Comparison], failure: str
) -> tuple[Recommendation, str]:
    """KEEP what makes steady inference quicker, DROP what makes it slower; else gains and costs elsewhere decide."""
    if lever.unreal:
        return "NOT REAL", lever.unreal
    if failure:
        return "UNCLEAR", f"not measured: {failure}"
    verdicts = {metric: {removed[metric].verdict, added[metric].verdict} for metric in EFFECTS}
    if any("unclear" in found for found in verdicts.values()):
        return "UNCLEAR", "too few rounds for a verdict"
    gains = [metric for metric, found in verdicts.items() if "lower" in found]
    costs = [metric for metric, found in verdicts.items() if "higher" in found]
    if not gains and not costs:
        return "NO EFFECT", "every difference is inside the noise"
    said = "; ".join(
        f"{word} {', '.join(metrics)}" for word, metrics in (("better:", gains), ("worse:", costs)) if metrics
    )
    if "latency" in gains and "latency" not in costs:
        return "KEEP", said
    if "latency" in costs and "latency" not in gains:
        return ("OPTIONAL" if gains else "DROP"), said
    if gains and not costs:
        return "KEEP", said
    return ("OPTIONAL" if gains else "DROP"), said


def _fields(bare: Settings, full: Settings) -> Iterator[Lever]:
    for field in dataclasses.fields(Settings):
        name = field.name
        if name in BESIDE or name in TOGETHER or name in ("session_entries", "providers"):
            continue
        group = [name, *(other for other, leader in TOGETHER.items() if leader == name)]
        before, after = ({each: getattr(settings, each) for each in group} for settings in (bare, full))
        if before != after:
            yield Lever(name, before[name], after[name], bare.replace(**after), full.replace(**before))


def _entries(bare: Settings, full: Settings) -> Iterator[Lever]:
    for key in sorted(bare.session_entries.keys() | full.session_entries.keys()):
        before, after = bare.session_entries.get(key), full.session_entries.get(key)
        if before != after:
            added = bare.replace(session_entries=_set(bare.session_entries, key, after))
            yield Lever(
                key, before, after, added, full.replace(session_entries=_set(full.session_entries, key, before))
            )


def _options(bare: Settings, full: Settings) -> Iterator[Lever]:
    before, after = (_provider_options(settings) for settings in (bare, full))
    if list(before) != list(after):
        yield Lever(
            "providers",
            ", ".join(before),
            ", ".join(after),
            bare.replace(providers=full.providers),
            full.replace(providers=bare.providers),
        )
        return
    for provider in before:
        for key in sorted(before[provider].keys() | after[provider].keys()):
            old, new = before[provider].get(key), after[provider].get(key)
            if old != new:
                added = {**before, provider: _set(before[provider], key, new)}
                removed = {**after, provider: _set(after[provider], key, old)}
                yield Lever(
                    f"{provider}.{key}",
                    old,
                    new,
                    bare.replace(providers=tuple(added.items())),
                    full.replace(providers=tuple(removed.items())),
                )


def _provider_options(settings: Settings) -> dict[str, dict[str, str]]:
    entries = ((entry, {}) if isinstance(entry, str) else (entry[0], dict(entry[1])) for entry in settings.providers)
    return {long_name(name): dict(options) for name, options in entries}


def _set(mapping: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    rest = {each: mapping[each] for each in mapping if each != key}
    return rest if value is None else {**rest, key: value}


def _unreal(lever: Lever, bare: Settings, model: object) -> str:
    """What `Settings.check` says of this very lever where that means that it does nothing; else empty."""
    key = lever.name.removeprefix("CPUExecutionProvider.")
    before = {finding.message for finding in bare.check(model)}
    for finding in lever.added.check(model):
        mine = key in finding.setting or f"'{key}'" in finding.message
        never = finding.level == "error" or "works only for" in finding.message or "no effect" in finding.message
        if mine and never and finding.message not in before:
            return finding.message
    return ""
