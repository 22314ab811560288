"""Entries of a private cache folder: verified before use, bounded in bytes, safe among processes.

Trust
    The folder belongs to this user alone (owner and mode are checked). An entry lists its files with sizes and
    checksums. Reading gigabytes at every load would cost as much as it saves, so an entry is read whole once per boot:
    then its files' state is noted (`omni_sdk.stamps`), and while that stays equal the content is taken as read.
    Whatever does not fit is dropped and written anew, never used.

Processes
    An entry's lock (a file that keys of the same first digits share) is held shared from before an entry is verified
    until whoever asked has read it, and alone while one is written or dropped. So nobody reads half of one entry and
    half of its successor, and of several processes that miss at once, one writes and the others wait for it,
    `WAIT_SECONDS` at most. A process that dies gives up its locks; what it had half written is swept.

Failure
    No room, no rights, no locks: `holding` yields None, `refusal` says why, and the caller does without. An entry that
    is larger than the whole cache is noted by its size, so that it is written once and not at every load.

Leftovers
    Whoever writes an entry sweeps: folders and files of dead writers, notes that nobody used for a long time, locks of
    entries that are gone. A lock's file is removed by who holds it, and a lock counts only while its file stands.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

from omni_sdk import files, folders, memory, stamps, strict
from omni_sdk.errors import BundleError
from omni_sdk.files import FileEntry

if sys.platform != "win32":
    import fcntl

logger = logging.getLogger(__name__)

FORMAT = "omni-sdk cache entry"
LISTING = "entry.json"
STAMP = "verified.json"
WAIT_SECONDS = 120.0
EVICTION_WAIT_SECONDS = 0.5
POLL_SECONDS = 0.02
LOCK = ".lock-"
LOCK_DIGITS = 4
BEYOND = ".beyond-"
# What a note saves can be had again: it may go when nobody wrote or used it for a season.
NOTES = (".digest-*", ".unread-*", f"{BEYOND}*")
NOTE_SECONDS = 90 * 86400.0


class Entries:
    """Folders by key, under one private folder.

    Parameters
    ----------
    folder : pathlib.Path
        Where they stand; made when the first is written.
    limit_bytes : int
        Sum of the entries' files; the least recently used go first, never one that
        is being read. An entry for which there is no room is not kept.

    Attributes
    ----------
    refusal : str
        Why `holding` last yielded None.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self.folder = folder
        self.limit_bytes = limit_bytes
        self.refusal = ""

    @contextlib.contextmanager
    def holding(self, key: str, write: Callable[[Path], None]) -> Iterator[Path | None]:
        """Hold the entry of a key for reading; written first where there is none, or none to be trusted.

        Parameters
        ----------
        key : str
            32 hexadecimal digits that name the content.
        write : callable
            Fills the empty folder that it is given.

        Yields
        ------
        pathlib.Path or None
            The entry's folder, whole and verified for as long as the context lasts; None where the cache cannot serve.

        Raises
        ------
        OmniError
            What `write` raises of this package's own; what the disk raises is logged.
        """
        with contextlib.ExitStack() as stack:
            yield self._held(stack, key, write)

    def has(self, key: str) -> bool:
        """Whether there is an entry, without looking whether it is whole."""
        return (self.folder / key).is_dir()

    def drop(self, key: str) -> None:
        """Remove an entry that turned out to be of no use."""
        with contextlib.suppress(OSError), self._lock(key, alone=True):
            shutil.rmtree(self.folder / key, ignore_errors=True)

    def bytes(self) -> int:
        """Sum of the entries' files."""
        return sum(size for _, size, _ in self._entries())

    def _held(self, stack: contextlib.ExitStack, key: str, write: Callable[[Path], None]) -> Path | None:
        place = self.folder / key
        try:
            folders.make_private(self.folder)
            for _ in range(2):
                shared = contextlib.ExitStack()
                shared.enter_context(self._lock(key, alone=False))
                if self._is_whole(place):
                    stack.push(shared)
                    return place
                shared.close()
                with self._lock(key, alone=True):
                    if not self._is_whole(place):
                        self._write(key, write)
            self.refusal = "other processes dropped the entry as soon as it was written"
        except OSError as error:
            self.refusal = f"{error.strerror} at {error.filename}" if error.filename else str(error)
            logger.warning("the cache folder %s cannot serve: %s", self.folder, error)
        return None

    def _write(self, key: str, write: Callable[[Path], None]) -> None:
        place = self.folder / key
        self._sweep()
        shutil.rmtree(place, ignore_errors=True)
        self._refuse_beyond(self._noted_bytes(key))
        with folders.replacing(place, _refuse, durable=False) as folder:
            write(folder)
            listed = files.listing(folder)
            document = {"format": FORMAT, "key": key, "files": [asdict(entry) for entry in listed]}
            (folder / LISTING).write_text(json.dumps(document))
            stamps.note(folder / STAMP, stamps.state([(folder / entry.name).stat() for entry in listed]))
            size = _bytes(folder)
            if size > self.limit_bytes:
                stamps.note(self.folder / f"{BEYOND}{key}", {"bytes": size})
            self._refuse_beyond(size)
        self._evict(keep=key)
        if not place.is_dir():
            raise OSError(f"entries in use leave no room for one of {memory.human(size)}")

    def _noted_bytes(self, key: str) -> int:
        """Size of an entry that was once too large to be kept; else 0."""
        with contextlib.suppress(BundleError, OSError):
            note = stamps.read(self.folder, f"{BEYOND}{key}")
            size = note.get("bytes") if isinstance(note, dict) else None
            return size if isinstance(size, int) else 0
        return 0

    def _refuse_beyond(self, size: int) -> None:
        if size > self.limit_bytes:
            most = memory.human(self.limit_bytes)
            raise OSError(f"an entry of {memory.human(size)} is more than the {most} that the cache may hold")

    def _sweep(self) -> None:
        folders.sweep_inside(self.folder)
        for pattern in NOTES:
            folders.remove_old(self.folder, pattern, NOTE_SECONDS)
        used = {place.name[:LOCK_DIGITS] for place in self.folder.glob("[0-9a-f]*")}
        for path in self.folder.glob(f"{LOCK}*"):
            digits = path.name.removeprefix(LOCK)
            if digits not in used:
                with contextlib.suppress(OSError), self._lock(digits, alone=True, wait=0.0):
                    path.unlink()

    def _is_whole(self, place: Path) -> bool:
        if not place.is_dir():
            return False
        try:
            listed = _listed(place)
            stamp = stamps.read(place, STAMP) if (place / STAMP).exists() else None
            known = [files.check(place, entry, checksum=False) for entry in listed]
            if stamp != stamps.state(known):
                checked = [files.check(place, entry, checksum=True) for entry in listed]
                stamps.note(place / STAMP, stamps.state(checked))
            with contextlib.suppress(OSError):  # a folder that is not to be written serves all the same
                os.utime(place / STAMP)
        except (BundleError, OSError) as error:
            logger.warning("dropping the cache entry %s: %s", place.name, error)
            return False
        return True

    def _evict(self, keep: str) -> None:
        """Get within the limit. What is being read stays, so the entry just written is the last to go."""
        entries = sorted(self._entries(), key=lambda entry: (entry[0].name == keep, entry[2]))
        total = sum(size for _, size, _ in entries)
        for place, size, _ in entries:
            if total <= self.limit_bytes:
                return
            with contextlib.suppress(TimeoutError), contextlib.ExitStack() as stack:
                if place.name != keep:
                    stack.enter_context(self._lock(place.name, alone=True, wait=EVICTION_WAIT_SECONDS))
                shutil.rmtree(place, ignore_errors=True)
                total -= size
                logger.info(
                    "removed the cache entry %s of %d bytes to stay within %d", place.name, size, self.limit_bytes
                )

    def _entries(self) -> list[tuple[Path, int, float]]:
        found = []
        for place in self.folder.glob("[0-9a-f]*"):
            with contextlib.suppress(OSError):
                size = _bytes(place)
                used = place / STAMP
                found.append((place, size, used.stat().st_mtime if used.exists() else 0.0))
        return found

    @contextlib.contextmanager
    def _lock(self, key: str, *, alone: bool, wait: float | None = None) -> Iterator[None]:
        if sys.platform == "win32":
            raise OSError("files have no shared locks here")
        path = self.folder / f"{LOCK}{key[:LOCK_DIGITS]}"
        seconds = WAIT_SECONDS if wait is None else wait
        deadline = time.monotonic() + seconds
        operation = (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                if _locked(descriptor, operation) and _stands(path, descriptor):
                    yield
                    return
            finally:
                os.close(descriptor)
            if time.monotonic() >= deadline:
                raise TimeoutError(f"another process held {path.name} for {seconds:g} s")
            time.sleep(POLL_SECONDS)


def _locked(descriptor: int, operation: int) -> bool:
    """Whether the lock could be had now."""
    if sys.platform != "win32":
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, operation)
            return True
    return False


def _stands(path: Path, descriptor: int) -> bool:
    """Whether a locked file is still the one at its path: a sweep may have removed it before it was locked."""
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def _listed(place: Path) -> tuple[FileEntry, ...]:
    document = strict.Reader(stamps.read(place, LISTING), "entry")
    if document.take("format") != FORMAT:
        strict.refuse(f"the format {FORMAT!r}", "another one", "entry.format")
    if document.digest("key") != place.name:
        strict.refuse(f"the key {place.name}", "another one", "entry.key")
    entries = files.files_of(document)
    document.close()
    return entries


def _refuse(place: Path) -> None:
    raise FileExistsError(f"{place} appeared while it was locked")
