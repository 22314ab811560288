"""What a forked child may do with models of its parent: nothing, and it must say so, and still end.

ONNX Runtime's threads stay with the parent. In the child its sessions would wait for them for ever, both when they are
used and when they are destroyed, and so would ONNX Runtime's own clean-up as the process exits.
"""

from __future__ import annotations

import ctypes
import os
import weakref
from typing import Protocol


class Disownable(Protocol):
    """Something that a forked child must not use."""

    def disown(self) -> None:
        """Called in the child, before anything else runs there."""


_living: weakref.WeakSet[Disownable] = weakref.WeakSet()


def watch(thing: Disownable) -> None:
    """From now on `thing.disown` is called in every forked child, as long as it lives."""
    _living.add(thing)


def keep_for_ever(thing: object) -> None:
    """Takes a reference that nobody gives back, so that not even the interpreter's end destroys the object."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def _disown_all() -> None:
    things = list(_living)
    for thing in things:
        thing.disown()
    if things:
        _skip_clean_up_at_exit()


def _skip_clean_up_at_exit() -> None:
    """Python's own clean-up is done by then; of the C library's, handlers older than the fork are passed over."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "on_exit"):  # glibc: handlers get the status, and run in reverse order of registration
        libc.on_exit(libc._exit, None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disown_all)
