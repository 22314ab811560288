"""Saving: one layout for bundles and plain models, weights by the page, whole or not at all."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

from omni_sdk.bundle import Audio, Bundle
from omni_sdk.errors import BundleError, ModelError
from omni_sdk.tools.saving import PAGE_BYTES, save_bundle, save_graph, save_model

LARGE = np.arange(3 * PAGE_BYTES // 4, dtype=np.float32).reshape(1, -1)
SMALL = np.float32([2.0])


def model(*, opsets: dict[str, int] | None = None) -> ir.Model:
    """y = (x + large) * small, with one weight of pages and one of bytes, and a lazy one."""
    lazy = ir.LazyTensor(lambda: ir.Tensor(LARGE), dtype=ir.DataType.FLOAT, shape=ir.Shape(LARGE.shape), name="large")
    weights = [
        ir.Value(name=t.name, shape=ir.Shape(t.shape), type=ir.TensorType(t.dtype), const_value=t)
        for t in (lazy, ir.Tensor(SMALL, name="small"), ir.Tensor(LARGE + 1, name="other"))
    ]
    x = ir.val("x", ir.DataType.FLOAT, [1, LARGE.size])
    added = ir.node("Add", [x, weights[0]])
    scaled = ir.node("Mul", [added.outputs[0], weights[1]])
    last = ir.node("Add", [scaled.outputs[0], weights[2]])
    y = last.outputs[0]
    y.name, y.type, y.shape = "y", ir.TensorType(ir.DataType.FLOAT), ir.Shape([1, LARGE.size])
    graph = ir.Graph(
        [x], [y], nodes=[added, scaled, last], initializers=weights, opset_imports={"": 20, **(opsets or {})}, name="g"
    )
    return ir.Model(graph, ir_version=10)


def offsets(graph: Path) -> dict[str, int]:
    found = {}
    for tensor in onnx.load(graph, load_external_data=False).graph.initializer:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        if entries:
            found[tensor.name] = int(entries["offset"])
    return found


def result(graph: Path) -> np.ndarray:
    x = np.ones((1, LARGE.size), np.float32)
    return ort.InferenceSession(str(graph)).run(None, {"x": x})[0]


EXPECTED = (1 + LARGE) * 2 + LARGE + 1


def test_a_bundle_is_whole_and_runs(tmp_path: Path) -> None:
    audio = Audio(24_000, 1920, "x", "y", 555)
    save_bundle(
        tmp_path / "b", model(), state={"x": "y"}, audio=audio, quality={"snr_db": 9.5}, provenance={"from": ["here"]}
    )
    bundle = Bundle.open(tmp_path / "b", checksums=True)
    assert [entry.name for entry in bundle.manifest.files] == ["model.onnx", "weights.bin"]
    assert dict(bundle.manifest.state) == {"x": "y"}
    assert bundle.manifest.audio == audio
    assert dict(bundle.manifest.quality) == {"snr_db": 9.5}
    assert bundle.manifest.provenance["from"] == ["here"]
    assert (dict(bundle.manifest.opset), bundle.manifest.operators) == ({"ai.onnx": 20}, 0)
    np.testing.assert_array_equal(result(bundle.graph_path), EXPECTED)


def test_the_manifest_names_the_operator_set(tmp_path: Path) -> None:
    save_bundle(tmp_path / "b", model(opsets={"omni": 1}))
    manifest = Bundle.open(tmp_path / "b").manifest
    assert (dict(manifest.opset), manifest.operators) == ({"ai.onnx": 20, "omni": 1}, 1)


def test_a_plain_model_has_its_weights_beside_it(tmp_path: Path) -> None:
    save_model(tmp_path / "new" / "m.onnx", model())
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["m.onnx", "m.onnx.data"]
    np.testing.assert_array_equal(result(tmp_path / "new" / "m.onnx"), EXPECTED)


def test_tensors_of_a_page_start_at_one_and_small_ones_stay_inside(tmp_path: Path) -> None:
    save_model(tmp_path / "m.onnx", model())
    places = offsets(tmp_path / "m.onnx")
    assert sorted(places) == ["large", "other"]
    assert all(offset % PAGE_BYTES == 0 for offset in places.values())


def test_the_model_itself_is_unchanged(tmp_path: Path) -> None:
    original = model()
    save_model(tmp_path / "a.onnx", original)
    assert isinstance(original.graph.initializers["large"].const_value, ir.LazyTensor)
    save_bundle(tmp_path / "b", original)
    assert (tmp_path / "a.onnx.data").read_bytes() == (tmp_path / "b" / "weights.bin").read_bytes()


def test_a_model_can_be_saved_over_itself(tmp_path: Path) -> None:
    save_model(tmp_path / "m.onnx", model())
    save_model(tmp_path / "m.onnx", ir.load(tmp_path / "m.onnx"))
    np.testing.assert_array_equal(result(tmp_path / "m.onnx"), EXPECTED)


@pytest.mark.parametrize("state", [{"x": "z"}, {"w": "y"}, {"y": "x"}])
def test_refuses_state_that_the_model_lacks(tmp_path: Path, state: dict[str, str]) -> None:
    with pytest.raises(ModelError, match="Expected a state pair of an input and an output"):
        save_bundle(tmp_path / "b", model(), state=state)
    assert not (tmp_path / "b").exists()


def test_a_failure_leaves_the_old_bundle(tmp_path: Path) -> None:
    save_bundle(tmp_path / "b", model())
    before = Bundle.open(tmp_path / "b", checksums=True).manifest

    def broken() -> ir.TensorProtocol:
        raise ModelError("no values")

    failing = model()
    failing.graph.initializers["large"].const_value = ir.LazyTensor(
        broken, dtype=ir.DataType.FLOAT, shape=ir.Shape(LARGE.shape), name="large"
    )
    with pytest.raises(ModelError, match="no values"):
        save_bundle(tmp_path / "b", failing)
    assert Bundle.open(tmp_path / "b", checksums=True).manifest == before
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("save", [save_graph, save_model])
def test_a_full_disk_is_told_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save: Callable[[Path, ir.Model], None], code: int
) -> None:
    def fails(*arguments: object, **options: object) -> None:
        raise ir.serde.SerdeError("onnx-ir's own words") from OSError(code, "No space left on device")

    monkeypatch.setattr(ir, "save", fails)
    with pytest.raises(BundleError, match=r"Expected room on the disk to write in, got none left - at .*m\.onnx"):
        save(tmp_path / "m.onnx", model())


def test_says_that_the_disk_does_not_take_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BundleError, match="Expected to write a model, got"):
        save_model(tmp_path / "file" / "m.onnx", model())
    with pytest.raises(BundleError):
        save_bundle(tmp_path / "file" / "b", model())
