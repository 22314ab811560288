"""The `omni::Conv1d` layers of a model in groups of one shape, and the same model with other tiles."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from omni_sdk.tools.prepare.rules.conv1d_node import (
    WEIGHT,
    is_conv1d,
    number,
    packed,
    plain_weights,
    weight_shape,
)
from omni_sdk.tools.prepare.winograd import TILES
from omni_sdk.tools.saving import PAGE_BYTES, save_graph, writing

SMALLEST_TILED = 2
"""Kernel from which on there are tiles."""


@dataclass(frozen=True, slots=True)
class Group:
    """Layers of one shape: they cost the same and sit, mostly, in the same block."""

    outputs: int
    inputs: int
    kernel: int
    dilation: int
    layers: tuple[str, ...]  # names of nodes

    @property
    def name(self) -> str:
        """How reports speak of it."""
        dilated = f" d{self.dilation}" if self.dilation > 1 else ""
        return f"Conv1d {self.outputs}x{self.inputs}x{self.kernel}{dilated}"

    @property
    def tiles(self) -> tuple[int, ...]:
        """Tiles other than direct that it can have; with one tap there is nothing to save."""
        return tuple(tile for tile in TILES if tile > 1) if self.kernel >= SMALLEST_TILED else ()


def groups_of(model: ir.Model) -> list[Group]:
    """Groups of the direct `Conv1d` layers of the main graph, in its order.

    A model that was prepared before has layers in tiles. They keep them: the weights that they were packed from are
    gone, and undoing the transforms would cost accuracy.
    """
    found: dict[tuple[int, int, int, int], list[str]] = defaultdict(list)
    for node in model.graph:
        if is_conv1d(node) and number(node, "tile") == 1:
            outputs, inputs, kernel = weight_shape(node)
            found[outputs, inputs, kernel, number(node, "dilation")].append(str(node.name))
    return [Group(*shape, tuple(layers)) for shape, layers in found.items()]


def retile(direct: Path, tiles: Mapping[str, int], out: Path) -> None:
    """Write a model with other tiles; weights of layers that stay direct are not copied.

    Parameters
    ----------
    direct : pathlib.Path
        The model with every layer direct.
    tiles : mapping of str to int
        The tile of each layer that is not direct, by the node's name.
    out : pathlib.Path
        The `.onnx` file, in the same folder; new weights go beside it, in `.data`.

    Raises
    ------
    BundleError
        Where the disk does not take it.
    """
    model = ir.load(direct)
    changed = []
    for node in model.graph:
        tile = tiles.get(str(node.name), 1)
        if not is_conv1d(node) or tile == 1:
            continue
        value = node.inputs[WEIGHT]
        assert value is not None, "weights are not optional"
        value.const_value = packed(plain_weights(node), weight_shape(node), tile, str(value.name))
        value.shape = value.const_value.shape
        node.attributes["tile"] = ir.AttrInt64("tile", tile)
        changed.append(value)
    tensors = [value.const_value for value in changed if value.const_value is not None]
    if tensors:
        with writing(out):
            written = ir.external_data.convert_tensors_to_external(
                tensors, out.parent, f"{out.name}.data", alignment=PAGE_BYTES, align_threshold=0
            )
        for value, tensor in zip(changed, written, strict=True):
            value.const_value = tensor
    save_graph(out, model)
