"""Files of a folder with their sizes and checksums: listed when the folder is written, compared when it is read."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import xxhash

from omni_sdk.errors import BundleError
from omni_sdk.strict import Reader, refuse

CHUNK_BYTES = 8 << 20
MAX_FILES = 4096
MAX_NAME = 255


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of a folder.

    Parameters
    ----------
    name : str
        Path relative to the folder, with `/` between its parts.
    bytes : int
        Size in bytes.
    xxh3_128 : str
        Checksum of the content: 32 lowercase hexadecimal digits.
    """

    name: str
    bytes: int
    xxh3_128: str


def listing(folder: Path) -> tuple[FileEntry, ...]:
    """List every file below a folder, with its checksum, by name.

    Raises
    ------
    BundleError
        Where one is not a regular file of the folder's own.
    """
    return tuple(_described(folder, path) for path in sorted(_walk(folder)))


def files_of(document: Reader) -> tuple[FileEntry, ...]:
    """Read the list `files` of a document as `listing` gave it, trusting no name.

    Raises
    ------
    BundleError
        Where a name is listed twice or is no plain relative path, or a value is not of its type.
    """
    entries = tuple(_entry(item) for item in document.objects("files", maximum=MAX_FILES))
    if len({entry.name for entry in entries}) != len(entries):
        refuse("names that occur once", "a name listed twice", f"{document.where}.files")
    return entries


def check(folder: Path, entry: FileEntry, *, checksum: bool) -> os.stat_result:
    """Compare a file with what was listed.

    Parameters
    ----------
    folder : pathlib.Path
        Where the file stands.
    entry : FileEntry
        What was listed.
    checksum : bool
        Read the content too; otherwise the size alone is compared.

    Returns
    -------
    os.stat_result
        Of the file that was compared.

    Raises
    ------
    BundleError
        Where it is missing, unreadable, not a regular file inside the folder, or not what was listed.
    """
    with opened(folder, entry.name) as (descriptor, status):
        if status.st_size != entry.bytes:
            raise BundleError(f"Expected {entry.bytes} bytes, got {status.st_size} - at {entry.name} in {folder}")
        if checksum and (found := _checksum(descriptor)) != entry.xxh3_128:
            raise BundleError(f"Expected checksum {entry.xxh3_128}, got {found} - at {entry.name} in {folder}")
        return status


@contextlib.contextmanager
def opened(folder: Path, name: str) -> Iterator[tuple[int, os.stat_result]]:
    """Open a regular file inside `folder`: never a pipe that would block, never what a link outside points to.

    Yields
    ------
    int, os.stat_result
        A descriptor to read from, and the file's status.

    Raises
    ------
    BundleError
        Where there is none, it is not to be read, or it is something else.
    """
    path = folder / name
    try:
        if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
            raise BundleError(f"Expected a file inside the folder, got a link that leaves it - at {name} in {folder}")
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError as error:
        raise BundleError(f"Expected a file, got nothing - at {name} in {folder}") from error
    except OSError as error:
        raise BundleError(f"Expected a file to read, got {error.strerror or error} - at {name} in {folder}") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise BundleError(f"Expected a regular file, got something else - at {name} in {folder}")
        yield descriptor, status
    finally:
        os.close(descriptor)


def _walk(folder: Path) -> Iterator[Path]:
    for parent, below, names in os.walk(folder):
        yield from (Path(parent, name) for name in names)
        yield from (path for path in (Path(parent, name) for name in below) if path.is_symlink())


def _described(folder: Path, path: Path) -> FileEntry:
    name = path.relative_to(folder).as_posix()
    if path.is_symlink():
        raise BundleError(f"Expected files of the folder's own, got a symbolic link - at {name}")
    with opened(folder, name) as (descriptor, status):
        return FileEntry(name, status.st_size, _checksum(descriptor))


def _entry(item: Reader) -> FileEntry:
    name = item.string("name")
    parts = PurePosixPath(name).parts
    inside = parts and "/".join(parts) == name and ".." not in parts and parts[0] != "/"
    if not inside or "\\" in name or ":" in name or len(name) > MAX_NAME or not name.isprintable():
        refuse("a plain relative path inside the folder", f"{name[:MAX_NAME]!r}", f"{item.where}.name")
    entry = FileEntry(name, item.integer("bytes"), item.digest("xxh3_128"))
    item.close()
    return entry


def _checksum(descriptor: int) -> str:
    digest = xxhash.xxh3_128()
    while chunk := os.read(descriptor, CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()
