"""What became of every setting, in words."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from omni_sdk import cpu, providers
from omni_sdk.process_pools import Arena, Threads
from omni_sdk.settings import Settings
from omni_sdk.source import Source

# Session entries that say the same as a field, and whether they say the opposite.
_ENTRIES_OF = {
    "allow_spinning": (("session.intra_op.allow_spinning", "session.inter_op.allow_spinning"), False),
    "set_denormal_as_zero": (("session.set_denormal_as_zero",), False),
    "prepacking": (("session.disable_prepacking",), True),
}


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
    changed = {
        **_device_changes(settings),
        **_entry_changes(settings),
        **_provider_changes(settings, active_providers, placement),
        **overrides,
    }
    denormals = changed.get("set_denormal_as_zero", (settings.set_denormal_as_zero, ""))[0]
    if flushes_denormals() != denormals:
        changed["set_denormal_as_zero"] = _denormals(bool(denormals))
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
    return {**overrides, **_arena_changes(settings), **_pool_changes(settings)}


def flushes_denormals() -> bool:
    """Whether arithmetic in the thread that asks takes denormal floats for zero."""
    tiny = np.full(16, 1e-20, np.float32)
    return not (tiny * tiny).any()


def _denormals(asked: bool) -> tuple[object, str]:
    """ONNX Runtime sets the threads that call it once, as the first session of the process asks."""
    if asked:
        return False, "the process's first session did not ask for it: only threads of the model's own pool flush"
    return True, "the process's first session asked for it: its thread, and those begun there, flush in numpy too"


def _arena_changes(settings: Settings) -> dict[str, tuple[object, str]]:
    """Of the arena: one that the process shares is what it was made as."""
    shared = settings.entries().get("session.use_env_allocators") == "1"
    if not shared or Arena.registered is None:
        changed: dict[str, tuple[object, str]] = {}
        if settings.arena_bytes is not None:
            changed["arena_bytes"] = (None, "session_entries leave the session an arena of its own")
        if settings.arena_extend_strategy != "power_of_two":
            changed["arena_extend_strategy"] = ("power_of_two", "it is that of arena_bytes; a session's own grows so")
        return changed
    size, strategy = Arena.registered
    why = "the process already had an arena" if settings.arena_bytes else "sessions on shared threads share an arena"
    changed = {}
    if size != settings.arena_bytes:
        changed["arena_bytes"] = (size, why)
    if strategy != settings.arena_extend_strategy:
        changed["arena_extend_strategy"] = (strategy, why)
    if not settings.enable_cpu_mem_arena:
        changed["enable_cpu_mem_arena"] = (True, "the arena that the process shares is used")
    return changed


def _pool_changes(settings: Settings) -> dict[str, tuple[object, str]]:
    """Of threads, where the process has a pool that every session runs on."""
    if Threads.sized is None:
        return {}
    changed: dict[str, tuple[object, str]] = {}
    inside, across = Threads.sized
    why = f"the process shares a pool, and whoever made it sized it at {inside}"
    if inside != settings.intra_threads:
        changed["intra_op_num_threads"] = (inside, why)
    if settings.execution_mode == "parallel" and across != settings.inter_threads:
        changed["inter_op_num_threads"] = (across, "the process shares a pool")
    if not settings.shared_threads:
        changed["shared_threads"] = (True, "once a process shares a pool, every session runs on it")
    if not settings.allow_spinning:  # `session.open_session` asks for the stop
        why = "threads of the pool that the process shares spin, and are stopped when a run ends"
        changed["allow_spinning"] = ("during runs", why)
    return changed


def _entry_changes(settings: Settings) -> dict[str, tuple[object, str]]:
    """Session entries have the last word on what fields say too."""
    changed: dict[str, tuple[object, str]] = {}
    for field, (names, negated) in _ENTRIES_OF.items():
        given = [(name, settings.session_entries[name]) for name in names if name in settings.session_entries]
        found = {(settings.entries().get(name, "0") == "1") != negated for name in names}
        if given and found != {getattr(settings, field)}:
            effective = found.pop() if len(found) == 1 else {name: settings.entries()[name] for name in names}
            changed[field] = (
                effective,
                "session_entries have " + ", ".join(f"{name}={value}" for name, value in given),
            )
    return changed


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
