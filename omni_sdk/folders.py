"""Folders that appear whole: written beside their place, made durable, and put there at one instant.

What stands at a path is at every instant the whole old folder or the whole new one, whenever its writer is killed.
On Linux `renameat2(RENAME_EXCHANGE)` swaps the two in one step. Where the system or the filesystem cannot (other
systems, some network filesystems), the old folder is renamed to `.NAME.previous` first, for the instant between two
renames nothing stands at the path, and `standing` tells readers to look at that name instead.

A temporary folder is `.NAME.PID-RANDOM.partial`. Its writer holds a lock on it for as long as it lives, which the
system drops when the process dies; `sweep` removes the folders whose lock can be had. Where folders have no locks
(Windows, some network filesystems), they stay until someone removes them by hand.

Here too: where this user's caches stand, what makes such a folder private, and how a small file gets into it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import glob
import os
import secrets
import shutil
import stat
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import EllipsisType
from typing import TypeAlias

import platformdirs

from omni_sdk.errors import InputError

if sys.platform != "win32":
    import fcntl

CacheDir: TypeAlias = "str | os.PathLike[str] | EllipsisType | None"

CACHE_VARIABLE = "OMNI_SDK_CACHE_DIR"
PARTIAL = ".partial"
SMALL_PARTIAL = ".small"
# A small file is written in milliseconds: what is as old as this was left by a writer that was killed.
SMALL_PARTIAL_SECONDS = 86400.0
PREVIOUS = ".previous"
AT_FDCWD = -100
RENAME_EXCHANGE = 2
CANNOT_EXCHANGE = {errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM}


@contextlib.contextmanager
def replacing(path: Path, may_replace: Callable[[Path], None], *, durable: bool = True) -> Iterator[Path]:
    """Hand out an empty folder to fill; on a clean exit it stands at `path`, on an error nothing is left of it.

    Parameters
    ----------
    path : pathlib.Path
        Where the folder shall stand; its parent exists. Symbolic links are followed.
    may_replace : callable
        Called with `path` right before the swap where something stands there; raises to refuse.
    durable : bool, default True
        Write through to the disk before the swap, so that a power failure leaves the folder whole too.

    Yields
    ------
    pathlib.Path
        The temporary folder, beside `path`.

    Raises
    ------
    OSError
        Where the disk is full, or the parent is not to be written.
    """
    path = Path(os.path.realpath(path))
    sweep(path)
    partial, lock = _claim(path)
    try:
        yield partial
        if durable:
            _make_durable(partial)
        _put(partial, path, may_replace, durable)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def standing(path: Path) -> Path:
    """Where the folder of `path` is to be read: at `path`, or at its old name while a writer is between two renames."""
    if path.exists():  # "." and "/" do, and have no name that a sibling's could be made of
        return path
    previous = _sibling(path, PREVIOUS)
    return previous if previous.is_dir() else path


def sweep(path: Path) -> None:
    """Remove what dead writers of `path` left beside it, and put back what one had set aside."""
    _remove_abandoned(path.parent, glob.escape(_sibling(path, "").name))
    previous = _sibling(path, PREVIOUS)
    if previous.is_dir():
        with _alone(path.parent):
            if path.exists():
                shutil.rmtree(previous, ignore_errors=True)
            elif previous.is_dir():
                previous.rename(path)


def sweep_inside(folder: Path) -> None:
    """Remove what dead writers left in a folder, whatever they were to write there."""
    _remove_abandoned(folder, ".*")


def cache(cache_dir: CacheDir = ...) -> Path | None:
    """The cache folder: the one asked for, else that of `OMNI_SDK_CACHE_DIR`, else the user's; None where it is off.

    Raises
    ------
    InputError
        When what was asked for is no path.
    """
    if isinstance(cache_dir, EllipsisType):
        cache_dir = os.environ.get(CACHE_VARIABLE) or platformdirs.user_cache_path("omni-sdk", appauthor=False)
    return None if cache_dir is None else _path(cache_dir)


def _path(cache_dir: object) -> Path:
    path = os.fspath(cache_dir) if isinstance(cache_dir, (str, os.PathLike)) else None
    try:
        if isinstance(path, str) and b"\0" not in os.fsencode(path):
            return Path(path)
    except UnicodeEncodeError:  # a lone surrogate
        pass
    raise InputError(f"Expected a path, got {cache_dir!r} - at cache_dir")


def make_private(folder: Path) -> None:
    """Make a folder that only this user may enter, or check that it is one. Those above it are made likewise.

    Raises
    ------
    OSError
        Where it cannot be made, or is not private, as `check_private` says.
    """
    for place in reversed([place for place in (folder, *folder.parents) if not place.exists()]):
        place.mkdir(mode=0o700, exist_ok=True)
    check_private(folder)


def check_private(folder: Path) -> None:
    """Check that only this user may enter a folder, and that nobody else can put another in its place.

    Raises
    ------
    OSError
        Where there is none, or it is a link, belongs to someone else or is open to others; or where a folder above it
        belongs to neither this user nor root, or everyone may rename what is in it.
    """
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError(f"{folder} is no folder")
    if sys.platform != "win32" and (status.st_uid != os.geteuid() or status.st_mode & 0o077):
        owner, mode = status.st_uid, stat.S_IMODE(status.st_mode)
        raise PermissionError(f"{folder} is not private to this user (owner {owner}, mode {mode:o})")
    for place in _above(folder):
        _check_above(place)


def put(path: Path, text: str) -> None:
    """Write a small file for this user alone, at one instant: whole or not at all, whenever its writer is killed.

    Raises
    ------
    OSError
        Where the disk does not take it; then what stood there stands.
    """
    remove_old(path.parent, f"{glob.escape(_sibling(path, '').name)}.*{SMALL_PARTIAL}", SMALL_PARTIAL_SECONDS)
    partial = _sibling(path, f".{secrets.token_hex(6)}{SMALL_PARTIAL}")
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            left = text.encode()
            while left:
                left = left[os.write(descriptor, left) :]
        finally:
            os.close(descriptor)
        partial.replace(path)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def remove_old(folder: Path, pattern: str, seconds: float) -> None:
    """Remove files whose names fit and that nobody wrote to or touched for so long."""
    for path in folder.glob(pattern):
        with contextlib.suppress(OSError):
            if time.time() - path.lstat().st_mtime > seconds:
                path.unlink()


def _above(folder: Path) -> list[Path]:
    """Every folder above, and every link, by the names that were given and by those that they lead to."""
    absolute, real = Path(os.path.abspath(folder)), Path(os.path.realpath(folder))  # noqa: PTH100 - follows no link
    return list(dict.fromkeys((*absolute.parents, *real.parents)))


def _check_above(place: Path) -> None:
    if sys.platform == "win32":
        return
    status = place.lstat()
    owner, mode = status.st_uid, stat.S_IMODE(status.st_mode)
    if owner not in (0, os.geteuid()):
        raise PermissionError(f"{place} above it belongs to another user (owner {owner})")
    is_anyones = mode & stat.S_IWOTH and not mode & stat.S_ISVTX
    if is_anyones and not stat.S_ISLNK(status.st_mode):
        raise PermissionError(f"{place} above it may be written by everyone (mode {mode:o})")


def _remove_abandoned(folder: Path, pattern: str) -> None:
    for partial in folder.glob(f"{pattern}.*{PARTIAL}"):
        with contextlib.suppress(OSError):
            lock = _lock(partial)
            shutil.rmtree(partial, ignore_errors=True)
            os.close(lock)


def _claim(path: Path) -> tuple[Path, int | None]:
    while True:
        partial = _sibling(path, f".{os.getpid()}-{secrets.token_hex(6)}{PARTIAL}")
        partial.mkdir()
        try:
            lock = _lock(partial)
        except (BlockingIOError, FileNotFoundError):  # a sweeper came between mkdir and the lock
            continue
        except OSError:
            return partial, None
        if partial.is_dir():
            return partial, lock
        os.close(lock)


def _make_durable(folder: Path) -> None:
    for parent, _, files in os.walk(folder, topdown=False):
        for name in files:
            _sync(Path(parent, name))
        _sync(Path(parent))


def _put(partial: Path, path: Path, may_replace: Callable[[Path], None], durable: bool) -> None:
    with _alone(path.parent):
        if path.exists():
            may_replace(path)
            if not _exchange(partial, path):
                _put_in_two_steps(partial, path)
        else:
            partial.rename(path)
        if durable:
            _sync(path.parent)


def _put_in_two_steps(partial: Path, path: Path) -> None:
    previous = _sibling(path, PREVIOUS)
    shutil.rmtree(previous, ignore_errors=True)
    path.rename(previous)
    partial.rename(path)
    shutil.rmtree(previous, ignore_errors=True)


def _exchange(first: Path, second: Path) -> bool:
    """Swap two folders in one step; False where this system or filesystem has no such step."""
    rename = _renameat2()
    if rename is None:
        return False
    if rename(AT_FDCWD, os.fsencode(first), AT_FDCWD, os.fsencode(second), RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in CANNOT_EXCHANGE:
        return False
    raise OSError(number, os.strerror(number), str(second))


@functools.cache
def _renameat2() -> Callable[..., int] | None:
    if not sys.platform.startswith("linux"):
        return None
    function = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if function is not None:
        function.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
        function.restype = ctypes.c_int
    return function


def _lock(folder: Path) -> int:
    """Lock a folder against other processes, until the descriptor returned is closed.

    Raises
    ------
    BlockingIOError
        Where another holds it.
    OSError
        Where it is gone, or the system or the filesystem has no such locks.
    """
    if sys.platform == "win32":
        raise OSError(errno.ENOTSUP, "folders have no locks here")
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


@contextlib.contextmanager
def _alone(parent: Path) -> Iterator[None]:
    """Wait until no other process of ours puts a folder into `parent`; where it cannot be locked, go on."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            if sys.platform != "win32":
                descriptor = os.open(parent, os.O_RDONLY | os.O_DIRECTORY)
                stack.callback(os.close, descriptor)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


def _sync(path: Path) -> None:
    if sys.platform == "win32" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY if sys.platform != "win32" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sibling(path: Path, ending: str) -> Path:
    return path.with_name(f".{path.name}{ending}")
