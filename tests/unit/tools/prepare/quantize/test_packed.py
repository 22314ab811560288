"""Packed weights of the many models of one gate: written once, and those that packing anew would give."""

from __future__ import annotations

import sys
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from onnxruntime.quantization import CalibrationMethod

sys.path.insert(0, str(Path(__file__).parents[1]))
from small_models import mels, vocoder

from omni_sdk.errors import BundleError
from omni_sdk.tools.metrics import snr_db
from omni_sdk.tools.prepare.calibration import Samples
from omni_sdk.tools.prepare.quantize.build import build
from omni_sdk.tools.prepare.quantize.gate import Gate
from omni_sdk.tools.prepare.quantize.packed import PackedWeights
from omni_sdk.tools.prepare.quantize.qdq import calibrate, quantize_all
from omni_sdk.tools.prepare.quantize.recipe import Recipe
from omni_sdk.tools.prepare.quantize.scheme import FULL
from omni_sdk.tools.prepare.quantize.selection import groups_of
from omni_sdk.tools.prepare.rewriting import apply_passes
from omni_sdk.tools.prepare.rules.conv1d_node import WEIGHT, is_conv1d, is_convolution, number
from omni_sdk.tools.prepare.rules.order import CONV1D_PASSES, FORMS, passes
from omni_sdk.tools.prepare.sessions import has_operators, open_session, run
from omni_sdk.tools.prepare.tiles.layers import retile
from omni_sdk.tools.saving import save_graph, save_model

pytestmark = pytest.mark.skipif(not has_operators(), reason="the operators' library is not built")

TILE = 4
QLINEAR, QCONV1D = FORMS


@dataclass(frozen=True)
class Built:
    """A model as the gate builds it, on disk."""

    path: Path
    nodes: list[ir.Node] = field(repr=False)

    @property
    def weights(self) -> dict[str, np.ndarray]:
        """Of each convolution, in the graph's order; rules number their initializers."""
        return {
            f"{index} {node.op_type}": node.inputs[WEIGHT + 2 * (not is_conv1d(node))].const_value.numpy()
            for index, node in enumerate(self.nodes)
        }

    @property
    def tiles(self) -> list[int]:
        return [number(node, "tile") for node in self.nodes if is_conv1d(node)]

    def waveform(self) -> np.ndarray:
        return run(open_session(self.path, threads=1), mels()[2])["waveform"]


class Place:
    """A folder with a model in FP32, the same quantized, and the same in tiles."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.floats, self.quantized, self.tiled = (
            folder / f"{name}.onnx" for name in ("rewritten", "quantized", "tiled")
        )
        model = ir.load(vocoder(folder))
        apply_passes(model, passes(operators=True), lambda what, done: None)
        save_model(self.floats, model)
        self.layers = [name for group in groups_of(model) for name in group.nodes]
        quantize_all(
            self.floats, calibrate(self.floats, mels()[:2], CalibrationMethod.MinMax), FULL, self.layers, self.quantized
        )
        rows = ir.load(self.floats)
        apply_passes(rows, CONV1D_PASSES, lambda what, done: None, settled=True)
        save_model(folder / "direct.onnx", rows)
        retile(folder / "direct.onnx", {str(node.name): TILE for node in rows.graph if is_conv1d(node)}, self.tiled)

    def build(self, chosen: Collection[str], packed: PackedWeights | None, name: str = "built.onnx") -> Built:
        """The model with some layers on bytes, its weights packed anew where `packed` is None."""
        model, _ = build(self.quantized, self.floats, chosen, self.folder, passes=QCONV1D.passes)
        if packed is not None:
            packed.put(model)
        save_graph(self.folder / name, model)
        return read(self.folder / name)

    def written(self) -> dict[str, int]:
        """Files of packed weights and their sizes."""
        return {path.name: path.stat().st_size for path in self.folder.glob("quantized.onnx.packed-*.data")}


def read(path: Path) -> Built:
    return Built(path, [node for node in ir.load(path).graph if is_convolution(node)])


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Place:
    return Place(tmp_path_factory.mktemp("packed"))


@pytest.fixture
def place(made):
    """The folder, without weights that another test packed."""
    yield made
    for name in made.written():
        (made.folder / name).unlink()


def selections(layers: list[str]) -> list[list[str]]:
    """All, all but each, and each alone, as the gate builds them."""
    return [layers, *([each for each in layers if each != one] for one in layers), *([one] for one in layers)]


def assert_same_weights(expected: Built, got: Built) -> None:
    assert expected.weights.keys() == got.weights.keys()
    for name, array in expected.weights.items():
        assert np.array_equal(array, got.weights[name])


def test_models_are_those_that_are_packed_anew(place):
    packed = PackedWeights(place.quantized, None)
    for chosen in selections(place.layers):
        anew, got = place.build(chosen, None, "anew.onnx"), place.build(chosen, packed)
        assert len(got.tiles) == 3 - len(chosen) and set(got.tiles) <= {1}
        assert_same_weights(anew, got)
        assert np.array_equal(anew.waveform(), got.waveform())


def test_weights_are_written_once(place):
    packed = PackedWeights(place.quantized, None)
    place.build(place.layers, packed)
    first = place.written()
    assert len(first) == 1
    place.build(place.layers, packed)
    assert place.written() == first
    place.build([], packed)
    both = place.written()
    assert len(both) == 2 and first.items() <= both.items()
    for chosen in selections(place.layers):
        place.build(chosen, packed)
    assert place.written() == both, "every layer has been there on bytes and in float"


def test_weights_stay_where_they_are(place):
    packed = PackedWeights(place.quantized, None)
    for chosen in selections(place.layers):
        built = place.build(chosen, packed)
        beside = {tensor.location for tensor in tensors_of(built)}
        assert beside <= place.written().keys()
        assert not built.path.with_name(f"{built.path.name}.data").exists()


def tensors_of(built: Built) -> list[ir.ExternalTensor]:
    return [node.inputs[WEIGHT + 2 * (not is_conv1d(node))].const_value for node in built.nodes]


def test_layers_in_float_take_tiles_and_weights_of_the_tiled_model(place):
    packed = PackedWeights(place.quantized, place.tiled)
    theirs = read(place.tiled)
    for chosen in selections(place.layers):
        built = place.build(chosen, packed)
        assert built.tiles == [TILE] * (3 - len(chosen))
        for name, array in built.weights.items():
            assert name.endswith("QConv1d") or np.array_equal(array, theirs.weights[name])
        locations = [tensor.location for tensor in tensors_of(built) if tensor.dtype == ir.DataType.FLOAT]
        assert locations == ["tiled.onnx.data"] * len(built.tiles)
        assert snr_db(place.build(chosen, None, "anew.onnx").waveform(), built.waveform()) > 40
    assert len(place.written()) == 1, "of the layers on bytes, all of which came first"


def test_without_bytes_it_is_the_tiled_model(place):
    built = place.build([], PackedWeights(place.quantized, place.tiled))
    assert np.array_equal(built.waveform(), read(place.tiled).waveform()) and not place.written()


def test_weights_of_another_shape_are_not_taken(place):
    model = ir.load(place.tiled)
    nodes = [node for node in model.graph if is_conv1d(node)]
    nodes[0].attributes["out_channels"] = ir.AttrInt64("out_channels", 7)
    save_graph(place.folder / "other.onnx", model)
    built = place.build([], PackedWeights(place.quantized, place.folder / "other.onnx"))
    assert built.tiles == [1, TILE, TILE]
    assert_same_weights(
        Built(built.path, place.build([], None, "anew.onnx").nodes[:1]), Built(built.path, built.nodes[:1])
    )


def test_the_graph_declares_what_layers_give(place):
    for chosen in selections(place.layers):
        nodes = place.build(chosen, PackedWeights(place.quantized, None)).nodes
        given = [value for node in nodes for value in node.outputs if value.name]
        assert len(given) == 3 and all(value.dtype is not None and value.shape is not None for value in given)


def test_other_operators_have_nothing_packed(place):
    model, _ = build(place.quantized, place.floats, place.layers, place.folder, passes=QLINEAR.passes)
    before = {name: value.const_value for name, value in model.graph.initializers.items()}
    PackedWeights(place.quantized, place.tiled).put(model)
    assert {name: value.const_value for name, value in model.graph.initializers.items()} == before
    assert not place.written()


def gate(place: Place, equalized: bool) -> Gate:
    recipe = Recipe(place.floats, place.quantized, FULL, CalibrationMethod.MinMax, QCONV1D, equalized)
    made = Gate(
        graph=place.floats,
        rival=place.tiled,
        samples=Samples([], [], ""),
        judge=None,
        schemes=(FULL,),
        state={},
        forms=FORMS,
        threads=1,
        say=lambda what, done: None,
    )
    made.recipe = recipe
    return made


@pytest.mark.parametrize("equalized", [False, True], ids=["as they are", "equalized"])
def test_equalized_weights_are_not_those_of_the_tiled_model(place, equalized):
    chooser = gate(place, equalized)
    for chosen in (place.layers[:1], place.layers[1:]):
        chooser._build(chosen, chooser.built)
        built = read(chooser.built)
        assert built.tiles == [1 if equalized else TILE] * (3 - len(chosen))
        if equalized:
            assert_same_weights(place.build(chosen, None, "anew.onnx"), built)
    assert len(place.written()) == 2


def test_a_recipe_that_lost_takes_its_weights_along(tmp_path, place):
    recipe = gate(place, equalized=False).recipe
    kept = tmp_path / "quantized-equalized.onnx"
    for name in ("quantized-0.onnx", "quantized-0.onnx.data", "quantized-0.onnx.packed-0.data", kept.name):
        (tmp_path / name).touch()
    Recipe(recipe.floats, tmp_path / "quantized-0.onnx", FULL, recipe.method, QCONV1D, False).discard()
    assert list(tmp_path.iterdir()) == [kept]


def test_a_full_disk_is_said_in_our_words(place, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ir.external_data, "convert_tensors_to_external", full)
    with pytest.raises(BundleError, match="Expected room on the disk"):
        place.build(place.layers, PackedWeights(place.quantized, None))
