"""What became of every setting, in words."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from omni_sdk import cpu, providers
from omni_sdk.session import Arena
from omni_sdk.settings import Settings
from omni_sdk.source import Source


@dataclass(frozen=True, slots=True)
class Effect:
    """One setting: as asked, as in effect, and who changed it why (empty when nobody did)."""

    setting: str
    asked: object
    effective: object
    reason: str = ""

    @property
    def changed(self) -> bool:
        """Whether what is in effect differs from what was asked."""
        return bool(self.reason)


@dataclass(frozen=True, slots=True)
class Explanation:
    """How a model really runs. `str` of it reads well.

    Attributes
    ----------
    model : str
    settings : tuple of Effect
    placement : mapping of str to list of str
        Provider -> its nodes as `"name (Operator)"`, where more than the CPU was asked for; those that fell to the CPU
        stand under its name.
    bytes_copied_in, bytes_copied_out : int
        Staged so far because an array could not be bound in place.
    not_warmed : tuple of mapping
        Input shapes that ran without a warm-up.
    compile_cache : str
        `"hit"`, `"built"`, or `"off"` and why.
    """

    model: str
    settings: tuple[Effect, ...]
    placement: Mapping[str, list[str]]
    bytes_copied_in: int
    bytes_copied_out: int
    not_warmed: tuple[Mapping[str, tuple[int, ...]], ...]
    compile_cache: str

    def __getitem__(self, setting: str) -> Effect:
        return {effect.setting: effect for effect in self.settings}[setting]

    def __str__(self) -> str:
        width = max(len(effect.setting) for effect in self.settings)
        lines = [self.model]
        for effect in self.settings:
            asked = f" (asked: {effect.asked!r}; {effect.reason})" if effect.changed else ""
            lines.append(f"  {effect.setting:<{width}}  {effect.effective!r}{asked}")
        lines += [f"  nodes on {provider}: {_counted(nodes)}" for provider, nodes in self.placement.items()]
        lines.append(f"  compile cache: {self.compile_cache}")
        lines.append(f"  copied so far: {self.bytes_copied_in} bytes in, {self.bytes_copied_out} bytes out")
        lines += [f"  never warmed: {_shapes(shapes)}" for shapes in self.not_warmed]
        return "\n".join(lines)


def effects(
    settings: Settings,
    overrides: Mapping[str, tuple[object, str]],
    active_providers: Iterable[str],
    placement: Mapping[str, list[str]] | None = None,
) -> tuple[Effect, ...]:
    """Every field of the settings with what became of it.

    Parameters
    ----------
    settings : Settings
    overrides : mapping of str to (object, str)
        What the model itself changed: the value in effect, and why.
    active_providers : iterable of str
        That ONNX Runtime really uses.
    placement : mapping of str to list of str, optional
        Provider -> its nodes.
    """
    changed = {**_device_changes(settings), **_provider_changes(settings, active_providers, placement), **overrides}
    rows = []
    for field in dataclasses.fields(settings):
        asked = getattr(settings, field.name)
        effective, reason = changed.get(field.name, (asked, ""))
        rows.append(Effect(field.name, asked, effective, reason))
    return tuple(rows)


def overrides_of(settings: Settings, source: Source, bindable: bool, caches: bool) -> dict[str, tuple[object, str]]:
    """What a model's own nature changes of its settings: field -> value in effect, and why."""
    overrides: dict[str, tuple[object, str]] = {}
    if settings.io_binding and not bindable:
        overrides["io_binding"] = (False, "an input or output is no tensor of numbers")
    if settings.cache_bytes and not caches:
        why = "a random operator" if source.is_random else "an input or output that is no tensor of numbers"
        overrides["cache_bytes"] = (0, f"the model has {why}")
    asked = (settings.arena_bytes, settings.arena_extend_strategy)
    if settings.arena_bytes is not None and Arena.registered not in (None, asked):
        overrides["arena_bytes"] = (Arena.registered[0], "the process already had an arena")
    return overrides


def _device_changes(settings: Settings) -> dict[str, tuple[object, str]]:
    changed: dict[str, tuple[object, str]] = {}
    quota = cpu.quota()
    allowed = f"a quota of {quota:g} processors" if quota is not None else "affinity"
    if settings.intra_op_num_threads == "auto":
        changed["intra_op_num_threads"] = (settings.intra_threads, f"physical cores that {allowed} leaves")
    if settings.execution_mode == "sequential" and settings.inter_op_num_threads != 1:
        changed["inter_op_num_threads"] = (1, "sequential mode runs one operator at a time")
    elif settings.inter_op_num_threads == "auto":
        changed["inter_op_num_threads"] = (settings.inter_threads, f"physical cores that {allowed} leaves")
    if settings.execution_mode == "parallel" and settings.enable_mem_pattern:
        changed["enable_mem_pattern"] = (False, "ONNX Runtime turns it off in parallel mode")
    if settings.memory_limit is not None:
        changed["memory_limit"] = (settings.memory_limit_bytes, "in bytes")
    return changed


def _provider_changes(
    settings: Settings, active_providers: Iterable[str], placement: Mapping[str, list[str]] | None
) -> dict[str, tuple[object, str]]:
    """Which providers run with which options, and why that is not what was asked."""
    asked = [entry if isinstance(entry, str) else entry[0] for entry in settings.providers]
    given, active = dict(settings.provider_list()), list(active_providers)
    reasons, effective = [], []
    for name in map(providers.long_name, asked):
        if name not in given:
            reasons.append(f"{name} is not installed, and allow_fallback is on")
        elif name not in active:
            reasons.append(f"{name} refused the model, and allow_fallback is on")
        elif placement and name not in placement:
            reasons.append(f"{name} takes no node")
        else:
            effective.append((name, given[name]) if given[name] else name)
    own = [dict(entry[1]) if not isinstance(entry, str) else {} for entry in settings.providers]
    if any(given.get(name, {}) != mine for name, mine in zip(map(providers.long_name, asked), own, strict=True)):
        reasons = reasons or ["options that were not asked for are this package's defaults"]
    return {"providers": (tuple(effective) or (providers.CPU,), "; ".join(reasons))} if reasons else {}


def _counted(nodes: list[str]) -> str:
    """How many nodes, and of which operators: `"12 (9 Conv, 3 Add)"`."""
    operators = Counter(node.rpartition("(")[2].removesuffix(")") for node in nodes)
    return f"{len(nodes)} ({', '.join(f'{count} {name}' for name, count in operators.most_common())})"


def _shapes(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
