"""Digests of files, remembered while the files stay as they are."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from xxhash import xxh3_64_hexdigest, xxh3_128

from omni_sdk import files, folders, stamps
from omni_sdk.errors import BundleError, ModelError

NAME = ".digest-"


class Digests:
    """XXH3-128 over the content of files, noted in a private folder with the files' stamp.

    Parameters
    ----------
    folder : pathlib.Path
        Where notes are kept; where that cannot be, files are read every time.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def of(self, paths: Sequence[Path]) -> str:
        """Digest of the files' content, in their order: 32 hexadecimal digits.

        Raises
        ------
        ModelError
            Where one cannot be read.
        """
        name = NAME + xxh3_64_hexdigest(repr([str(path.absolute()) for path in paths]).encode())
        try:
            state = stamps.state([path.stat() for path in paths])
            known = self._known(name)
            if known is not None and known.get("state") == state:
                with contextlib.suppress(OSError):  # what is in use is not swept
                    os.utime(self._folder / name)
                return str(known["digest"])
            digest = _digest(paths)
        except (BundleError, OSError) as error:
            raise ModelError(f"Expected a model's files to read, got a failure: {error} - at {paths[0]}") from error
        with contextlib.suppress(OSError):
            folders.make_private(self._folder)
            stamps.note(self._folder / name, {"state": state, "digest": digest})
        return digest

    def _known(self, name: str) -> dict[str, object] | None:
        try:
            folders.make_private(self._folder)
            note = stamps.read(self._folder, name)
        except (BundleError, OSError):
            return None
        return note if isinstance(note, dict) and isinstance(note.get("digest"), str) else None


def _digest(paths: Sequence[Path]) -> str:
    digest = xxh3_128()
    for path in paths:
        real = Path(os.path.realpath(path))  # the caller decides which links may be followed
        with files.opened(real.parent, real.name) as (descriptor, status):
            digest.update(status.st_size.to_bytes(8, "little"))
            while chunk := os.read(descriptor, files.CHUNK_BYTES):
                digest.update(chunk)
    return digest.hexdigest()
