"""The compile cache behind `load`: the graph as ORT optimized it for this CPU, with its weights in a file to map.

Where another provider takes part, it is that provider's own cache, in a folder of ours: keyed, verified and bounded as
every entry is. What a provider adds in later runs (TensorRT builds engines for shapes that it had not seen) is bounded
too, and verified by the provider alone.

An entry's key covers all that decides its content: the model's bytes (weights included), ORT's version, the CPU's
instruction sets, this package's operators and those settings that shape the graph. What guards an entry,
`omni_sdk.entries` says. An entry that ORT refuses is dropped where ORT takes the model itself: else threads or memory
may have been short, for a while. Whatever keeps the cache from serving costs the speed-up, not the load.
"""

from __future__ import annotations

import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from types import EllipsisType
from typing import Literal

from xxhash import xxh3_128_hexdigest

from omni_sdk import budget, cpu, folders, installed, mapped, memory, providers, stamps
from omni_sdk import session as sessions
from omni_sdk.bundle import Bundle
from omni_sdk.digests import Digests
from omni_sdk.entries import Entries
from omni_sdk.errors import BundleError, ModelError, OmniError
from omni_sdk.folders import CacheDir as CacheDir
from omni_sdk.settings import Settings
from omni_sdk.source import Source

log = logging.getLogger(__name__)

FORMAT = 1
GRAPH = "model.onnx"
LIMIT_VARIABLE = "OMNI_SDK_CACHE_BYTES"
DEFAULT_LIMIT = "4 GiB"
# Below this ORT loads a model about as quickly as an entry of it; a cache folder asked for by name serves all.
WORTH_BYTES = 8 << 20
# An entry is the weights once more, and prepacked once again where ORT stores them so.
ENTRY_SIZE_FACTOR = 2.5
TRIES = 3
UNREAD = "the provider writes its cache anew instead of reading it"
# Session entries that change how a graph runs and not what it becomes.
RUN_ONLY_ENTRIES = {"session.intra_op.allow_spinning", "session.inter_op.allow_spinning", "session.use_env_allocators"}


@dataclass(frozen=True, slots=True)
class Compiled:
    """What the compile cache did for a load.

    Attributes
    ----------
    state : {"hit", "built", "off"}
        The entry was there; it was made now; or the model was loaded without one.
    reason : str
        Why it is off; empty otherwise.
    files : tuple of pathlib.Path
        Those that the session may map.
    """

    state: Literal["hit", "built", "off"]
    reason: str = ""
    files: tuple[Path, ...] = ()

    def __str__(self) -> str:
        return f"{self.state}, {self.reason}" if self.reason else self.state


def load(
    origin: str | os.PathLike[str] | bytes, settings: Settings, cache_dir: CacheDir = ...
) -> tuple[Source, sessions.Session, Compiled]:
    """Open a model through the compile cache.

    A bundle that is replaced meanwhile is opened anew, so that graph and weights are of one bundle.

    Parameters
    ----------
    origin : str, PathLike or bytes
        As `omni_sdk.load` takes it.
    settings : Settings
    cache_dir : path or None, optional
        None turns the cache off; left out it is `OMNI_SDK_CACHE_DIR`, else the user's cache folder.

    Raises
    ------
    OmniError
        As `Source` and `session.open_session` do.
    """
    for _ in range(TRIES):
        source = Source(origin)
        try:
            session, compiled = _open(source, settings, cache_dir)
        except OmniError:
            if source.is_current():
                raise
        else:
            if source.is_current():
                return source, session, compiled
    raise BundleError(f"Expected a bundle that stands still, got one that was replaced {TRIES} times - at {origin!r}")


def folder(cache_dir: CacheDir = ...) -> Path | None:
    """The cache's own folder, below the one asked for; None where the cache is off."""
    place = folders.cache(cache_dir)
    return None if place is None else place / "compiled"


def serves(source: Source, settings: Settings, cache_dir: CacheDir = ...) -> bool:
    """Whether the compile cache takes a model, so that its weights will be mapped."""
    return not _why_not(source, settings, folder(cache_dir), asked_by_name=not isinstance(cache_dir, EllipsisType))


def _open(source: Source, settings: Settings, cache_dir: CacheDir) -> tuple[sessions.Session, Compiled]:
    place = folder(cache_dir)
    reason = _why_not(source, settings, place, asked_by_name=not isinstance(cache_dir, EllipsisType))
    if place is None or reason:
        return _open_as_it_is(source, settings, reason)
    entries = Entries(place, _limit_bytes())
    key = _key(source, settings, Digests(place))
    if _own_caches(settings):
        return _open_providers_entry(source, settings, entries, key)
    limit = settings.memory_limit_bytes
    if not entries.has(key) and not budget.fits(budget.compiling_parts(source.size), limit):
        return _open_as_it_is(source, settings, "compiling it would go beyond memory_limit")
    budget.require(_parts(source, settings, mapped=True), limit, f"load of {source}")
    return _open_entry(source, settings, entries, key)


def _open_entry(source: Source, settings: Settings, entries: Entries, key: str) -> tuple[sessions.Session, Compiled]:
    writer = _Writer(source, settings)
    with entries.holding(key, writer) as entry:
        if entry is None:
            return _open_as_it_is(source, settings, entries.refusal)
        try:
            session = sessions.open_session(source, settings, compiled=entry / GRAPH)
        except ModelError as error:
            why = str(error)
        else:
            files = (entry / GRAPH, entry / f"{GRAPH}.data")
            mapped.release(files)
            return session, Compiled("built" if writer.called else "hit", files=files)
    opened = _open_as_it_is(source, settings, "ONNX Runtime refuses its own graph")
    log.warning("dropping the compiled graph of %s: %s", source, why)
    entries.drop(key)
    return opened


def _open_providers_entry(
    source: Source, settings: Settings, entries: Entries, key: str
) -> tuple[sessions.Session, Compiled]:
    """A session whose providers keep what they compile in the entry's folder.

    Not every build of a provider can read what it writes. One that was seen to write its files anew is remembered, so
    that it does not compile every model twice.
    """
    budget.require(_parts(source, settings, mapped=False), settings.memory_limit_bytes, f"load of {source}")
    writer = _ProviderWriter(source, settings)
    with entries.holding(key, writer) as entry:
        if entry is None:
            return _open_as_it_is(source, settings, entries.refusal)
        before = _contents(entry)
        session = sessions.open_session(source, settings, cache_folder=entry)
        if before.items() <= _contents(entry).items():
            return session, Compiled("built" if writer.called else "hit", files=tuple(source.files))
    entries.drop(key)
    stamps.note(_unread(entries.folder, settings), {"reason": UNREAD})
    return session, Compiled("off", UNREAD, files=tuple(source.files))


def _contents(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of writing of each file."""
    found = {path.name: path.stat() for path in folder.iterdir()}
    return {name: (status.st_size, status.st_mtime_ns) for name, status in found.items()}


def _unread(place: Path, settings: Settings) -> Path:
    """The note that these providers, from these distributions, do not read their caches."""
    content = repr((_own_caches(settings), sorted(installed.runtimes().items())))
    return place / f".unread-{xxh3_128_hexdigest(content.encode())}"


def _open_as_it_is(source: Source, settings: Settings, reason: str) -> tuple[sessions.Session, Compiled]:
    budget.require(_parts(source, settings, mapped=False), settings.memory_limit_bytes, f"load of {source}")
    return sessions.open_session(source, settings), Compiled("off", reason, files=tuple(source.files))


def _parts(source: Source, settings: Settings, *, mapped: bool) -> dict[str, int]:
    return budget.load_parts(
        source.size, mapped=mapped, prepacking=settings.prepacking, cache_bytes=settings.cache_bytes
    )


class _Writer:
    """Fills an entry; remembers whether it was called. An `OSError` says why there is none."""

    def __init__(self, source: Source, settings: Settings) -> None:
        self._source = source
        self._settings = settings
        self.called = False

    def __call__(self, entry: Path) -> None:
        self.called = True
        need = int(self._source.size * ENTRY_SIZE_FACTOR)
        free = shutil.disk_usage(entry).free
        if free < need:
            raise OSError(f"{memory.human(free)} free on its disk, and up to {memory.human(need)} needed")
        if self._source.bundle is not None:
            Bundle.open(self._source.bundle.path, checksums=True)
        before = self._source.stamp()
        self._fill(entry)
        if self._source.stamp() != before or not self._source.is_current():
            raise OSError("the model was changed while it was read")

    def _fill(self, entry: Path) -> None:
        try:
            sessions.save_compiled(self._source, self._settings, entry / GRAPH)
        except ModelError as error:
            # The model may be at fault, or the saving alone: loading it as it is will tell.
            raise OSError("ONNX Runtime cannot save its optimized graph") from error


class _ProviderWriter(_Writer):
    """Fills an entry with what providers write while a session is made. Whoever reads the entry makes the next one."""

    def _fill(self, entry: Path) -> None:
        sessions.open_session(self._source, self._settings, cache_folder=entry)
        at_load = [name for name, _ in _own_caches(self._settings) if providers.FACTS[name].own_cache == "at load"]
        if at_load and not any(entry.iterdir()):
            raise OSError(f"{at_load[0]} has nothing to keep of this model")


def _why_not(source: Source, settings: Settings, place: Path | None, *, asked_by_name: bool) -> str:
    if place is None:
        return "cache_dir is None"
    if source.scan is None:
        return "an ORT-format model is optimized already"
    if source.elsewhere:
        return "the model's weights are not all in a folder of its own"
    others = [name for name, _ in settings.provider_list() if name != providers.CPU]
    if others:
        return _why_no_own_cache(others, settings, place)
    if not asked_by_name and source.size < WORTH_BYTES:
        return f"a model of {memory.human(source.size)} loads as quickly without"
    limit = _limit_bytes()
    if source.size > limit:  # and an entry is the weights once more, at the least
        return f"a model of {memory.human(source.size)} is more than the {memory.human(limit)} of {LIMIT_VARIABLE}"
    return ""


def _limit_bytes() -> int:
    return memory.parse(os.environ.get(LIMIT_VARIABLE) or DEFAULT_LIMIT, where=LIMIT_VARIABLE)


def _why_no_own_cache(others: list[str], settings: Settings, place: Path) -> str:
    if not _own_caches(settings):
        return f"{others[0]} keeps no cache, and a graph that it took part of cannot be saved"
    if any(providers.caches_itself(options) for _, options in settings.provider_list()):
        return "the provider's options name a cache of their own"
    return UNREAD if _unread(place, settings).exists() else ""


def _own_caches(settings: Settings) -> list[tuple[str, dict[str, str]]]:
    """Providers that keep a cache of their own, with their options."""
    known = providers.FACTS
    return [entry for entry in settings.provider_list() if entry[0] in known and known[entry[0]].own_cache]


def _key(source: Source, settings: Settings, digests: Digests) -> str:
    if source.bundle is not None:
        manifest = source.bundle.manifest
        content = repr((manifest.graph, [(entry.name, entry.xxh3_128) for entry in manifest.files]))
    else:
        content = source.fingerprint.hex() if source.data is not None else digests.of(source.files)
    entries = sorted(item for item in settings.entries().items() if item[0] not in RUN_ONLY_ENTRIES)
    parts = (
        FORMAT,
        content,
        sessions.ort_version(),
        sorted(cpu.describe().flags),
        settings.graph_optimization_level,
        settings.prepacking,
        entries,
        sessions.operators_digest() if source.needs_operators else "",
        [settings.provider_list(), sorted(installed.runtimes().items())] if _own_caches(settings) else "",
    )
    return xxh3_128_hexdigest(repr(parts).encode())
