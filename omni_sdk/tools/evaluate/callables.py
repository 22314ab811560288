"""The user's own code, named as `module:function`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omni_sdk.errors import InputError


def load_callable(name: str, *, folder: str | Path | None = None) -> Callable[..., Any]:
    """Import a function by name.

    Parameters
    ----------
    name : str
        `module:function`; the function may be an attribute of an attribute, as in `module:object.method`.
    folder : str or Path, optional
        Where else to look for the module, besides the installed ones.

    Returns
    -------
    callable
        What stands under that name.

    Raises
    ------
    InputError
        The name has another form, the module cannot be imported, or it holds no such callable.
    """
    module_name, colon, attribute = name.partition(":")
    if not (module_name and colon and attribute):
        raise InputError(f"Expected a function as 'module:function', got {name!r} - at its name")
    if folder is not None and str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    try:
        found: Any = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # a script that runs when it is imported, and ends with a status
        raise InputError(
            f"Expected a module that imports, got {type(error).__name__}: {error} - at {module_name!r} of {name!r}",
            hint="The module is looked for in the working directory and among the installed packages.",
        ) from error
    for part in attribute.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise InputError(f"Expected a function, got {type(found).__name__} - at {name!r}")
    return found  # type: ignore[no-any-return]
