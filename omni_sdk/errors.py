"""What can go wrong, one class a cause.

Everything under `OmniError` but `InternalError`, which is our bug, has its cause outside this package. Where Python has
a class of its own for the cause, ours inherits it, so that callers who know nothing of us still catch it: `InputError`
and `SettingsError` are `ValueError`s, `MemoryBudgetError` is a `MemoryError`. The others inherit none. Every message
follows one grammar: *Expected what, got what - at which input, option or file*, with a remedy on a line of its own
where there is one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

E = TypeVar("E", bound="OmniError")

# What stands between a message's sentence and its remedy.
_HINT = "\n  hint: "


class OmniError(Exception):
    """Root of everything this package raises on purpose.

    Parameters
    ----------
    message : str
        One sentence: what was expected, what came, and where.
    hint : str, optional
        The remedy, shown on a line of its own.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message if hint is None else f"{message}{_HINT}{hint}")
        self.hint = hint

    def within(self: E, place: object) -> E:
        """The same error, with its place told further: a file or a folder in which that is."""
        return type(self)(f"{str(self).partition(_HINT)[0]} in {place}", hint=self.hint)


class ModelError(OmniError):
    """A model could not be read, loaded or run: the file, its graph or its data is at fault."""


class InputError(OmniError, ValueError):
    """A feed does not fit the model. Names the input, what was expected and what came."""


class SettingsError(OmniError, ValueError):
    """A setting has a value that it cannot take, or one that ONNX Runtime would silently ignore."""


class ProviderError(OmniError):
    """An execution provider is missing, refuses the model or takes no node. Names what is installed."""


class StreamError(OmniError):
    """A stream cannot be opened or continued: ambiguous state, changed state, or a failed step."""


class BundleError(OmniError):
    """A bundle on disk is not ours, not whole, or not of a schema this version reads."""


class MemoryBudgetError(OmniError, MemoryError):
    """What was asked for cannot fit the memory budget.

    Parameters
    ----------
    message, hint
        As for `OmniError`.
    parts : mapping of str to int, optional
        The sum, part by part, in bytes: what is held already and what was asked for.
    """

    def __init__(self, message: str, *, hint: str | None = None, parts: Mapping[str, int] | None = None) -> None:
        super().__init__(message, hint=hint)
        self.parts = dict(parts or {})


class ClosedError(OmniError):
    """The object was closed, or belongs to the process that forked this one."""


class InternalError(OmniError):
    """An invariant of this package was broken. This is our bug, not yours."""
