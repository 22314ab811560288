"""A checkpoint in Hugging Face layout, in a folder or on the hub: its configuration and, lazily, its tensors."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from omni_sdk.errors import ModelError
from omni_sdk.tools.export import hub, safetensors
from omni_sdk.tools.export.config import Config

CONFIG = "config.json"
SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
PATTERN = "*.safetensors"
PREFIX = "code2wav."
LANDMARK = "code_embedding.weight"
"""A tensor of every Code2Wav, by which its prefix is known."""

Find = Callable[[str], Path | None]
"""Gives the local path of a checkpoint's file, or None where the checkpoint lacks it."""


class Checkpoint:
    """The Code2Wav part of a checkpoint. Holds names and places; values are read when they are asked for.

    Parameters
    ----------
    source : str
        What it was opened from: a folder's path or a hub id.
    config : Config
        The sizes.
    tensors : mapping of str to (pathlib.Path, Entry)
        Where each tensor stands, by its name within Code2Wav.

    See Also
    --------
    open_checkpoint : The way to make one.
    """

    def __init__(self, source: str, config: Config, tensors: Mapping[str, tuple[Path, safetensors.Entry]]) -> None:
        self.source = source
        self.config = config
        self._tensors = tensors

    @property
    def origin(self) -> str:
        """The hub id, or the folder's name: bundles travel, and take no paths of the machine that made them along."""
        folder = Path(self.source)
        return folder.resolve().name if folder.is_dir() else self.source

    def shape(self, name: str) -> tuple[int, ...]:
        """Give a tensor's shape; raises `ModelError` where the checkpoint lacks it."""
        return self._find(name)[1].shape

    def read(self, name: str) -> np.ndarray:
        """Read a tensor in the checkpoint's own dtype; raises `ModelError` where that cannot be done."""
        path, entry = self._find(name)
        return safetensors.read(path, name, entry)

    @property
    def dtypes(self) -> list[str]:
        """The dtypes of its tensors, each once."""
        return sorted({entry.dtype for _, entry in self._tensors.values()})

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors as they stand in the files."""
        return sum(entry.end - entry.start for _, entry in self._tensors.values())

    def _find(self, name: str) -> tuple[Path, safetensors.Entry]:
        try:
            return self._tensors[name]
        except KeyError:
            raise ModelError(f"Expected a tensor {name!r} of Code2Wav, got none - at {self.source}") from None


def open_checkpoint(source: str | Path, *, revision: str | None = None, local_files_only: bool = False) -> Checkpoint:
    """Open a local folder, or a hub id of which only the files that Code2Wav needs are downloaded.

    Parameters
    ----------
    source : str or pathlib.Path
        A folder with `config.json` and `*.safetensors`, with or without an index, or a hub id such as
        `Qwen/Qwen3-Omni-30B-A3B-Instruct`.
    revision : str, optional
        Branch, tag or commit on the hub.
    local_files_only : bool, default False
        Take hub files from the local cache and never from the network.

    Returns
    -------
    Checkpoint

    Raises
    ------
    ModelError
        Where there is no such checkpoint, it holds no Code2Wav, a shard is missing, or a file is damaged.
    """
    name = str(source)
    files: list[Path] = []
    if Path(source).is_dir():
        find: Find = _in_folder(Path(source))
        files = sorted(Path(source).glob(PATTERN))
    elif re.fullmatch(r"[\w.-]+/[\w.-]+", name) and not Path(source).exists():
        find = hub.files(name, revision=revision, local_files_only=local_files_only)
    else:
        raise ModelError(f"Expected a checkpoint's folder or a hub id, got neither - at {name}")
    config_path = find(CONFIG)
    if config_path is None:
        raise ModelError(f"Expected {CONFIG}, got none - at {name}", hint="give the folder that holds config.json")
    config = Config.from_checkpoint(_json_object(config_path))
    return Checkpoint(name, config, _tensors(find, files, name))


def _in_folder(folder: Path) -> Find:
    def find(name: str) -> Path | None:
        path = folder / name
        return path if path.is_file() else None

    return find


def _tensors(find: Find, files: Sequence[Path], source: str) -> dict[str, tuple[Path, safetensors.Entry]]:
    index = find(INDEX)
    if index is None:
        single = find(SINGLE)
        return _unindexed([single] if single is not None else files, source)
    shards = _weight_map(index)
    prefix = _prefix(shards, source)
    wanted = {name: shard for name, shard in shards.items() if name.startswith(prefix)}
    found: dict[str, tuple[Path, safetensors.Entry]] = {}
    for shard in sorted(set(wanted.values())):
        names = [name for name, place in wanted.items() if place == shard]
        path = find(shard)
        if path is None:
            raise ModelError(f"Expected shard {shard} with {len(names)} tensors of Code2Wav, got none - at {source}")
        entries = safetensors.entries(path)
        for name in names:
            if name not in entries:
                raise ModelError(f"Expected {name!r} as {INDEX} says, got no such tensor - at {path}")
            found[name[len(prefix) :]] = (path, entries[name])
    return found


def _unindexed(files: Sequence[Path], source: str) -> dict[str, tuple[Path, safetensors.Entry]]:
    """Tensors of files that no index lists, found by their headers."""
    if not files:
        raise ModelError(f"Expected {INDEX}, {SINGLE} or other {PATTERN}, got none of them - at {source}")
    places: dict[str, tuple[Path, safetensors.Entry]] = {}
    for path in files:
        for name, entry in safetensors.entries(path).items():
            if name in places:
                raise ModelError(
                    f"Expected each tensor in one file, got {name!r} in {places[name][0].name} and {path.name}"
                    f" - at {source}",
                    hint=f"add {INDEX}, or remove the files that do not belong to the checkpoint",
                )
            places[name] = (path, entry)
    prefix = _prefix(places, source)
    return {name[len(prefix) :]: place for name, place in places.items() if name.startswith(prefix)}


def _prefix(names: Mapping[str, object], source: str) -> str:
    for prefix in (PREFIX, ""):
        if prefix + LANDMARK in names:
            return prefix
    raise ModelError(
        f"Expected tensors named {PREFIX}*, got none - at {source}",
        hint="variants that only think or describe have no Code2Wav; take one that speaks, such as Instruct",
    )


def _weight_map(index: Path) -> dict[str, str]:
    shards = _json_object(index).get("weight_map")
    if not isinstance(shards, dict):
        raise ModelError(f"Expected a weight_map, got {type(shards).__name__} - at {index}")
    for shard in shards.values():
        if not isinstance(shard, str) or Path(shard).name != shard or shard in ("", ".", ".."):
            raise ModelError(f"Expected names of files beside the index, got {shard!r:.80} - at {index}")
    return shards


def _json_object(path: Path) -> dict[str, object]:
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise ModelError(f"Expected a JSON file, got {error.strerror or error} - at {path}") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"Expected JSON, got something else ({error}) - at {path}") from error
    if not isinstance(document, dict):
        raise ModelError(f"Expected a JSON object, got {type(document).__name__} - at {path}")
    return document
