"""Folders that appear whole: written beside their place, made durable, and put there at one instant.

What stands at a path is at every instant the whole old folder or the whole new one, whenever its writer is killed.
On Linux `renameat2(RENAME_EXCHANGE)` swaps the two in one step. Where the system or the filesystem cannot (other
systems, some network filesystems), the old folder is renamed to `.NAME.previous` first, for the instant between two
renames nothing stands at the path, and `standing` tells readers to look at that name instead.

A temporary folder is `.NAME.PID-RANDOM.partial`. Its writer holds a lock on it for as long as it lives, which the
system drops when the process dies; `sweep` removes the folders whose lock can be had. Where folders have no locks
(Windows, some network filesystems), they stay until someone removes them by hand.
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
from collections.abc import Callable, Iterator
from pathlib import Path

if sys.platform != "win32":
    import fcntl

PARTIAL = ".partial"
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


def make_private(folder: Path) -> None:
    """Make a folder that only this user may enter, or check that it is one.

    Raises
    ------
    OSError
        Where it cannot be made, is a link, belongs to someone else, or is open to others.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError(f"{folder} is no folder")
    if sys.platform != "win32" and (status.st_uid != os.geteuid() or status.st_mode & 0o077):
        owner, mode = status.st_uid, stat.S_IMODE(status.st_mode)
        raise PermissionError(f"{folder} is not private to this user (owner {owner}, mode {mode:o})")


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
