"""What `load` was given: a model file, a bundle folder, or the model's bytes."""

from __future__ import annotations

import mmap
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path

from xxhash import xxh3_128

from omni_sdk import stamps
from omni_sdk.bundle import Bundle, is_bundle
from omni_sdk.errors import InputError, ModelError
from omni_sdk.graph_scan import GraphScan, scan

# ORT-format files (flatbuffers) hold each name as its length in four bytes, the text, and a zero.
LENGTH_BYTES = 4
# Their mark, where it stands, and the ending of the names by which ONNX Runtime tells such a file.
ORT_MARK, ORT_MARK_AT, ORT_ENDING = b"ORTM", 4, ".ort"

# ONNX Runtime's own mark of data at an address in memory, which no file may claim.
ADDRESS_MARK = "*/_ORT_"

# Operators whose result is not decided by their inputs.
RANDOM_OPERATORS = (
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
    "Multinomial",
    "Bernoulli",
    "Sampling",
)


class Source:
    """A model to load, wherever it is.

    Parameters
    ----------
    origin : str, PathLike or bytes
        Path of a `.onnx` or `.ort` file or of a bundle folder, or a serialized model.

    Raises
    ------
    InputError
        When it is neither a path nor bytes.
    ModelError
        When there is no such file, or it is empty.
    BundleError
        When a bundle is not whole.
    """

    def __init__(self, origin: str | os.PathLike[str] | bytes) -> None:
        self.path: Path | None = None
        self.bundle: Bundle | None = None
        self.data: bytes | None = None
        if isinstance(origin, (bytes, bytearray, memoryview)):
            self.data = bytes(origin)
            if not self.data:
                raise ModelError("Expected a serialized model, got 0 bytes - at load")
        elif isinstance(origin, (str, os.PathLike)):
            self._open(Path(origin))
        else:
            raise InputError(f"Expected a path or bytes, got {type(origin).__name__} - at load")

    def _open(self, path: Path) -> None:
        if os.path.isdir(path):  # noqa: PTH112 - unlike Path.is_dir, it raises for no path at all
            if not is_bundle(path):
                raise ModelError(f"Expected a model file or a bundle, got a folder without a manifest - at {path}")
            self.bundle = Bundle.open(path)
            path = self.bundle.graph_path
        try:
            size = path.stat().st_size
        except (OSError, ValueError) as error:  # ValueError: a path that no system call takes
            why = error.strerror if isinstance(error, OSError) else error
            raise ModelError(f"Expected a model file, got {why} - at {str(path)!r}") from error
        if size == 0:
            raise ModelError(f"Expected a model, got an empty file - at {path}")
        self.path = path

    def __str__(self) -> str:
        if self.bundle is not None:
            return str(self.bundle.path)
        return str(self.path) if self.path is not None else f"<{len(self.data or b'')} bytes>"

    @property
    def model(self) -> str | bytes:
        """What ONNX Runtime takes: the graph's path, or its bytes.

        Raises
        ------
        ModelError
            When it takes no such path.
        """
        if self.data is not None:
            return self.data
        try:
            str(self.path).encode()
        except UnicodeEncodeError as error:
            raise ModelError(
                f"Expected a path in UTF-8, got other bytes - at {str(self.path)!r}",
                hint="ONNX Runtime opens no other path: rename the file or its folder",
            ) from error
        return str(self.path)

    @cached_property
    def fingerprint(self) -> bytes:
        """16 bytes over the graph's content. A bundle's covers its weights too; a loose file's external data is
        covered only by what the graph says of it."""
        if self.bundle is not None:
            return bytes.fromhex(self.bundle.manifest.fingerprint)
        with self._view() as view:
            return xxh3_128(view).digest()

    @cached_property
    def files(self) -> list[Path]:
        """The graph's file and those of its external data inside its folder; none for a model from bytes."""
        if self.path is None:
            return []
        external = self.scan.external_files if self.scan is not None else ()
        return [self.path, *(self.path.parent / name for name in sorted(external) if _is_inside(name, self.path))]

    @property
    def elsewhere(self) -> list[str]:
        """Locations of external data that are not inside the graph's folder; a model from bytes has none of its own.

        Raises
        ------
        ModelError
            Where it is neither an ONNX file that was read nor one in ORT's format, which has no external data. ONNX
            Runtime must never see such a file: its reader could find external data that ours did not.
        """
        if self.scan is None:
            if self._is_ort_format():
                return []
            raise ModelError(
                f"Expected a model that ONNX Runtime can load, got bytes that are none - at {self}",
                hint=f"the file is cut short, damaged, or no ONNX model; ORT's own format has names in {ORT_ENDING}",
            )
        names = sorted(self.scan.external_files)
        if any(name.startswith(ADDRESS_MARK) for name in names):
            raise ModelError(f"Expected external data in files, got data at an address in memory - at {self}")
        return [name for name in names if self.path is None or not _is_inside(name, self.path)]

    @property
    def size(self) -> int:
        """Bytes of the graph and its weights; a file that is missing counts nothing, loading will say so."""
        if self.data is not None:
            return len(self.data)
        return sum(status.st_size for status in self._statuses())

    def stamp(self) -> object:
        """Equal for as long as nothing wrote to the model's files."""
        return stamps.state(self._statuses())

    def _statuses(self) -> list[os.stat_result]:
        """Of the files that are there. `ModelError` for one that is no regular file: a pipe would block its reader."""
        found = []
        for path in self.files:
            with suppress(OSError):
                found.append(path.stat())
                if not stat.S_ISREG(found[-1].st_mode):
                    raise ModelError(f"Expected a regular file, got something else - at {path}")
        return found

    def is_current(self) -> bool:
        """Whether a bundle is still the one that was opened; true of everything else."""
        return self.bundle is None or self.bundle.is_current()

    @cached_property
    def is_random(self) -> bool:
        """Whether the graph holds an operator whose result is not decided by its inputs."""
        if self.scan is not None:
            return self.scan.dropout_may_train or not self.scan.operators.isdisjoint(RANDOM_OPERATORS)
        return not self._is_ort_format() or self._mentions([*RANDOM_OPERATORS, "Dropout"])

    @cached_property
    def needs_operators(self) -> bool:
        """Whether the graph uses the operator domain that `_kernels` implements."""
        if self.bundle is not None:
            return self.bundle.manifest.operators > 0
        return "omni" in self.scan.domains if self.scan is not None else self._mentions(["omni"])

    @cached_property
    def scan(self) -> GraphScan | None:
        """Operators and external data of an ONNX file; None for an ORT-format file and for what is no model."""
        with self._view() as view:
            return scan(view)

    def _is_ort_format(self) -> bool:
        """Whether ONNX Runtime takes it for its own format: bytes by their mark, a file by its name too."""
        with self._view() as view:
            is_marked = view[ORT_MARK_AT : ORT_MARK_AT + len(ORT_MARK)] == ORT_MARK
        return is_marked and (self.path is None or self.path.name.lower().endswith(ORT_ENDING))

    def _mentions(self, names: Iterable[str]) -> bool:
        # Weights could spell a name by chance: then a cache stays off, or a library is loaded that was not needed.
        patterns = [len(name).to_bytes(LENGTH_BYTES, "little") + name.encode() + b"\0" for name in names]
        with self._view() as view:
            return any(view.find(pattern) >= 0 for pattern in patterns)

    @contextmanager
    def _view(self) -> Iterator[bytes | mmap.mmap]:
        if self.data is not None:
            yield self.data
            return
        assert self.path is not None
        try:
            with self.path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
                yield view
        except OSError as error:
            raise ModelError(f"Expected a readable model file, got {error.strerror} - at {self.path}") from error


def _is_inside(name: str, graph: Path) -> bool:
    """Whether a location of external data is in the graph's folder, whatever links it is behind."""
    if name.startswith(ADDRESS_MARK):
        return False
    try:
        real = Path(os.path.realpath(graph.parent / name))
    except ValueError:  # a name that no file can have
        return False
    return real.is_relative_to(Path(os.path.realpath(graph)).parent)
