"""The hand that writes ONNX: nodes under dotted names, weights that are read when the model is saved."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import onnx_ir as ir

from omni_sdk.errors import ModelError
from omni_sdk.tools.export.checkpoint import Checkpoint

OPSET = 20
IR_VERSION = 10
END = np.iinfo(np.int64).max
"""As an end of `Slice`: up to the last."""

Transform = Callable[..., np.ndarray]
Attribute = int | float | str | list[int]


class Graph:
    """A graph being built from one checkpoint's tensors.

    Parameters
    ----------
    checkpoint : Checkpoint
        Where weights come from.
    dtype : onnx_ir.DataType
        FLOAT or DOUBLE: what weights, state and waveform are computed in.

    Notes
    -----
    Names of nodes say where they stand: `decoder.1.block.2.conv1.Conv`, as in the checkpoint.
    """

    def __init__(self, checkpoint: Checkpoint, dtype: ir.DataType) -> None:
        self.checkpoint = checkpoint
        self.config = checkpoint.config
        self.dtype = dtype
        self._graph = ir.Graph([], [], nodes=[], name="code2wav", opset_imports={"": OPSET})
        self._scope = ""
        self._names: dict[str, int] = {}
        self._constants: dict[tuple[str, tuple[int, ...], bytes], ir.Value] = {}

    @contextlib.contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Put what is made inside under `name`."""
        outer, self._scope = self._scope, f"{self._scope}{name}."
        try:
            yield
        finally:
            self._scope = outer

    def op(self, kind: str, *inputs: ir.Value | None, **attributes: Attribute) -> ir.Value:
        """Append a node of one output, and give that."""
        return self.ops(kind, 1, *inputs, **attributes)[0]

    def ops(self, kind: str, outputs: int, *inputs: ir.Value | None, **attributes: Attribute) -> Sequence[ir.Value]:
        """Append a node of several outputs, and give these."""
        name = self._unique(f"{self._scope}{kind}")
        node = ir.node(kind, list(inputs), attributes, num_outputs=outputs, name=name)
        for index, value in enumerate(node.outputs):
            value.name = f"{name}.{index}" if outputs > 1 else f"{name}.out"
        self._graph.append(node)
        return node.outputs

    def tensor(self, names: str | Sequence[str], *shapes: tuple[int, ...], to: Transform | None = None) -> ir.Value:
        """Make an initializer of one tensor of the checkpoint, or of several put together.

        Parameters
        ----------
        names : str or sequence of str
            The tensors, by their names within Code2Wav.
        *shapes : tuple of int
            The shape that each must have.
        to : callable, optional
            Takes the arrays in the graph's dtype, gives the initializer's. Called once now, on zeros, to learn the
            shape, and on the values whenever the model is saved.

        Returns
        -------
        onnx_ir.Value

        Raises
        ------
        ModelError
            Where the checkpoint lacks a tensor or its shape is another.
        """
        listed = [names] if isinstance(names, str) else list(names)
        for name, shape in zip(listed, shapes, strict=True):
            if self.checkpoint.shape(name) != shape:
                raise ModelError(
                    f"Expected shape {list(shape)} by config.json, got {list(self.checkpoint.shape(name))}"
                    f" - at {name!r} in {self.checkpoint.source}"
                )
        dtype = self.dtype.numpy()

        def values() -> ir.TensorProtocol:
            arrays = [self.checkpoint.read(name) for name in listed]
            array = arrays[0] if to is None else to(*(array.astype(dtype) for array in arrays))
            return ir.Tensor(np.ascontiguousarray(array, dtype=dtype))

        outlines = [np.broadcast_to(np.zeros((), dtype), shape) for shape in shapes]
        outline = outlines[0] if to is None else to(*outlines)
        name = self._unique("+".join([listed[0], *(name.rsplit(".", 2)[-2] for name in listed[1:])]))
        lazy = ir.LazyTensor(values, dtype=self.dtype, shape=ir.Shape(outline.shape), name=name)
        return self._register(lazy, name, outline.shape)

    def real(self, value: float) -> ir.Value:
        """Make a scalar constant of the graph's dtype."""
        return self.constant(np.array(value, self.dtype.numpy()))

    def whole(self, *values: int) -> ir.Value:
        """Make an int64 constant of rank 1."""
        return self.constant(np.array(values, np.int64))

    def constant(self, array: np.ndarray) -> ir.Value:
        """Make a constant; equal ones are made once."""
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            name = self._unique("constant")
            self._constants[key] = self._register(ir.Tensor(array, name=name), name, array.shape)
        return self._constants[key]

    def cut(self, value: ir.Value, start: int | ir.Value, axis: int) -> ir.Value:
        """Slice from `start`, counted from the end where negative, to the end."""
        begin = start if isinstance(start, ir.Value) else self.whole(start)
        return self.op("Slice", value, begin, self.whole(END), self.whole(axis))

    def input(self, name: str, dtype: ir.DataType, shape: Sequence[int | str]) -> ir.Value:
        """Declare an input of the graph."""
        value = ir.val(name, dtype, shape)
        self._graph.inputs.append(value)
        return value

    def output(self, name: str, value: ir.Value, shape: Sequence[int | str], dtype: ir.DataType | None = None) -> None:
        """Declare an output of the graph; its value takes the name."""
        value.name = name
        value.type = ir.TensorType(dtype or self.dtype)
        value.shape = ir.Shape(shape)
        self._graph.outputs.append(value)

    def model(self) -> ir.Model:
        """Give the model."""
        return ir.Model(self._graph, ir_version=IR_VERSION, producer_name="omni-sdk")

    def _register(self, tensor: ir.TensorProtocol, name: str, shape: tuple[int, ...]) -> ir.Value:
        value = ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
        self._graph.register_initializer(value)
        return value

    def _unique(self, name: str) -> str:
        count = self._names[name] = self._names.get(name, 0) + 1
        return name if count == 1 else f"{name}.{count - 1}"


def linear(graph: Graph, value: ir.Value, weight: ir.Value, bias: ir.Value | None = None) -> ir.Value:
    """Apply a matrix in ONNX's order (inputs by outputs) to the last axis, then add the bias if there is one."""
    product = graph.op("MatMul", value, weight)
    return product if bias is None else graph.op("Add", product, bias)
