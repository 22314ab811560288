"""Settings: every lever, typed, checked before ONNX Runtime gets to ignore it."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import onnxruntime as ort

from omni_sdk import cpu, installed, memory, providers
from omni_sdk.errors import SettingsError
from omni_sdk.ort_options import SessionEntries
from omni_sdk.settings_check import Finding, Provider, as_entries, as_providers, check_value, findings

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# Fields that are a number or two; two come as a list from TOML and JSON.
PAIRED = ("warmup_passes", "chunk_context")

KNOWN_ENTRIES = SessionEntries(Path(ort.__file__).parent / "capi")

_GRAPH_LEVELS = {
    "disable": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}
_EXECUTION_MODES = {
    "sequential": ort.ExecutionMode.ORT_SEQUENTIAL,
    "parallel": ort.ExecutionMode.ORT_PARALLEL,
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a model is loaded and run. Immutable; `replace` makes a changed copy. The defaults are `balanced`.

    Attributes
    ----------
    graph_optimization_level : {"disable", "basic", "extended", "all"}
        ORT's graph rewriting; `"all"` is `"extended"` and layout changes on top.
    intra_op_num_threads, inter_op_num_threads : int or "auto"
        Threads inside an operator, and across operators (of use in parallel mode only). `"auto"` is the number of
        physical cores that affinity and control groups give this process.
    execution_mode : {"sequential", "parallel"}
    enable_mem_pattern : bool
        Plan all intermediate buffers as one block, at the second run of a shape.
    enable_mem_reuse : bool
        Reuse intermediate buffers within a run.
    enable_cpu_mem_arena : bool
        Keep freed intermediate memory for the next run.
    arena_bytes : int, optional
        First block of a process-wide arena made before the first run, less than 2 GiB; None leaves each session its
        own arena.
    arena_extend_strategy : {"power_of_two", "same_as_requested"}
        How that arena grows.
    allow_spinning : bool
        Let idle worker threads burn their core while they wait, for a few microseconds less latency.
    set_denormal_as_zero : bool
        Flush denormal floats to zero in ORT's threads. For the threads that call it, and so for all that they compute,
        ORT decides once: with the first session of the process. `Model.explain` says what it came to.
    prepacking : bool
        Reorder weights for the kernels at load: faster runs, more memory, slower loads.
    use_deterministic_compute : bool
    providers : tuple of str or (str, mapping)
        Execution providers by short (`"cpu"`, `"openvino"`, `"cuda"`, `"tensorrt"`) or ORT's name, best first, with
        their options. The CPU's stands behind them all.
    allow_fallback : bool
        Whether a provider that is missing, refuses the model or takes no node may be passed over. Otherwise that is a
        `ProviderError`.
    session_entries : mapping of str to str
        Further ORT session configuration entries.
    strict : bool
        Refuse to load when `check` finds an error.
    io_binding : bool
        Run over bound, pooled buffers; off is plain `session.run`, for comparison.
    buffer_idle_bytes : int
        Bytes that the pool behind results may keep for reuse.
    cache_bytes : int
        Size of the exact result cache; 0 turns it off. Results are then read-only.
    cache_random : bool
        Cache the results of models with random operators too.
    warmup_passes : int or (int, int)
        Passes of `warmup()`: a number, or the least and the most while the latency settles.
    memory_limit : int or str, optional
        Budget of this model: bytes, `"2 GiB"`, or `"60%"` of the device.
    max_chunk : int, optional
        Frames at a time in which `infer` runs longer inputs, where the model has a streaming form, or a windowed one.
    chunk_context : int or (int, int), optional
        The windowed form of a model without state: frames before each chunk, or before and after it, that run with it.
        The result equals the one-shot run's where they cover what a frame of output looks at.
    shrink_arena : bool
        Return ORT's arena to the system after a run that is larger than every shape that was warmed up.
    shared_threads : bool
        Run on the process-wide thread pool and allocator that a `Host` sets up.
    async_workers : int
        Threads behind `infer_async`.
    log_severity_level : int
        ORT's own log: 0 verbose to 4 fatal. Errors reach the caller as exceptions either way.
    """

    graph_optimization_level: Literal["disable", "basic", "extended", "all"] = "all"
    intra_op_num_threads: int | Literal["auto"] = "auto"
    inter_op_num_threads: int | Literal["auto"] = 1
    execution_mode: Literal["sequential", "parallel"] = "sequential"
    enable_mem_pattern: bool = False
    enable_mem_reuse: bool = True
    enable_cpu_mem_arena: bool = True
    arena_bytes: int | None = None
    arena_extend_strategy: Literal["power_of_two", "same_as_requested"] = "power_of_two"
    allow_spinning: bool = False
    set_denormal_as_zero: bool = False
    prepacking: bool = True
    use_deterministic_compute: bool = False
    providers: tuple[Provider, ...] = ("cpu",)
    allow_fallback: bool = False
    session_entries: Mapping[str, str] = field(default_factory=dict)
    strict: bool = True
    io_binding: bool = True
    buffer_idle_bytes: int = 256 << 20
    cache_bytes: int = 0
    cache_random: bool = False
    warmup_passes: int | tuple[int, int] = (2, 8)
    memory_limit: int | str | None = None
    max_chunk: int | None = None
    chunk_context: int | tuple[int, int] | None = None
    shrink_arena: bool = False
    shared_threads: bool = False
    async_workers: int = 2
    log_severity_level: int = 4

    def __post_init__(self) -> None:
        object.__setattr__(self, "session_entries", as_entries(self.session_entries))
        object.__setattr__(self, "providers", as_providers(self.providers))
        for name in PAIRED:
            value = getattr(self, name)
            object.__setattr__(self, name, tuple(value) if isinstance(value, list) else value)
        for name in self.__dataclass_fields__:
            check_value(name, getattr(self, name))

    @staticmethod
    def preset(name: Literal["baseline", "ultra", "balanced"] = "balanced") -> Settings:
        """Settings by name.

        `balanced` is the default. `baseline` and `ultra` are a common benchmark's before and after: plain
        `session.run` on four parallel threads, against every lever pulled, those that do nothing left out.
        """
        try:
            return PRESETS[name]()
        except (KeyError, TypeError):
            raise SettingsError(f"Expected one of {', '.join(PRESETS)}, got {name!r} - at Settings.preset") from None

    def replace(self, **changes: Any) -> Settings:
        """A copy with some fields changed. `SettingsError` for a name that is not a field."""
        unknown = changes.keys() - self.__dataclass_fields__.keys()
        if unknown:
            raise _unknown_fields(unknown)
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """As plain values that JSON and TOML can hold; `from_dict` is the way back.

        TOML has no word for None, so a field that is None is left out: it is the default of every such field.
        """
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        plain = {name: value for name, value in values.items() if value is not None}
        plain["providers"] = [
            entry if isinstance(entry, str) else [entry[0], dict(entry[1])] for entry in self.providers
        ]
        plain["session_entries"] = dict(self.session_entries)
        plain.update({name: list(values[name]) for name in PAIRED if isinstance(values[name], tuple)})
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Settings:
        """From `to_dict`'s values; fields left out keep their defaults, `preset` names another starting point.

        Raises
        ------
        SettingsError
            When it is no mapping, or names a field that does not exist or a value that the field cannot take.
        """
        if not isinstance(plain, Mapping):
            raise SettingsError(f"Expected a mapping of fields to values, got {plain!r} - at Settings.from_dict")
        values = dict(plain)
        if any(not isinstance(name, str) for name in values):
            raise _unknown_fields({name for name in values if not isinstance(name, str)})
        base = cls.preset(values.pop("preset", "balanced"))
        return base.replace(**values)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Settings:
        """From a TOML file: fields at the top level or in a table `[settings]`.

        Raises
        ------
        SettingsError
            When the file cannot be read, is not TOML, has keys beside `[settings]`, names a field that does not exist
            or a value that its field cannot take. Names the file.
        """
        try:
            with Path(path).open("rb") as file:
                table = tomllib.load(file)
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise SettingsError(f"Expected TOML, got {error} - at {path}") from error
        except OSError as error:
            raise SettingsError(f"Expected a readable settings file, got {error.strerror} - at {path}") from error
        except (TypeError, ValueError) as error:
            raise SettingsError(
                f"Expected the path of a settings file, got {path!r} - at Settings.from_file"
            ) from error
        beside = sorted(table.keys() - {"settings"}) if "settings" in table else []
        if beside:
            raise SettingsError(
                f"Expected all fields in [settings], got {', '.join(map(repr, beside))} beside it - at {path}",
                hint="put them below [settings], or do without that table",
            )
        table = table.get("settings", table)
        if not isinstance(table, dict):
            raise SettingsError(f"Expected a table, got {table!r} - at [settings] in {path}")
        try:
            return cls.from_dict(table)
        except SettingsError as error:
            raise error.within(path) from error

    @property
    def intra_threads(self) -> int:
        """`intra_op_num_threads` with `"auto"` worked out."""
        return cpu.usable_cores() if self.intra_op_num_threads == "auto" else self.intra_op_num_threads

    @property
    def inter_threads(self) -> int:
        """`inter_op_num_threads` with `"auto"` worked out."""
        return cpu.usable_cores() if self.inter_op_num_threads == "auto" else self.inter_op_num_threads

    @property
    def memory_limit_bytes(self) -> int | None:
        """`memory_limit` in bytes."""
        return None if self.memory_limit is None else memory.parse(self.memory_limit)

    def provider_list(self, cache_folder: Path | None = None) -> list[tuple[str, dict[str, str]]]:
        """Providers as ORT takes them: full names with options, those that may be passed over left out.

        Options that were not given have this package's defaults; see `omni_sdk.providers.prepared`.

        Parameters
        ----------
        cache_folder : pathlib.Path, optional
            Where providers with a cache of their own shall keep it.

        Raises
        ------
        ProviderError
            When one is not installed and `allow_fallback` is off.
        """
        asked = [(entry, dict[str, str]()) if isinstance(entry, str) else entry for entry in self.providers]
        found = installed.chosen(asked, ort.get_available_providers(), allow_fallback=self.allow_fallback)
        threads = self.intra_threads
        return [
            (name, providers.prepared(name, options, threads=threads, cache_folder=cache_folder))
            for name, options in found
        ]

    def entries(self) -> dict[str, str]:
        """Every session configuration entry these settings amount to; `session_entries` have the last word."""
        spin = "1" if self.allow_spinning else "0"
        entries = {"session.intra_op.allow_spinning": spin, "session.inter_op.allow_spinning": spin}
        if self.set_denormal_as_zero:
            entries["session.set_denormal_as_zero"] = "1"
        if not self.prepacking:
            entries["session.disable_prepacking"] = "1"
        if self.arena_bytes is not None or self.shared_threads:
            entries["session.use_env_allocators"] = "1"
        return {**entries, **self.session_entries}

    def session_options(self) -> ort.SessionOptions:
        """ORT's own object, every field set. `SettingsError` where ORT refuses a value."""
        options = ort.SessionOptions()
        options.graph_optimization_level = _GRAPH_LEVELS[self.graph_optimization_level]
        options.execution_mode = _EXECUTION_MODES[self.execution_mode]
        options.intra_op_num_threads = self.intra_threads
        options.inter_op_num_threads = self.inter_threads
        options.enable_mem_pattern = self.enable_mem_pattern
        options.enable_mem_reuse = self.enable_mem_reuse
        options.enable_cpu_mem_arena = self.enable_cpu_mem_arena
        options.use_deterministic_compute = self.use_deterministic_compute
        options.use_per_session_threads = not self.shared_threads
        options.log_severity_level = self.log_severity_level
        for key, value in self.entries().items():
            try:
                options.add_session_config_entry(key, value)
            except Exception as error:
                raise SettingsError(
                    f"Expected a session entry that ONNX Runtime takes, got {key}={value!r}"
                    f" - at Settings.session_entries: {error}"
                ) from error
        return options

    def check(self, model: object = None) -> list[Finding]:
        """What ORT would silently ignore, and what cannot help here.

        Parameters
        ----------
        model : path or bytes, optional
            The model these settings are meant for; some entries work for one kind of file only.

        Returns
        -------
        list of Finding
            Errors (never takes effect) first, then warnings (takes effect, and likely harms), then remarks.
        """
        return findings(self, model, known=KNOWN_ENTRIES, installed=ort.get_available_providers())


def _baseline() -> Settings:
    return Settings(
        graph_optimization_level="all",
        intra_op_num_threads=4,
        inter_op_num_threads=2,
        execution_mode="parallel",
        enable_mem_pattern=True,
        allow_spinning=True,
        io_binding=False,
        warmup_passes=1,
        cache_bytes=256 << 20,
    )


def _ultra() -> Settings:
    cores = cpu.usable_cores()
    return Settings(
        graph_optimization_level="extended",
        intra_op_num_threads=cores,
        inter_op_num_threads=max(2, cores // 2),
        execution_mode="sequential",
        enable_mem_pattern=True,
        allow_spinning=True,
        arena_bytes=256 << 20,
        session_entries={
            "session.use_ort_model_bytes_directly": "1",
            "session.use_device_allocator_for_initializers": "1",
            "session.enable_quant_qdq_cleanup": "1",
        },
        io_binding=True,
        warmup_passes=3,
        cache_bytes=256 << 20,
    )


PRESETS = {"baseline": _baseline, "ultra": _ultra, "balanced": Settings}


def settings_of(settings: Settings | str | None) -> Settings:
    """Settings as they are, or a preset by its name; `balanced` for None."""
    if isinstance(settings, Settings):
        return settings
    return Settings.preset("balanced" if settings is None else settings)  # type: ignore[arg-type]


def _unknown_fields(names: Set[object]) -> SettingsError:
    fields = ", ".join(f.name for f in dataclasses.fields(Settings))
    return SettingsError(
        f"Expected fields of Settings, got {', '.join(sorted(map(repr, names)))} - at Settings",
        hint=f"fields: {fields}",
    )
