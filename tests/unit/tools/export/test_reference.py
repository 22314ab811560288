"""Reference checkpoints: seeded, of unit scale, loud as speech, and never in place of someone's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

from omni_sdk.errors import ModelError
from omni_sdk.tools.export import reference_checkpoint, safetensors
from omni_sdk.tools.export.build import build
from omni_sdk.tools.export.checkpoint import open_checkpoint


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_a_seed_names_the_weights(tmp_path: Path) -> None:
    first = contents(reference_checkpoint(tmp_path / "a", seed=3))
    assert contents(reference_checkpoint(tmp_path / "b", seed=3)) == first
    assert contents(reference_checkpoint(tmp_path / "b", seed=4)) != first
    assert sorted(first) == ["config.json", "model.safetensors"]


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
def test_the_dtype_is_the_stored_one(tmp_path: Path, dtype: str) -> None:
    checkpoint = open_checkpoint(reference_checkpoint(tmp_path, dtype=dtype))  # type: ignore[arg-type]
    assert checkpoint.dtypes == [dtype]


def test_init_weights_are_what_training_starts_from(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(reference_checkpoint(tmp_path, weights="init", dtype="F32"))
    assert np.all(checkpoint.read("decoder.1.block.0.alpha") == 0)
    assert np.all(checkpoint.read("upsample.0.1.gamma") == np.float32(1e-6))
    assert np.all(checkpoint.read("upsample.0.1.norm.weight") == 1)
    assert np.all(checkpoint.read("pre_transformer.layers.0.input_layernorm.weight") == 1)
    assert np.all(checkpoint.read("pre_transformer.layers.0.mlp_layer_scale.scale") == np.float32(0.01))
    assert np.all(checkpoint.read("decoder.0.conv.bias") == 0)
    assert checkpoint.read("code_embedding.weight").std() == pytest.approx(0.02, rel=0.01)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_layer_has_unit_scale_and_the_waveform_the_level_of_speech(tmp_path: Path, seed: int) -> None:
    model, _ = build(open_checkpoint(reference_checkpoint(tmp_path, seed=seed)), streaming=False)
    proto = ir.to_proto(model)
    kinds = ("Conv", "ConvTranspose", "MatMul")
    watched = [
        node.output[0]
        for node in proto.graph.node
        if node.op_type in kinds and node.name.startswith(("pre_transformer.layers", "upsample", "decoder"))
    ]
    proto.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in watched)
    session = ort.InferenceSession(proto.SerializeToString())
    codes = np.random.default_rng(seed).integers(0, 2048, (1, 16, 40))
    waveform, *activations = session.run(["waveform", *watched], {"audio_codes": codes})
    scales = {name: float(np.sqrt(np.mean(np.square(a)))) for name, a in zip(watched, activations, strict=True)}
    last = scales.popitem()[0]
    assert last.startswith("decoder.6.")
    assert {name: scale for name, scale in scales.items() if not 0.25 < scale < 4} == {}
    assert 0.03 < waveform.std() < 0.2
    assert np.abs(waveform).max() < 0.99
    assert abs(waveform.mean()) < 0.01


def test_snakes_differ_from_channel_to_channel(tiny: Path) -> None:
    checkpoint = open_checkpoint(tiny)
    for name in ("decoder.1.block.0.alpha", "decoder.1.block.2.act2.beta", "decoder.3.alpha"):
        assert len(np.unique(checkpoint.read(name))) > 2


def test_replaces_its_own_and_nobody_elses(tmp_path: Path) -> None:
    reference_checkpoint(tmp_path / "own")
    reference_checkpoint(tmp_path / "own", seed=1)
    for name in ("config.json", "model.safetensors", "model.safetensors.index.json"):
        other = tmp_path / name
        other.mkdir()
        (other / name).write_text("{}")
        with pytest.raises(ModelError, match="got another checkpoint"):
            reference_checkpoint(other)
        assert (other / name).read_text() == "{}"


def test_what_an_interrupted_write_left_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def torn(path: Path, *arguments: object) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(safetensors, "write", torn)
        with pytest.raises(KeyboardInterrupt):
            reference_checkpoint(tmp_path / "new")
    with pytest.raises(ModelError, match="Expected a safetensors file"):
        open_checkpoint(tmp_path / "new")
    assert contents(reference_checkpoint(tmp_path / "new")) == contents(reference_checkpoint(tmp_path / "other"))


def test_says_that_the_disk_does_not_take_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match="Expected to write a checkpoint, got"):
        reference_checkpoint(tmp_path / "file" / "below")
