"""The built graph: its face, its names, the operators of each form, and what it refuses."""

from __future__ import annotations

import dataclasses
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from tiny_config import TINY

from omni_sdk.bundle import Audio, Bundle
from omni_sdk.errors import BundleError, ModelError
from omni_sdk.tools.export import code2wav, reference_checkpoint, safetensors
from omni_sdk.tools.export.build import build
from omni_sdk.tools.export.checkpoint import open_checkpoint
from omni_sdk.tools.export.config import Config
from omni_sdk.tools.export.reference import SMALL


def face(values: list[ir.Value]) -> dict[str, tuple[str, list[int | str]]]:
    return {v.name: (v.dtype.name, [d if isinstance(d, int) else d.value for d in v.shape]) for v in values}


@pytest.fixture(scope="module")
def one_shot(tiny: Path) -> ir.Model:
    return build(open_checkpoint(tiny), streaming=False)[0]


@pytest.fixture(scope="module")
def streaming(tiny: Path) -> ir.Model:
    return build(open_checkpoint(tiny), streaming=True)[0]


def test_one_shot_takes_codes_and_gives_a_waveform(one_shot: ir.Model) -> None:
    assert face(one_shot.graph.inputs) == {"audio_codes": ("INT64", ["batch", 4, "frames"])}
    assert face(one_shot.graph.outputs) == {"waveform": ("FLOAT", ["batch", 1, "samples"])}


def test_streaming_names_its_state_and_pairs_it(tiny: Path) -> None:
    model, state = build(open_checkpoint(tiny), streaming=True)
    past, present = face(model.graph.inputs), face(model.graph.outputs)
    assert past.pop("audio_codes") == ("INT64", [1, 4, "frames"])
    assert present.pop("waveform") == ("FLOAT", [1, 1, "samples"])
    assert list(state) == list(past)
    assert list(state.values()) == list(present)
    assert all(present[target] == past[source] for source, target in state.items())
    convolutions = {f"past.decoder.{b}.res{u}.conv": c for b, c in ((1, 8), (2, 4)) for u in range(3)}
    assert {name: shape for name, (_, shape) in past.items()} == {
        "past.position": [1],
        **{f"past.{layer}.{part}": [1, 2, 4, 4] for layer in range(2) for part in ("key", "value")},
        "past.upsample.0.dwconv": [1, 16, 6],
        "past.decoder.0.conv": [1, 16, 6],
        "past.decoder.1.tconv": [1, 16, 1],
        "past.decoder.2.tconv": [1, 8, 1],
        **{name: [1, channels, 6 * 3 ** int(name[-6])] for name, channels in convolutions.items()},
        "past.decoder.4.conv": [1, 4, 6],
    }


def test_the_default_configuration_has_the_published_state() -> None:
    class Sizes:
        """Stands for the full checkpoint: shapes, and no values, which building does not read."""

        config = Config()
        source = "sizes"

        def __init__(self) -> None:
            from omni_sdk.tools.export.reference import _unit

            self.shapes = {tensor.name: tensor.shape for tensor in _unit(self.config)}

        def shape(self, name: str) -> tuple[int, ...]:
            return self.shapes[name]

    model, state = build(Sizes(), streaming=True)  # type: ignore[arg-type]
    assert len(state) == 37
    sizes = [int(np.prod(shape)) for _, shape in face(model.graph.inputs).values() if "frames" not in shape]
    assert sum(sizes) * 4 + 4 == 5_189_896
    parameters = sum(np.prod(shape) for shape in Sizes().shapes.values())
    assert round(parameters / 1e6) == 216


def test_batch_is_free_or_fixed(tiny: Path) -> None:
    for streaming, batch, expected in ((False, None, "batch"), (False, 2, 2), (True, None, 1), (True, 3, 3)):
        model, _ = build(open_checkpoint(tiny), streaming=streaming, batch=batch)
        shapes = face([*model.graph.inputs, *model.graph.outputs])
        assert {shape[0] for name, (_, shape) in shapes.items() if "position" not in name} == {expected}


def test_one_shot_is_written_as_exporters_write_it(one_shot: ir.Model) -> None:
    kinds = Counter(node.op_type for node in one_shot.graph)
    snakes = 1 + len(TINY.upsample_rates) * 7
    assert kinds["ConvTranspose"] == 3
    assert kinds["Pad"] == 1 + 1 + 2 * 3 + 1
    assert kinds["Exp"] == 2 * snakes
    assert {node.domain for node in one_shot.graph} == {""}


def test_streaming_has_no_padding_and_no_transposed_convolution(streaming: ir.Model) -> None:
    kinds = Counter(node.op_type for node in streaming.graph)
    assert not {"Pad", "ConvTranspose"} & kinds.keys()
    assert {node.domain for node in streaming.graph} == {""}


def test_nodes_are_named_by_where_they_stand(one_shot: ir.Model) -> None:
    names = {node.name for node in one_shot.graph}
    assert {"decoder.1.block.2.conv1.Conv", "decoder.1.block.0.Sin", "upsample.0.1.dwconv.Conv"} <= names
    assert "pre_transformer.layers.1.mlp.MatMul" in names
    assert len(names) == len(list(one_shot.graph))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("streaming", [False, True])
def test_the_checker_and_shape_inference_accept_it(tiny: Path, streaming: bool, dtype: str) -> None:
    model, _ = build(open_checkpoint(tiny), streaming=streaming, dtype=dtype)  # type: ignore[arg-type]
    onnx.checker.check_model(ir.to_proto(model), full_check=True)


def test_building_reads_no_values(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("a tensor was read")

    monkeypatch.setattr(safetensors, "read", fail)
    build(open_checkpoint(tiny), streaming=True)


def test_the_bundle_says_what_the_graph_is(tiny: Path, tmp_path: Path) -> None:
    code2wav(tiny, tmp_path / "out", sample_rate=16_000)
    bundle = Bundle.open(tmp_path / "out", checksums=True)
    assert bundle.manifest.audio == Audio(16_000, 12, "audio_codes", "waveform", 8)
    assert len(bundle.manifest.state) == 16
    assert bundle.manifest.state["past.0.key"] == "present.0.key"
    assert bundle.manifest.provenance["codebook_size"] == 16
    assert bundle.manifest.provenance["weights"] == ["BF16"]
    assert bundle.manifest.provenance["checkpoint"] == tiny.name
    assert (dict(bundle.manifest.opset), bundle.manifest.operators) == ({"ai.onnx": 20}, 0)
    metadata = onnx.load(bundle.graph_path, load_external_data=False).metadata_props
    assert {entry.key: entry.value for entry in metadata} == {"range.audio_codes": "0 15"}
    code2wav(str(tiny), tmp_path / "out", streaming=False)
    assert dict(Bundle.open(tmp_path / "out").manifest.state) == {}


def test_refuses_a_shape_that_is_not_the_configurations(tiny: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny, tmp_path / "copy"))
    text = (copy / "config.json").read_text()
    (copy / "config.json").write_text(text.replace('"codebook_size": 16', '"codebook_size": 17'))
    with pytest.raises(
        ModelError, match=r"shape \[68, 16\] by config.json, got \[64, 16\] - at 'code_embedding.weight'"
    ):
        code2wav(copy, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_leaves_nothing_behind_when_a_weight_cannot_be_read(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = safetensors.read

    def fail(path: Path, name: str, entry: safetensors.Entry) -> np.ndarray:
        if name == "decoder.2.block.1.conv.weight":
            raise ModelError("the disk broke")
        return read(path, name, entry)

    monkeypatch.setattr(safetensors, "read", fail)
    with pytest.raises(ModelError, match="the disk broke"):
        code2wav(tiny, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_does_not_replace_what_is_no_bundle(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "diary.txt").write_text("dear me")
    with pytest.raises(BundleError, match="or a bundle to replace"):
        code2wav(tiny, tmp_path)
    assert (tmp_path / "diary.txt").read_text() == "dear me"


def test_refuses_to_stream_what_one_frame_cannot_start(tmp_path: Path) -> None:
    config = dataclasses.replace(TINY, upsampling_ratios=(1,))
    folder = reference_checkpoint(tmp_path / "short", config=config)
    with pytest.raises(ModelError, match=r"upsampling_ratios \[1\] and upsample_rates \[3, 2\]"):
        code2wav(folder, tmp_path / "out")
    code2wav(folder, tmp_path / "out", streaming=False)


def test_refuses_a_batch_of_none(tiny: Path) -> None:
    with pytest.raises(ModelError, match="Expected a batch of at least 1, got 0"):
        build(open_checkpoint(tiny), streaming=True, batch=0)


def test_the_small_reference_counts_samples_as_the_default_does() -> None:
    assert (SMALL.hop, SMALL.first_chunk_deficit) == (1920, 555)
