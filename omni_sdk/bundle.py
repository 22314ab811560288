"""A prepared model on disk: a folder with a graph, its weights in files that ORT maps, and a manifest.

A bundle is written whole or not at all (`omni_sdk.folders` says how) and read defensively: every file the manifest
lists must be a regular file inside the folder and of the size that stands there; `checksums=True` reads the content
too. What the checks do not cover, `omni_sdk.manifest` says.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from omni_sdk import files, folders, manifest
from omni_sdk.errors import BundleError
from omni_sdk.files import FileEntry
from omni_sdk.manifest import SCHEMA, Audio, Manifest
from omni_sdk.strict import JSON, MAX_BYTES

__all__ = ["SCHEMA", "Audio", "Bundle", "Draft", "FileEntry", "Manifest", "create", "is_bundle"]

TRIES = 5
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}

Identity: TypeAlias = "tuple[int, int, int] | None"


class Bundle:
    """A bundle that was opened and found whole.

    Parameters
    ----------
    path : pathlib.Path
        Its folder.
    manifest : Manifest
        What it says of itself.
    identity : tuple of int
        Device, inode and time of the manifest that was read.

    See Also
    --------
    Bundle.open : The way to make one.
    """

    __slots__ = ("_identity", "manifest", "path")

    def __init__(self, path: Path, manifest: Manifest, identity: Identity) -> None:
        self.path = path
        self.manifest = manifest
        self._identity = identity

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, checksums: bool = False) -> Bundle:
        """Open a bundle and check that it is whole.

        Parameters
        ----------
        path : str or os.PathLike
            Its folder.
        checksums : bool, default False
            Read every file and compare its checksum; otherwise sizes alone are compared.

        Returns
        -------
        Bundle

        Raises
        ------
        BundleError
            Where the folder is no bundle, of a later schema, or not whole; says which file and how.
        """
        place = Path(path)
        for _ in range(TRIES):
            folder = folders.standing(place)
            identity = _identity(folder)
            try:
                bundle = cls._read(folder, identity, checksums)
            except BundleError:
                # What fails while a writer replaces the bundle is no damage; what fails in one that stands still is.
                if _identity(folders.standing(place)) == identity:
                    raise
            else:
                if bundle.is_current():
                    return bundle
        raise BundleError(f"Expected a bundle that stands still, got one that was replaced {TRIES} times - at {place}")

    @classmethod
    def _read(cls, folder: Path, identity: Identity, checksums: bool) -> Bundle:
        bundle = cls(folder, _manifest(folder), identity)
        try:
            for entry in bundle.manifest.files:
                files.check(folder, entry, checksum=checksums)
        except OSError as error:
            raise BundleError(f"Expected to read a bundle, got {error.strerror or error} - at {folder}") from error
        return bundle

    @property
    def graph_path(self) -> Path:
        """Path of the ONNX graph."""
        return self.path / self.manifest.graph

    def is_current(self) -> bool:
        """Whether what was opened still stands at the path.

        A loader asks after it has read the files: when another bundle has taken the place meanwhile, it may have read
        some of each and opens anew.
        """
        return self._identity is not None and _identity(self.path) == self._identity

    def __repr__(self) -> str:
        total = sum(entry.bytes for entry in self.manifest.files)
        return f"Bundle({str(self.path)!r}, {len(self.manifest.files)} files, {total} bytes)"


@dataclass(slots=True)
class Draft:
    """A bundle that is being written.

    Parameters
    ----------
    folder : pathlib.Path
        Where the files go.
    graph, state, audio, opset, operators, quality, provenance
        As in `Manifest`.
    """

    folder: Path
    graph: str = "model.onnx"
    state: Mapping[str, str] = field(default_factory=dict)
    audio: Audio | None = None
    opset: Mapping[str, int] = field(default_factory=dict)
    operators: int = 0
    quality: Mapping[str, JSON] = field(default_factory=dict)
    provenance: Mapping[str, JSON] = field(default_factory=dict)


@contextlib.contextmanager
def create(path: str | os.PathLike[str]) -> Iterator[Draft]:
    """Write a bundle, or replace one, at one instant.

    Parameters
    ----------
    path : str or os.PathLike
        The bundle's folder. What stands there must be a bundle or an empty folder.

    Yields
    ------
    Draft
        Its `folder` takes the files. On a clean exit the manifest is written and the bundle stands at `path`; on an
        error nothing is left, and an old bundle stands as it was.

    Raises
    ------
    BundleError
        Where something else stands at `path`, the files or the manifest's values cannot be a bundle's, or the disk
        does not take them.
    """
    place = Path(os.path.realpath(path))
    callers: OSError | None = None
    try:
        _check_replaceable(place)
        place.parent.mkdir(parents=True, exist_ok=True)
        with folders.replacing(place, _check_replaceable) as folder:
            draft = Draft(folder)
            try:
                yield draft
            except OSError as error:
                callers = error
                raise
            _finish(draft)
    except OSError as error:
        if error is callers and error.errno not in NO_ROOM:
            raise
        raise BundleError(f"Expected to write a bundle, got {error.strerror or error} - at {place}") from error


def is_bundle(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a folder with a manifest; `Bundle.open` says whether it is whole."""
    return (folders.standing(Path(path)) / manifest.FILENAME).is_file()


def _finish(draft: Draft) -> None:
    text = manifest.render(
        graph=draft.graph,
        files=files.listing(draft.folder),
        state=draft.state,
        audio=draft.audio,
        opset=draft.opset,
        operators=draft.operators,
        quality=draft.quality,
        provenance=draft.provenance,
    )
    (draft.folder / manifest.FILENAME).write_bytes(text)


def _check_replaceable(place: Path) -> None:
    if not place.exists() or (place.is_dir() and not any(place.iterdir())):
        return
    try:
        listed = {entry.name.split("/")[0] for entry in _manifest(place).files} | {manifest.FILENAME}
    except BundleError as error:
        raise BundleError(
            f"Expected a new path, an empty folder or a bundle to replace, got something else - at {place}",
            hint="choose another path, or remove what stands there",
        ) from error
    foreign = {path.name for path in place.iterdir()} - listed
    if foreign:
        raise BundleError(
            f"Expected a bundle's own files alone, got {min(foreign)!r} beside them - at {place}",
            hint="replacing the bundle would delete it: move it elsewhere first",
        )


def _identity(folder: Path) -> Identity:
    try:
        status = (folder / manifest.FILENAME).stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns


def _manifest(folder: Path) -> Manifest:
    if not folder.is_dir():
        raise BundleError(f"Expected a folder, got {'a file' if folder.exists() else 'nothing'} - at {folder}")
    with files.opened(folder, manifest.FILENAME) as (descriptor, _):
        text = os.read(descriptor, MAX_BYTES + 1)
    try:
        return manifest.parse(text)
    except BundleError as error:
        raise error.within(folder) from error
