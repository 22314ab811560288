"""What can go wrong, one class a cause.

Two trees under `OmniError`: *used wrongly* (these also inherit `ValueError` and its like, so callers who know
nothing of us still catch them) and `InternalError`, which is our bug. Every message follows one grammar:
*Expected what, got what - at which input, option or file*, with a remedy on a line of its own where there is one.
"""

from __future__ import annotations


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
        super().__init__(message if hint is None else f"{message}\n  hint: {hint}")
        self.hint = hint


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
    """What was asked for cannot fit the memory budget. Carries the sum, part by part."""


class ClosedError(OmniError):
    """The object was closed, or belongs to the process that forked this one."""


class InternalError(OmniError):
    """An invariant of this package was broken. This is our bug, not yours."""
