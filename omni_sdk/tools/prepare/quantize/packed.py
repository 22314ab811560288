"""Weights as convolutions of the domain `omni` read them, packed once for the many models of one gate."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir

from omni_sdk.tools.prepare.rules.conv1d_node import WEIGHT, is_conv1d, number, weight_shape
from omni_sdk.tools.saving import PAGE_BYTES, writing


class PackedWeights:
    """Packed weights of one recipe's layers, on disk.

    Parameters
    ----------
    place : pathlib.Path
        Files are written beside it, named after it.
    tiled : pathlib.Path or None
        An FP32 model of the same weights in the same folder, whose layers have the tiles that are fastest here.
    """

    def __init__(self, place: Path, tiled: Path | None) -> None:
        self._place = place
        self._known: dict[str, ir.TensorProtocol] = {}
        nodes = ir.load(tiled).graph if tiled is not None else ()
        self._tiled = {_key(node.inputs[WEIGHT]): node for node in nodes if is_conv1d(node)}

    def put(self, model: ir.Model) -> None:
        """Give every layer of a model its packed weights, and those in float the tiles of the FP32 model.

        Raises
        ------
        BundleError
            Where the disk does not take them.
        """
        for node in model.graph:
            twin = self._tiled.get(_key(node.inputs[WEIGHT])) if is_conv1d(node) else None
            if twin is not None and weight_shape(twin) == weight_shape(node):
                ours, theirs = node.inputs[WEIGHT], twin.inputs[WEIGHT]
                assert ours is not None and theirs is not None, "weights are not optional"
                ours.const_value, ours.shape = theirs.const_value, theirs.shape
                node.attributes["tile"] = ir.AttrInt64("tile", number(twin, "tile"))
        fresh = []
        for value in model.graph.initializers.values():
            if isinstance(value.const_value, ir.LazyTensor):
                known = self._known.get(_key(value))
                if known is None:
                    fresh.append(value)
                else:
                    value.const_value = known
        if fresh:
            self._write(fresh)

    def _write(self, values: list[ir.Value]) -> None:
        name = f"{self._place.name}.packed-{len(self._known)}.data"
        tensors = [value.const_value for value in values if value.const_value is not None]
        with writing(self._place.with_name(name)):
            written = ir.external_data.convert_tensors_to_external(
                tensors, self._place.parent, name, alignment=PAGE_BYTES, align_threshold=0
            )
        for value, tensor in zip(values, written, strict=True):
            value.const_value = self._known[_key(value)] = tensor


def _key(value: ir.Value | None) -> str:
    """What a layer's packed weights are called in every model: rules number theirs in the order in which they come."""
    name = value.name if value is not None else None
    weight, _, rule = (name or "").rpartition(".")[0].rpartition(".")
    return f"{weight.removesuffix('.float')}.{rule}"
