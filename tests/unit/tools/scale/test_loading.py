"""A model and its manifest are of one bundle, whoever replaces it meanwhile."""

from __future__ import annotations

from pathlib import Path

import graphs
import onnx
import pytest

import omni_sdk as omni
from omni_sdk.bundle import create
from omni_sdk.errors import BundleError
from omni_sdk.tools.scale import loading
from omni_sdk.tools.scale.loading import TRIES, load_with_manifest


def write(folder: Path, number: int) -> None:
    with create(folder) as draft:
        onnx.save(onnx.parser.parse_model(f"{graphs.HEAD} {graphs.DOUBLE}"), draft.folder / "model.onnx")
        draft.provenance = {"number": number}


def replacing(monkeypatch: pytest.MonkeyPatch, folder: Path, times: int) -> list[omni.Model]:
    """`load` after which another bundle stands there, so many times."""
    made: list[omni.Model] = []

    def load(*arguments, **options):
        made.append(omni.load(*arguments, **options))
        if len(made) <= times:
            write(folder, len(made))
        return made[-1]

    monkeypatch.setattr(loading, "load", load)
    return made


def test_the_manifest_is_the_loaded_bundles(tmp_path, monkeypatch):
    write(tmp_path / "b", 0)
    made = replacing(monkeypatch, tmp_path / "b", 2)
    model, manifest = load_with_manifest(tmp_path / "b", omni.Settings(), None)
    assert (manifest.provenance["number"], len(made)) == (2, 3)
    assert model is made[2]
    model.close()
    for one in made[:2]:
        with pytest.raises(omni.errors.ClosedError):
            one.infer(x=[1.0])


def test_a_bundle_that_never_stands_still(tmp_path, monkeypatch):
    write(tmp_path / "b", 0)
    made = replacing(monkeypatch, tmp_path / "b", 100)
    with pytest.raises(BundleError, match="stands still"):
        load_with_manifest(tmp_path / "b", omni.Settings(), None)
    assert len(made) == TRIES


def test_a_file_has_no_manifest(tmp_path):
    (tmp_path / "m.onnx").write_bytes(graphs.serialized(graphs.DOUBLE))
    model, manifest = load_with_manifest(tmp_path / "m.onnx", omni.Settings(), None)
    assert manifest is None
    model.close()
