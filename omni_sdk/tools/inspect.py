"""What a model is: inputs, outputs, opsets, operators, parameters and bytes by type, how its weights lie, its state."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx

from omni_sdk.errors import ModelError
from omni_sdk.settings_check import Finding
from omni_sdk.source import RANDOM_OPERATORS, Source
from omni_sdk.specs import TensorSpec

PAGE_BYTES = 4096
SMALL_BYTES = 1 << 20
"""Weights below this are copied in no time; only beyond it does mapping matter."""

PLACES = ("offset", "length")
"""What of external weights is a number of bytes."""

STATE_PREFIXES = (("past.", "present."), ("past_key_values.", "present."))
STATE_NAMES = (("state", "stateN"), ("h", "hn"), ("c", "cn"))

TYPE_BITS = {"INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4, "INT2": 2, "UINT2": 2}


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a file says of a model, without running it.

    Attributes
    ----------
    inputs, outputs : tuple of TensorSpec
    opsets : mapping of str to int
        Operator domain to version; `""` is ONNX's own.
    operators : mapping of str to int
        How often each occurs, subgraphs and functions included, the commonest first.
    parameters, parameter_bytes : mapping of str to int
        Values and bytes of weights by element type.
    weights : {"mapped", "copied", "mixed", "none"}
        `"mapped"`: page-aligned external data, which ONNX Runtime maps and the system shares; `"copied"`: inside the
        file or unaligned.
    state : mapping of str to str
        Inputs to the outputs that feed them in the next step.
    state_from : {"manifest", "names", ""}
        Where the pairs come from.
    findings : tuple of Finding
    unranked : frozenset of str
        Inputs and outputs whose number of dimensions the file leaves open: their shape says nothing.
    """

    path: Path
    ir_version: int
    producer: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    opsets: Mapping[str, int]
    operators: Mapping[str, int]
    parameters: Mapping[str, int]
    parameter_bytes: Mapping[str, int]
    weights: str
    state: Mapping[str, str]
    state_from: str
    findings: tuple[Finding, ...]
    unranked: frozenset[str] = frozenset()


def inspect(model: str | os.PathLike[str]) -> Inspection:
    """Read a model's file.

    Parameters
    ----------
    model : path
        A `.onnx` file or a bundle.

    Raises
    ------
    ModelError, BundleError
        When it cannot be read, or is in ORT's own format.
    """
    source = Source(os.fspath(model))
    assert source.path is not None
    proto = _read(source.path)
    tensors = list(_tensors(proto))
    nodes = list(_nodes(proto))
    counts = Counter(f"{node.domain}::{node.op_type}" if node.domain else node.op_type for node in nodes)
    parameters, sizes = Counter[str](), Counter[str]()
    for tensor in tensors:
        kind = onnx.TensorProto.DataType.Name(tensor.data_type)
        parameters[kind] += _count(tensor)
        sizes[kind] += _bytes(tensor)
    initializers = {tensor.name for tensor in proto.graph.initializer}
    initializers |= {sparse.values.name for sparse in proto.graph.sparse_initializer}
    inputs = tuple(_spec(value) for value in proto.graph.input if value.name not in initializers)
    outputs = tuple(_spec(value) for value in proto.graph.output)
    manifest = source.bundle.manifest.state if source.bundle is not None else {}
    state = dict(manifest) or dict(_pairs(inputs, outputs))
    weights = _placement(tensors)
    return Inspection(
        path=source.path,
        ir_version=proto.ir_version,
        producer=f"{proto.producer_name} {proto.producer_version}".strip(),
        inputs=inputs,
        outputs=outputs,
        opsets={entry.domain: entry.version for entry in proto.opset_import},
        operators=dict(counts.most_common()),
        parameters=dict(parameters.most_common()),
        parameter_bytes=dict(sizes.most_common()),
        weights=weights,
        state=state,
        state_from="manifest" if manifest else "names" if state else "",
        findings=tuple(_findings(nodes, weights, sum(sizes.values()), source)),
        unranked=frozenset(value.name for value in (*proto.graph.input, *proto.graph.output) if _is_unranked(value)),
    )


def _read(path: Path) -> onnx.ModelProto:
    if path.suffix == ".ort":
        raise ModelError(
            f"Expected an ONNX file, got one in ORT's own format - at {path}",
            hint="inspect the .onnx it was made from: ORT's format keeps no names of operators to read here",
        )
    try:
        proto = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf's own class of errors, among others
        raise ModelError(f"Expected an ONNX model, got a file that is none ({error}) - at {path}") from error
    if not proto.graph.node and not proto.graph.output:
        raise ModelError(f"Expected an ONNX model, got a file without a graph - at {path}")
    _check(proto, path)
    return proto


def _check(proto: onnx.ModelProto, path: Path) -> None:
    """Numbers that a damaged file may have replaced: types of values, and where external weights lie."""
    kinds = [(tensor.name, tensor.data_type) for tensor in _tensors(proto)]
    kinds += [(value.name, value.type.tensor_type.elem_type) for value in (*proto.graph.input, *proto.graph.output)]
    for name, kind in kinds:
        if kind not in onnx.TensorProto.DataType.values():
            raise ModelError(f"Expected a type of values that ONNX has, got number {kind} - at {name!r} in {path}")
    for tensor in _tensors(proto):
        for entry in tensor.external_data:
            if entry.key in PLACES and not re.fullmatch(r"\d{0,19}", entry.value):
                where = f"at {entry.key} of {tensor.name!r} in {path}"
                raise ModelError(f"Expected a number of bytes, got {entry.value[:40]!r} - {where}")


def _graphs(proto: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    waiting = [proto.graph]
    for function in proto.functions:
        waiting += _inside(function.node)
    while waiting:
        graph = waiting.pop()
        yield graph
        waiting += _inside(graph.node)


def _inside(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.GraphProto]:
    for node in nodes:
        for attribute in node.attribute:
            yield from [attribute.g] if attribute.HasField("g") else []
            yield from attribute.graphs


def _nodes(proto: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    for graph in _graphs(proto):
        yield from graph.node
    for function in proto.functions:
        yield from function.node


def _tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    for graph in _graphs(proto):
        yield from graph.initializer
        yield from (sparse.values for sparse in graph.sparse_initializer)
    for node in _nodes(proto):
        for attribute in node.attribute:
            yield from [attribute.t] if attribute.HasField("t") else []
            yield from attribute.tensors


def _count(tensor: onnx.TensorProto) -> int:
    count = 1
    for size in tensor.dims:
        count *= size
    return count


def _bytes(tensor: onnx.TensorProto) -> int:
    """What a tensor's values take, however the file holds them."""
    return _count(tensor) * _bits(onnx.TensorProto.DataType.Name(tensor.data_type)) // 8


def _bits(kind: str) -> int:
    if kind in TYPE_BITS:
        return TYPE_BITS[kind]
    try:
        return int(onnx.helper.tensor_dtype_to_np_dtype(onnx.TensorProto.DataType.Value(kind)).itemsize) * 8
    except (KeyError, ValueError, TypeError):
        return 8


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        return TensorSpec.of(value.name, str(kind or "unknown").removesuffix("_type"), [])
    tensor = value.type.tensor_type
    name = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
    dims = [dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None for dim in tensor.shape.dim]
    return TensorSpec.of(value.name, f"tensor({name})", dims)


def _is_unranked(value: onnx.ValueInfoProto) -> bool:
    return value.type.WhichOneof("value") == "tensor_type" and not value.type.tensor_type.HasField("shape")


def _placement(tensors: Iterable[onnx.TensorProto]) -> str:
    """Where the weights that matter lie."""
    mapped = copied = 0
    for tensor in tensors:
        external = {entry.key: entry.value for entry in tensor.external_data}
        # Not all bytes lie in `raw_data`: `float_data` and its like hold them value by value.
        size = int(external.get("length") or 0) or _bytes(tensor)
        if external and int(external.get("offset") or 0) % PAGE_BYTES == 0:
            mapped += size
        else:
            copied += size
    if mapped + copied == 0:
        return "none"
    if copied < SMALL_BYTES and mapped >= SMALL_BYTES:
        return "mapped"
    return "mixed" if mapped else "copied"


def _pairs(inputs: Iterable[TensorSpec], outputs: Iterable[TensorSpec]) -> Iterator[tuple[str, str]]:
    """Inputs and outputs that bear the names of carried state, and one type."""
    found = {spec.name: spec for spec in outputs}
    for spec in inputs:
        names = [
            after + spec.name.removeprefix(before) for before, after in STATE_PREFIXES if spec.name.startswith(before)
        ]
        names += [after for before, after in STATE_NAMES if spec.name == before]
        for name in names:
            if name in found and found[name].type == spec.type and len(found[name].shape) == len(spec.shape):
                yield spec.name, name
                break


def _findings(nodes: list[onnx.NodeProto], weights: str, size: int, source: Source) -> Iterator[Finding]:
    names = {node.op_type for node in nodes}
    if size >= SMALL_BYTES and weights in ("copied", "mixed"):
        hint = "omni-sdk prepare writes a bundle with page-aligned external data"
        yield Finding("warning", "weights", "lie inside the file or unaligned: each load copies them", hint)
    if "ConvInteger" in names:
        message = "ConvInteger (dynamic quantization) has no fast kernel in ONNX Runtime: slower than FP32"
        yield Finding("warning", "operators", message, "quantize statically (QDQ): omni-sdk prepare")
    if random := sorted(names.intersection(RANDOM_OPERATORS)):
        yield Finding(
            "info", "operators", f"{', '.join(random)}: results are not decided by the inputs, so none is cached"
        )
    if source.needs_operators:
        yield Finding("info", "operators", "needs the operators of this package: runs in omni-sdk only")
    if "Identity" in names or "Dropout" in names:
        yield Finding("info", "operators", "holds operators that do nothing", "omni-sdk prepare removes them")
