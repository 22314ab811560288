"""What a setting may be, and what of it ONNX Runtime would ignore or cannot use here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from omni_sdk import cpu, memory, providers
from omni_sdk.errors import SettingsError
from omni_sdk.ort_options import ARENA_STRATEGIES, SWITCHES, FixedOptions, SessionEntries

if TYPE_CHECKING:
    from omni_sdk.settings import Settings

Provider = str | tuple[str, Mapping[str, str]]

# ONNX Runtime's arena configuration and thread counts are C integers.
MOST_OF_AN_INT = 2**31 - 1
MOST_OF_A_SIZE = 2**63 - 1

# Entries that work for ORT-format models loaded from bytes, and for nothing else.
ORT_BYTES_ENTRIES = {"session.use_ort_model_bytes_directly", "session.use_ort_model_bytes_for_initializers"}
# An ORT-format file carries this identifier four bytes in (flatbuffers' file identifier).
ORT_FORMAT_MAGIC = b"ORTM"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that `Settings.check` has to say: `level` is `"error"`, `"warning"` or `"info"`."""

    level: Literal["error", "warning", "info"]
    setting: str
    message: str
    hint: str | None = None

    def __str__(self) -> str:
        return f"{self.level}: {self.setting}: {self.message}" + (f" ({self.hint})" if self.hint else "")


def _is_count(value: object, least: int, most: float = float("inf")) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _is_passes(value: object) -> bool:
    if isinstance(value, tuple):
        return len(value) == 2 and _is_count(value[0], 1) and _is_count(value[1], value[0])
    return _is_count(value, 0)


def _is_context(value: object) -> bool:
    return (
        all(_is_count(side, 0) for side in value) and len(value) == 2
        if isinstance(value, tuple)
        else _is_count(value, 0)
    )


def _one_of(*names: str) -> tuple[str, Callable[[object], bool]]:
    return "one of " + ", ".join(names), lambda value: value in names


_THREADS = (
    "a number of threads, 1 or more, or 'auto'",
    lambda value: value == "auto" or _is_count(value, 1, MOST_OF_AN_INT),
)
_BYTES = ("bytes, 0 to 2**63 - 1", lambda value: _is_count(value, 0, MOST_OF_A_SIZE))
_SOME = ("a whole number, 1 or more, or None", lambda value: value is None or _is_count(value, 1))
_BOOL = ("True or False", lambda value: isinstance(value, bool))

_VALUES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "graph_optimization_level": _one_of("disable", "basic", "extended", "all"),
    "intra_op_num_threads": _THREADS,
    "inter_op_num_threads": _THREADS,
    "execution_mode": _one_of("sequential", "parallel"),
    "arena_bytes": (
        "bytes, 1 or more and less than 2 GiB, or None (the arena grows beyond its first block)",
        lambda value: value is None or _is_count(value, 1, MOST_OF_AN_INT),
    ),
    "arena_extend_strategy": _one_of(*ARENA_STRATEGIES),
    "buffer_idle_bytes": _BYTES,
    "cache_bytes": _BYTES,
    "warmup_passes": ("a number of passes, or (least, most)", _is_passes),
    "max_chunk": _SOME,
    "chunk_context": (
        "frames, 0 or more, or (before, after), or None",
        lambda value: value is None or _is_context(value),
    ),
    "async_workers": ("a whole number, 1 or more", lambda value: _is_count(value, 1)),
    "log_severity_level": ("0 (verbose) to 4 (fatal)", lambda value: _is_count(value, 0) and value <= 4),
    "memory_limit": ("bytes, a size or a share", lambda value: value is None or bool(memory.parse(value))),
    **dict.fromkeys(
        (
            "enable_mem_pattern",
            "enable_mem_reuse",
            "enable_cpu_mem_arena",
            "allow_spinning",
            "set_denormal_as_zero",
            "prepacking",
            "use_deterministic_compute",
            "allow_fallback",
            "strict",
            "io_binding",
            "cache_random",
            "shrink_arena",
            "shared_threads",
        ),
        _BOOL,
    ),
}


def check_value(name: str, value: object) -> None:
    """Raises `SettingsError` when the field `name` cannot take `value`."""
    expected, holds = _VALUES.get(name, ("", lambda value: True))
    try:
        fits = holds(value)
    except TypeError:  # an unhashable or incomparable value
        fits = False
    if not fits:
        raise SettingsError(f"Expected {expected}, got {value!r} - at Settings.{name}")


def as_providers(providers: object) -> tuple[Provider, ...]:
    """Providers, each a name or a name with options, in a form that nobody changes; `SettingsError` for others."""
    if isinstance(providers, str):
        return (providers,)
    if isinstance(providers, (list, tuple)) and providers:
        return tuple(map(_provider, providers))
    raise SettingsError(f"Expected one or more provider names, got {providers!r} - at Settings.providers")


def as_entries(entries: object) -> FixedOptions:
    """Names and values as text, in a form that nobody changes; `SettingsError` for what is no mapping."""
    if not isinstance(entries, Mapping):
        raise SettingsError(f"Expected a mapping of names to values, got {entries!r} - at Settings.session_entries")
    return _fixed(entries, "Settings.session_entries")


def _fixed(options: Mapping[Any, Any], where: str) -> FixedOptions:
    for key, value in options.items():
        if value is None:  # whose text would be a value like others
            raise SettingsError(f"Expected a value, got None for {key!r} - at {where}", hint="leave it out")
    return FixedOptions({str(key): str(value) for key, value in options.items()})


def _provider(entry: Any) -> Provider:
    if isinstance(entry, str):
        return entry
    if (
        isinstance(entry, (list, tuple))
        and len(entry) == 2
        and isinstance(entry[0], str)
        and isinstance(entry[1], Mapping)
    ):
        return entry[0], _fixed(entry[1], f"Settings.providers, {entry[0]!r}")
    raise SettingsError(f"Expected a name or (name, options), got {entry!r} - at Settings.providers")


def findings(settings: Settings, model: object, *, known: SessionEntries, installed: Sequence[str]) -> list[Finding]:
    """Everything worth saying, errors first. See `Settings.check`."""
    found = [
        *_entries(settings, model, known),
        *_providers(settings, installed),
        *_threads(settings),
        *_memory(settings),
    ]
    return sorted(found, key=lambda finding: ("error", "warning", "info").index(finding.level))


def _entries(settings: Settings, model: object, known: SessionEntries) -> Iterator[Finding]:
    for key, value in settings.session_entries.items():
        where = f"session_entries[{key!r}]"
        if key.startswith("ep."):
            continue  # a provider's own; ORT hands these through unread
        if not known.readable():
            yield Finding("warning", where, "cannot be checked: ONNX Runtime's library could not be read")
        elif key not in known:
            yield Finding("error", where, "unknown to the installed ONNX Runtime", known.remedy(key))
        elif key in SWITCHES and value not in ("0", "1"):
            yield Finding("error", where, f"{value!r} is neither '0' nor '1'", "ONNX Runtime takes it, mostly as '0'")
        elif key in ORT_BYTES_ENTRIES and not _is_ort_bytes(model):
            level: Literal["warning", "info"] = "info" if model is None else "warning"
            yield Finding(level, where, "works only for an ORT-format model that is loaded from bytes")
        own = settings.replace(session_entries={}).entries()
        if key in own and own[key] != value:
            yield Finding("info", where, f"overrides the value {own[key]!r} that another field gives")


def _is_ort_bytes(model: object) -> bool:
    return isinstance(model, bytes) and model[4:8] == ORT_FORMAT_MAGIC


def _providers(settings: Settings, installed: Sequence[str]) -> Iterator[Finding]:
    before: list[str] = []
    for entry in settings.providers:
        name, options = (entry, dict[str, str]()) if isinstance(entry, str) else (entry[0], dict(entry[1]))
        full = providers.long_name(name)
        if full in before:
            yield Finding("error", "providers", f"{name!r} comes twice, and only the first is taken", "name it once")
        elif providers.CPU in before:
            message = f"{name!r} stands behind the CPU's provider, which leaves it no node that both of them know"
            yield Finding("warning", "providers", message, "name it before 'cpu', which may be left out")
        before.append(full)
        if full not in installed:
            level: Literal["warning", "error"] = "warning" if settings.allow_fallback else "error"
            yield Finding(level, "providers", f"{name!r} is not installed", f"installed: {', '.join(installed)}")
        for wrong, remedy in providers.wrong_options(full, options):
            yield Finding("error", "providers", wrong, remedy or None)


def _threads(settings: Settings) -> Iterator[Finding]:
    cores = cpu.usable_cores()
    if settings.intra_threads > cores:
        yield Finding(
            "warning",
            "intra_op_num_threads",
            f"{settings.intra_threads} threads share the {cores} physical cores this process may use",
            "set 'auto'",
        )
    if settings.execution_mode == "sequential" and settings.inter_op_num_threads != 1:
        yield Finding("info", "inter_op_num_threads", "has no effect in sequential mode")
    if settings.execution_mode == "parallel" and settings.enable_mem_pattern:
        yield Finding("warning", "enable_mem_pattern", "ONNX Runtime turns it off in parallel mode")
    if settings.allow_spinning and settings.intra_threads > 1:
        yield Finding("info", "allow_spinning", "idle worker threads keep their cores busy between calls")


def _memory(settings: Settings) -> Iterator[Finding]:
    shares_arena = settings.arena_bytes is not None or settings.shared_threads
    if settings.shrink_arena and not settings.enable_cpu_mem_arena and not shares_arena:
        message = "ONNX Runtime fails a run that shall give back an arena that there is not"
        yield Finding("error", "shrink_arena", message, "leave enable_cpu_mem_arena on, or shrink_arena off")
    if settings.arena_extend_strategy != "power_of_two" and not shares_arena:
        message = "has no effect without arena_bytes: a session's own arena grows by powers of two"
        yield Finding("warning", "arena_extend_strategy", message, "set arena_bytes")
    if settings.set_denormal_as_zero:
        message = "the first session of the process decides for threads that call, for numpy's arithmetic there too"
        yield Finding("info", "set_denormal_as_zero", message)
    if settings.arena_bytes is not None:
        yield Finding("info", "arena_bytes", "one arena serves the whole process; the first model to load sizes it")
        if not settings.enable_cpu_mem_arena:
            yield Finding("warning", "enable_cpu_mem_arena", "has no effect beside arena_bytes: that arena is used")
    if settings.chunk_context is not None and settings.max_chunk is None:
        yield Finding("warning", "chunk_context", "has no effect without max_chunk", "set max_chunk")
    if settings.memory_limit is not None:
        limit, device = memory.parse(settings.memory_limit), memory.device()
        if limit > device.total:
            message = f"{memory.human(limit)} is more than the {memory.human(device.total)} this device has"
            yield Finding("warning", "memory_limit", message)
