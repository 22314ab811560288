"""Which options the installed ONNX Runtime really understands.

ONNX Runtime takes any session entry and ignores the ones it does not know. Its shared library carries the names of
those it does know as NUL-terminated strings, so the library itself is asked: the answer holds for the version that
runs, whatever it is.
"""

from __future__ import annotations

import difflib
import mmap
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

# Entries that look as if they existed, met in the wild, and what to use instead.
IMPOSTORS = {
    "session.qdq_matmulnbits_to_float": "the real neighbour is 'session.qdq_matmulnbits_accuracy_level'",
    "session.arena_extend_strategy": "set Settings(arena_bytes=..., arena_extend_strategy=...)",
    "session.arena_size": "set Settings(arena_bytes=...)",
}

# Names that compilers cut in two: a library may hold only so many of their first letters in one place.
SPLIT = {"session.model_external_initializers_file_folder_path": 48}

# Entries that ONNX Runtime's header documents as "0" or "1". It takes any text, mostly as "0".
SWITCHES = frozenset(
    {
        "optimization.enable_cast_chain_elimination",
        "optimization.enable_gelu_approximation",
        "session.allow_released_opsets_only",
        "session.debug_layout_transformation",
        "session.disable_aot_function_inlining",
        "session.disable_cpu_ep_fallback",
        "session.disable_double_qdq_remover",
        "session.disable_model_compile",
        "session.disable_prepacking",
        "session.disable_quant_qdq",
        "session.enable_dq_matmulnbits_fusion",
        "session.enable_quant_qdq_cleanup",
        "session.force_spinning_stop",
        "session.inter_op.allow_spinning",
        "session.intra_op.allow_spinning",
        "session.qdqisint8allowed",
        "session.record_ep_graph_assignment_info",
        "session.save_external_prepacked_constant_initializers",
        "session.set_denormal_as_zero",
        "session.strict_shape_type_inference",
        "session.use_device_allocator_for_initializers",
        "session.use_env_allocators",
        "session.use_ort_model_bytes_directly",
        "session.use_ort_model_bytes_for_initializers",
        "session.x64quantprecision",
    }
)

# How an arena grows, as ONNX Runtime numbers it.
ARENA_STRATEGIES = {"power_of_two": 0, "same_as_requested": 1}

_ENTRY = re.compile(rb"(?:session|optimization|mlas|ep|memory)\.[a-z0-9_.]*[a-z0-9_](?=\0)")
_SOURCE_FILE = re.compile(r"\.(cc|h|cpp|cu)$")


class FixedOptions(dict[str, str]):
    """Options by name that nobody changes any more, so that what holds them can be hashed."""

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError("Expected settings to stay as they are, got a change - at options: use Settings.replace")

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))

    def __reduce__(self) -> tuple[Any, ...]:
        # A dict's own way would set the items one by one.
        return FixedOptions, (dict(self),)


class SessionEntries:
    """The names of session entries that the ONNX Runtime in a folder knows.

    Looking one name up takes milliseconds, listing all of them most of a second, so both happen only when asked.

    Parameters
    ----------
    folder : Path
        Where ONNX Runtime's shared libraries lie.
    """

    def __init__(self, folder: Path) -> None:
        self._libraries = [path for path in folder.glob("*onnxruntime*") if path.is_file() and path.stat().st_size]
        self._found: dict[str, bool] = {}

    def readable(self) -> bool:
        """Whether there is a library to ask."""
        return bool(self._libraries)

    def __contains__(self, name: str) -> bool:
        if name not in self._found:
            text = name.encode()[: SPLIT.get(name)] + (b"" if name in SPLIT else b"\0")
            self._found[name] = any(view.find(text) >= 0 for view in self._views())
        return self._found[name]

    def names(self) -> set[str]:
        """Every name."""
        found = {match.group().decode() for view in self._views() for match in _ENTRY.finditer(view)}
        return {name for name in found if not _SOURCE_FILE.search(name)}

    def remedy(self, name: str) -> str:
        """What to do about a name that is not known."""
        if name in IMPOSTORS:
            return IMPOSTORS[name]
        near = difflib.get_close_matches(name, self.names(), n=1, cutoff=0.8)
        return f"did you mean {near[0]!r}?" if near else "remove it: ONNX Runtime ignores it silently"

    def _views(self) -> Iterator[mmap.mmap]:
        for path in self._libraries:
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
                yield view
