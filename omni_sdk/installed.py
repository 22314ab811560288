"""Which providers can be had here: what is installed, by which distributions, and what to install instead."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from functools import cache

from omni_sdk.errors import ProviderError
from omni_sdk.providers import CPU, FACTS, LONG_NAMES, Options, long_name, short_name

# How names of its distributions begin, nightly builds among them, and the file that tells them from others whose names
# begin alike: extensions, and providers that are installed beside it.
_NAMES = ("onnxruntime", "ort-nightly")
_RUNTIME = "onnxruntime/__init__.py"


def chosen(
    entries: Sequence[tuple[str, Mapping[str, str]]], installed: Sequence[str], *, allow_fallback: bool
) -> list[tuple[str, Options]]:
    """Providers by full name in the order asked for; those that are missing left out where that is allowed.

    Raises
    ------
    ProviderError
        When one is not installed and `allow_fallback` is off.
    """
    found = [(long_name(name), dict(options)) for name, options in entries]
    missing = [name for name, _ in found if name not in installed]
    if missing and not allow_fallback:
        raise missing_error(missing[0], installed)
    return [entry for entry in found if entry[0] in installed] or [(CPU, {})]


def missing_error(name: str, installed: Sequence[str]) -> ProviderError:
    """What to say of a provider that is not installed: what is, and the package that brings it."""
    packages = ", ".join(f"{package} {version}" for package, version in runtimes().items()) or "no onnxruntime package"
    if name in FACTS:
        here = " ".join(runtimes())
        swap = f"pip uninstall {here} && " if here else ""
        hint = f"{swap}pip install {FACTS[name].package} (only one onnxruntime package at a time)"
    else:
        near = difflib.get_close_matches(name, [*LONG_NAMES, *installed], n=1, cutoff=0.6)
        hint = f"did you mean {near[0]!r}?" if near else "install the onnxruntime build that brings it"
    return ProviderError(
        f"Expected an installed execution provider, got {short_name(name)!r} - at Settings.providers"
        f" (installed: {', '.join(installed)}, by {packages})",
        hint=f"{hint}; allow_fallback=True goes on without it",
    )


@cache
def runtimes() -> Mapping[str, str]:
    """Installed distributions that bring ONNX Runtime, by name, with their versions."""
    from importlib import metadata  # half as long to import as this package; needed by none of the usual loads

    found = {}
    for distribution in metadata.distributions():
        name = (distribution.metadata["Name"] or "").lower().replace("_", "-")
        if name.startswith(_NAMES) and (distribution.files is None or _RUNTIME in map(str, distribution.files)):
            found[name] = distribution.version
    return dict(sorted(found.items()))


def refuse_conflicts(names: Sequence[str]) -> None:
    """Refuses to look for providers in a folder that several distributions of ONNX Runtime wrote to.

    They bring the same files: whichever came last has overwritten part of the others'.

    Raises
    ------
    ProviderError
        When there are several and a provider other than the CPU's is asked for.
    """
    if all(name == CPU for name in names) or len(runtimes()) < 2:
        return
    several = " and ".join(f"{name} {version}" for name, version in runtimes().items())
    wanted = next((FACTS[name].package for name in names if name in FACTS and name != CPU), next(iter(runtimes())))
    raise ProviderError(
        f"Expected one distribution of ONNX Runtime, got {several} - at Settings.providers",
        hint=f"pip uninstall {' '.join(runtimes())} && pip install {wanted}",
    )
