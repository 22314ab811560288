"""Checkpoints: one file or shards, in a folder; whatever is missing is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from omni_sdk.errors import ModelError
from omni_sdk.tools.export import safetensors
from omni_sdk.tools.export.checkpoint import open_checkpoint


@pytest.fixture
def copy(tiny: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny, tmp_path / "copy"))


def shard(folder: Path, count: int) -> dict[str, str]:
    """Spread a checkpoint's one file over shards with an index, and add one shard that is of another model's part."""
    single = folder / "model.safetensors"
    entries = safetensors.entries(single)
    weight_map = {"thinker.weight": "other.safetensors"}
    for number in range(count):
        names = list(entries)[number::count]
        shard_name = f"model-{number + 1:05}-of-{count:05}.safetensors"
        listed = [(n, entries[n].shape, lambda n=n: safetensors.read(single, n, entries[n])) for n in names]
        safetensors.write(folder / shard_name, listed, "BF16")
        weight_map |= dict.fromkeys(names, shard_name)
    single.unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return weight_map


def strip_prefix(folder: Path) -> None:
    single = folder / "model.safetensors"
    entries = safetensors.entries(single)
    listed = [
        (n.removeprefix("code2wav."), e.shape, lambda n=n, e=e: safetensors.read(single, n, e))
        for n, e in entries.items()
    ]
    safetensors.write(folder / "bare.safetensors", listed, "BF16")
    (folder / "bare.safetensors").replace(single)
    document = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps({"model_type": "qwen3_omni_moe_code2wav"} | document["code2wav_config"])
    )


def test_reads_a_single_file(tiny: Path) -> None:
    checkpoint = open_checkpoint(tiny)
    assert checkpoint.shape("code_embedding.weight") == (64, 16)
    assert checkpoint.read("decoder.0.conv.weight").shape == (16, 16, 7)
    assert checkpoint.dtypes == ["BF16"]
    assert checkpoint.nbytes < (tiny / "model.safetensors").stat().st_size


def test_shards_and_bare_names_hold_the_same_tensors(tiny: Path, copy: Path, tmp_path: Path) -> None:
    shard(copy, 3)
    bare = Path(shutil.copytree(tiny, tmp_path / "bare"))
    strip_prefix(bare)
    expected = open_checkpoint(tiny)
    for other in (open_checkpoint(copy), open_checkpoint(bare)):
        assert other.config == expected.config
        assert other.nbytes == expected.nbytes
        for name in ("code_embedding.weight", "decoder.3.alpha"):
            np.testing.assert_array_equal(other.read(name), expected.read(name))


@pytest.mark.parametrize("count", [1, 3], ids=["one file of another name", "shards"])
def test_files_without_an_index_are_found_by_their_headers(tiny: Path, copy: Path, count: int) -> None:
    shard(copy, count)
    (copy / "model.safetensors.index.json").unlink()
    expected, other = open_checkpoint(tiny), open_checkpoint(copy)
    assert other.nbytes == expected.nbytes
    for name in ("code_embedding.weight", "decoder.3.alpha"):
        np.testing.assert_array_equal(other.read(name), expected.read(name))


def test_a_tensor_that_stands_in_two_files_is_named(copy: Path) -> None:
    (copy / "model.safetensors").rename(copy / "a.safetensors")
    shutil.copy(copy / "a.safetensors", copy / "b.safetensors")
    with pytest.raises(ModelError, match=r"Expected each tensor in one file, got '.*' in a[.]safetensors and b[.]"):
        open_checkpoint(copy)


def test_names_a_missing_shard_and_how_many_tensors_it_takes_along(copy: Path) -> None:
    weight_map = shard(copy, 2)
    lost = "model-00002-of-00002.safetensors"
    (copy / lost).unlink()
    count = sum(name.startswith("code2wav.") and place == lost for name, place in weight_map.items())
    with pytest.raises(ModelError, match=f"Expected shard {lost} with {count} tensors of Code2Wav, got none"):
        open_checkpoint(copy)


def test_names_a_tensor_that_the_index_promises_in_vain(copy: Path) -> None:
    weight_map = shard(copy, 2)
    weight_map["code2wav.ghost"] = "model-00001-of-00002.safetensors"
    (copy / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(ModelError, match=r"'code2wav[.]ghost' as model[.]safetensors[.]index[.]json says"):
        open_checkpoint(copy)


@pytest.mark.parametrize("shard_name", ["../secret.safetensors", "/etc/passwd", "a/b", "..", "", 7])
def test_an_index_cannot_point_outside_the_folder(copy: Path, shard_name: object) -> None:
    document = {"weight_map": {"code2wav.code_embedding.weight": shard_name}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(document))
    with pytest.raises(ModelError, match="Expected names of files beside the index"):
        open_checkpoint(copy)


def test_says_that_there_is_no_code2wav(copy: Path) -> None:
    safetensors.write(copy / "model.safetensors", [("thinker.weight", (1,), lambda: np.zeros(1))])
    with pytest.raises(ModelError, match=r"Expected tensors named code2wav\.\*, got none") as caught:
        open_checkpoint(copy)
    assert "Instruct" in str(caught.value.hint)


def test_names_a_missing_tensor(tiny: Path) -> None:
    with pytest.raises(ModelError, match=r"Expected a tensor 'ghost' of Code2Wav, got none"):
        open_checkpoint(tiny).read("ghost")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("config.json", None, "Expected config.json, got none"),
        ("config.json", "{", "Expected JSON"),
        ("config.json", "[]", "Expected a JSON object, got list"),
        ("config.json", "[" * 100_000, "Expected JSON"),
        ("model.safetensors", None, "Expected model.safetensors.index.json, model.safetensors or other .*, got none"),
        ("model.safetensors.index.json", "{}", "Expected a weight_map, got NoneType"),
    ],
)
def test_names_a_damaged_or_missing_file(copy: Path, name: str, content: str | None, says: str) -> None:
    if content is None:
        (copy / name).unlink()
    else:
        (copy / name).write_text(content)
    with pytest.raises(ModelError, match=says):
        open_checkpoint(copy)


@pytest.mark.parametrize("source", ["no/such/folder", "nothing", ""])
def test_says_that_a_source_is_neither_folder_nor_hub_id(source: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=r"Expected a checkpoint's folder or a hub id, got neither|Expected config"):
        open_checkpoint(source)


def test_a_file_is_no_checkpoint(tiny: Path) -> None:
    with pytest.raises(ModelError, match="folder or a hub id, got neither"):
        open_checkpoint(tiny / "model.safetensors")
