"""The hub, replaced by a folder that counts what is fetched from it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from omni_sdk.errors import ModelError
from omni_sdk.tools.export import safetensors
from omni_sdk.tools.export.checkpoint import open_checkpoint

huggingface_hub = pytest.importorskip("huggingface_hub")
REPOSITORY = "someone/omni"


class FakeHub:
    """Serves one repository from a folder, raising what the library raises."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fetched: list[str] = []
        self.options: dict[str, object] = {}

    def hf_hub_download(self, repository: str, name: str, **options: object) -> str:
        self.options = options
        path = self.folder / name
        if not path.is_file():
            if options["local_files_only"]:
                raise huggingface_hub.errors.LocalEntryNotFoundError(name)
            raise huggingface_hub.errors.EntryNotFoundError(name)
        self.fetched.append(name)
        return str(path)


@pytest.fixture
def hub(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    """A repository of three shards, one of which is of no use to Code2Wav."""
    single = tiny / "model.safetensors"
    entries = safetensors.entries(single)
    weight_map = {"thinker.weight": "thinker.safetensors"}
    for part in ("a", "b"):
        names = [name for index, name in enumerate(entries) if "ab"[index % 2] == part]
        listed = [(n, entries[n].shape, lambda n=n: safetensors.read(single, n, entries[n])) for n in names]
        safetensors.write(tmp_path / f"{part}.safetensors", listed, "BF16")
        weight_map |= dict.fromkeys(names, f"{part}.safetensors")
    (tmp_path / "thinker.safetensors").write_bytes(b"60 GB that nobody needs")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (tmp_path / "config.json").write_bytes((tiny / "config.json").read_bytes())
    fake = FakeHub(tmp_path)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fake.hf_hub_download)
    return fake


def test_fetches_only_what_code2wav_needs(hub: FakeHub, tiny: Path) -> None:
    checkpoint = open_checkpoint(REPOSITORY, revision="main")
    assert hub.fetched == ["config.json", "model.safetensors.index.json", "a.safetensors", "b.safetensors"]
    assert hub.options == {"revision": "main", "local_files_only": False}
    assert checkpoint.nbytes == open_checkpoint(tiny).nbytes
    assert checkpoint.source == REPOSITORY


def test_names_a_shard_that_the_repository_lacks(hub: FakeHub) -> None:
    (hub.folder / "b.safetensors").unlink()
    with pytest.raises(ModelError, match=r"Expected shard b\.safetensors"):
        open_checkpoint(REPOSITORY)


def test_the_cache_alone_may_lack_files(hub: FakeHub) -> None:
    (hub.folder / "config.json").unlink()
    with pytest.raises(ModelError, match=r"Expected config.json, got none - at someone/omni"):
        open_checkpoint(REPOSITORY, local_files_only=True)
    assert hub.options["local_files_only"] is True


@pytest.mark.parametrize("name", ["LocalEntryNotFoundError", "OfflineModeIsEnabled", "HFValidationError"])
def test_says_that_the_hub_cannot_be_reached(hub: FakeHub, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def fail(*_: object, **__: object) -> str:
        raise getattr(huggingface_hub.errors, name)("a page of text")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    with pytest.raises(ModelError, match=f"config.json of 'someone/omni' on the hub, got {name}") as caught:
        open_checkpoint(REPOSITORY)
    assert "a page of text" not in str(caught.value)
    assert "check the id" in str(caught.value.hint)


def test_says_that_the_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(ModelError, match="Expected the package huggingface_hub") as caught:
        open_checkpoint(REPOSITORY)
    assert "omni-sdk[export]" in str(caught.value.hint)
