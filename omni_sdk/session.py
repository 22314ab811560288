"""File and Settings in, `onnxruntime.InferenceSession` out; every refusal of ONNX Runtime as a sentence."""

from __future__ import annotations

import logging
import os
import re
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import TypeAlias

import onnxruntime as ort
from xxhash import xxh3_128_hexdigest

from omni_sdk import installed, providers, ranges
from omni_sdk.errors import ModelError, ProviderError, SettingsError
from omni_sdk.process_pools import Arena, Threads, require_threads, share_threads
from omni_sdk.refusals import RefusedError, refusal
from omni_sdk.settings import KNOWN_ENTRIES, Settings
from omni_sdk.source import Source
from omni_sdk.specs import TensorSpec

log = logging.getLogger(__name__)

if os.environ["ORT_DISABLE_TELEMETRY"] != "0":  # for whoever imported onnxruntime before this package said no
    ort.disable_telemetry_events()

# Known since ONNX Runtime 1.24; before, nobody can tell where a node runs.
RECORD_PLACEMENT = "session.record_ep_graph_assignment_info"

EXTERNAL_FOLDER = "session.model_external_initializers_file_folder_path"
# Letters of a location that an error shows.
MOST_SHOWN = 200

Session: TypeAlias = ort.InferenceSession
Device: TypeAlias = tuple[str, int]
"""As ONNX Runtime names memory for bindings: `("cpu", 0)`, or `("cuda", 1)` for the second device of a machine."""

# ONNX Runtime heads its messages with "[ONNXRuntimeError] : 7 : INVALID_PROTOBUF : ", those that it passes on too.
_HEADER = re.compile(r"^Exception during \w+: |\[ONNXRuntimeError\] : \d+ : \w+ : (?:Exception during \w+: )?")
# The place in its source: a path and a function's signature, or a file's name and a function's.
_SOURCE_LINE = re.compile(
    r"/\S+\.(?:cc|h):\d+ (?:[\w:~<>*& ,]+\(.*?\)(?: const)? )?|\b\w+\.(?:cc|h):\d+ (?:(?:\w+::)*[A-Z]\w+ )?"
)
_HINTS = (
    (re.compile(r"opset \d+ is under development|not.*support.*opset|Unsupported model IR version"),
     "export it for an older opset or IR version, or install a newer onnxruntime"),
    (re.compile(r"is not a registered function/op|Fatal error:.*is not a registered"),
     "the graph needs an operator that this build of onnxruntime does not have"),
    (re.compile(r"[Ee]xternal (?:data|initializer)|cannot get file size|GetFileLength"),
     "keep the files of the model's external data beside it, under the names it was saved with"),
    (re.compile(r"Protobuf parsing failed|INVALID_PROTOBUF"),
     "the file is cut short, damaged, or no ONNX model"),
)  # fmt: skip


def open_session(
    source: Source, settings: Settings, *, compiled: Path | None = None, cache_folder: Path | None = None
) -> ort.InferenceSession:
    """A session over a model.

    Parameters
    ----------
    source : Source
    settings : Settings
    compiled : pathlib.Path, optional
        The graph as `save_compiled` wrote it for this model, loaded in its place and not optimized again.
    cache_folder : pathlib.Path, optional
        Where providers with a cache of their own keep it.

    Raises
    ------
    ModelError
        When ONNX Runtime refuses the model.
    SettingsError
        When `settings.check` finds an error and `settings.strict` is on.
    ProviderError
        When a provider is missing, refuses the model, takes no node, or ONNX Runtime silently went without it.
    """
    options = _options(source, settings)
    if compiled is not None:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    model = source.model if compiled is None else str(compiled)
    try:
        session = _session(source, model, settings, options, cache_folder)
    except RefusedError as error:
        if not settings.allow_fallback:
            raise
        log.warning("going on without %s: %s", error.provider, str(error).partition("\n")[0])
        kept = [entry for entry in settings.provider_list() if entry[0] != error.provider]
        return open_session(source, settings.replace(providers=kept or ("cpu",)), cache_folder=cache_folder)
    if not settings.allow_fallback:
        _check_taking_part(session, [name for name, _ in settings.provider_list()], source)
    return session


def _check_taking_part(session: ort.InferenceSession, asked: list[str], source: Source) -> None:
    """`ProviderError` for a provider that is not there, or left every node to those that stand behind it."""
    active = session.get_providers()
    lost = [name for name in asked if name not in active]
    if lost:
        raise ProviderError(
            f"Expected {lost[0]} to take part, got {', '.join(active)} - at {source}",
            hint="its libraries, its device or one of its options may be at fault: ONNX Runtime said which on standard"
            " error; allow_fallback=True goes on without it",
        )
    if any(name != providers.CPU for name in asked) and RECORD_PLACEMENT not in KNOWN_ENTRIES:
        log.warning(
            "nobody can tell whether %s take nodes: ONNX Runtime %s records none", ", ".join(asked), ort_version()
        )
    nodes = {name: len(taken) for name, taken in node_placement(session).items()}
    for index, name in enumerate(asked):
        behind = {other: count for other, count in nodes.items() if other not in asked[: index + 1]}
        if name not in nodes and behind:
            taken = ", ".join(f"{count} on {other}" for other, count in behind.items())
            raise ProviderError(
                f"Expected {name} to take nodes, got none of them there and {taken} - at {source}",
                hint="it knows none of the operators, or not at these types; allow_fallback=True goes on without it",
            )


def save_compiled(source: Source, settings: Settings, path: Path) -> None:
    """Writes the graph as ORT optimizes it for these settings, with its weights in a file beside it.

    Parameters
    ----------
    source : Source
    settings : Settings
    path : pathlib.Path
        Of the graph; the weights go to `path` with `.data` appended, each where ORT can map it.

    Raises
    ------
    ModelError
        When ONNX Runtime refuses the model, or cannot write it.
    """
    options = _options(source, settings)
    options.optimized_model_filepath = str(path)
    options.add_session_config_entry("session.optimized_model_external_initializers_file_name", f"{path.name}.data")
    options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")
    if settings.prepacking:
        options.add_session_config_entry("session.save_external_prepacked_constant_initializers", "1")
    _session(source, source.model, settings, options)


def _options(source: Source, settings: Settings) -> ort.SessionOptions:
    names = [name for name, _ in settings.provider_list()]
    installed.refuse_conflicts(names)
    refuse_what_would_be_ignored(settings, source)
    _refuse_what_lies_elsewhere(settings, source)
    options = settings.session_options()
    if any(name != providers.CPU for name in names) and RECORD_PLACEMENT in KNOWN_ENTRIES:
        options.add_session_config_entry(RECORD_PLACEMENT, "1")
    if source.needs_operators:
        options.register_custom_ops_library(str(kernels_library()))
    if settings.arena_bytes is not None:
        Arena.register(settings.arena_bytes, settings.arena_extend_strategy)
    if settings.shared_threads:
        share_threads(settings)
        # Weights beside the shared arena, not in it: closing a session then gives them back.
        options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
    if Threads.sized is not None:
        options.use_per_session_threads = False
        options.intra_op_num_threads = options.inter_op_num_threads = 0  # ORT warns about sizes beside a shared pool
        if not settings.allow_spinning:
            options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


def _session(
    source: Source,
    model: str | bytes,
    settings: Settings,
    options: ort.SessionOptions,
    cache_folder: Path | None = None,
) -> ort.InferenceSession:
    if Threads.sized is None:
        across = settings.inter_threads - 1 if settings.execution_mode == "parallel" else 0
        require_threads(settings.intra_threads - 1 + across, source)
    chosen = settings.provider_list(cache_folder)
    try:
        # Left to itself, ONNX Runtime prints, and goes on with the CPU alone.
        return ort.InferenceSession(model, options, providers=chosen, enable_fallback=False)
    except Exception as error:
        refused = refusal(str(error), [name for name, _ in chosen])
        if refused is not None:
            message = f"Expected a model that {refused.provider} takes, got {refused.why} - at {source}"
            raise RefusedError(message, provider=refused.provider, hint=refused.hint) from error
        message, hint = explained(error)
        message = f"Expected a model that ONNX Runtime can load, got {message} - at {source}"
        raise ModelError(message, hint=hint) from error


def refuse_what_would_be_ignored(settings: Settings, source: Source) -> None:
    """Logs what `Settings.check` finds; with `strict` its errors are raised as one `SettingsError`."""
    found = settings.check(source.data if source.data is not None else source.path)
    errors = [finding for finding in found if finding.level == "error"]
    for finding in found:
        log.log(logging.INFO if finding.level == "info" else logging.WARNING, "%s", finding)
    if errors and settings.strict:
        raise SettingsError(
            f"Expected settings that take effect, got {'; '.join(map(str, errors))} - at load",
            hint="remove them, or set strict=False to load regardless",
        )


def _refuse_what_lies_elsewhere(settings: Settings, source: Source) -> None:
    """A model reads inside its own folder. One from bytes has none, unless the settings name one."""
    if not source.elsewhere or (source.path is None and EXTERNAL_FOLDER in settings.session_entries):
        return
    place = "external data inside the model's folder" if source.path is not None else "a model that holds its weights"
    raise ModelError(
        f"Expected {place}, got external data in {source.elsewhere[0][:MOST_SHOWN]!r} - at {source}",
        hint="keep its files beside it, none behind a link that leaves the folder, and load it from its path",
    )


def specs(session: ort.InferenceSession) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs and outputs of a session. `ModelError` where their names are no text."""
    try:
        allowed = ranges.of(session.get_modelmeta().custom_metadata_map)
        inputs, outputs = (
            tuple(TensorSpec.of(arg.name, arg.type, arg.shape, allowed.get(arg.name)) for arg in args)
            for args in (session.get_inputs(), session.get_outputs())
        )
    except UnicodeDecodeError as error:
        raise ModelError(f"Expected names and metadata in UTF-8, got {error} - at the graph's interface") from error
    return inputs, outputs


def node_placement(session: ort.InferenceSession) -> dict[str, list[str]]:
    """Provider -> its nodes as `"name (Operator)"`, where ONNX Runtime recorded it; else empty."""
    try:
        subgraphs = session.get_provider_graph_assignment_info()
    except Exception:  # not recorded for this session, or a version that does not know it
        return {}
    placement: dict[str, list[str]] = {}
    for subgraph in subgraphs:
        nodes = placement.setdefault(subgraph.ep_name, [])
        nodes.extend(f"{node.name} ({node.op_type})" for node in subgraph.get_nodes())
    return placement


def memory_of(session: ort.InferenceSession) -> Device:
    """Where the first provider of a session computes."""
    first = session.get_providers()[0]
    kind = providers.FACTS[first].memory if first in providers.FACTS else "cpu"
    return kind, 0 if kind == "cpu" else int(session.get_provider_options()[first].get("device_id", "0"))


def ort_version() -> str:
    """Version of the installed ONNX Runtime."""
    return str(ort.__version__)


def operators_digest() -> str:
    """XXH3-128 of the library with the operators of domain `omni`: a graph optimized beside one is not for another."""
    return str(xxh3_128_hexdigest(kernels_library().read_bytes()))


def kernels_library() -> Path:
    """The shared library with the operators of domain `omni`."""
    for suffix in EXTENSION_SUFFIXES:
        path = Path(__file__).with_name(f"_kernels{suffix}")
        if path.exists():
            return path
    raise ModelError(
        f"Expected the library _kernels beside {Path(__file__).parent}, got none - at load",
        hint="install omni-sdk from a wheel, or build it with a C compiler",
    )


def explained(error: Exception) -> tuple[str, str | None]:
    """ONNX Runtime's message without its internals, on one line, and a remedy where one is known."""
    raw = str(error).strip()
    refused = refusal(raw)
    if refused is not None:
        return refused.why, refused.hint
    message = _SOURCE_LINE.sub(" ", _HEADER.sub(" ", raw))
    message = " ".join(message.split()) or type(error).__name__
    hint = next((hint for pattern, hint in _HINTS if pattern.search(raw)), None)
    return message.removesuffix("."), hint
