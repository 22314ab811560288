"""QConv1d's inputs: which shapes follow from theirs, and that wrong ones are named."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from kernels import Array, lengths_of_past, needs_shapes
from onnx import helper
from qconv1d import fed, layer, output_bytes, qconv1d, qconv1d_model, qconv1d_session, same

from omni_sdk.tools.prepare.rules.qconv1d_node import pack_bytes


def test_scales_may_have_one_axis_and_zero_points_too() -> None:
    rng = np.random.default_rng(13)
    feeds, weight = layer(rng, (1, 9, 4), 5, 2)
    feeds |= output_bytes(rng)
    scalars = ("x_scale", "x_zero_point", "y_scale", "y_zero_point")
    same(
        qconv1d(feeds, weight, ["bytes"]),
        qconv1d({**feeds, **{name: feeds[name].reshape(1) for name in scalars}}, weight, ["bytes"]),
    )


def shapes_of(nodes: str, *, time: str, past: str, outputs: str) -> dict[str, list[object]]:
    """Of the outputs of some nodes over X and a past P, as ORT infers them."""
    unknown = not past
    text = f"""
        <ir_version: 10, opset_import: ["": 20, "omni": 1]>
        g (uint8[n, {time}, 4] X, float s, uint8 z, int8[7, 1, 1, 64] W, int32[5] O, float[5] M,
           float[n, {past or "gone"}, 4] P) => ({outputs}) {{ {nodes} }}"""
    model = onnx.parser.parse_model(text)
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    if unknown:
        model.graph.input[6].type.tensor_type.shape.dim[1].ClearField("dim_param")
    return {output.name: output.shape for output in qconv1d_session(model).get_outputs()}


@needs_shapes
@pytest.mark.parametrize("time", ["t", "9"])
def test_shapes_are_inferred(time: str) -> None:
    """By numbers where they are known, by name where no padding changes the length; of every output that is there."""
    nodes = """
        Y, sum, present, bytes = omni.QConv1d<kernel = 7, dilation = 2, out_channels = 5>
            (X, s, z, W, O, M, P, , , , s, z)
        , , , Z = omni.QConv1d<kernel = 7, dilation = 2, out_channels = 5, pad_begin = 12, pad_end = 2>
            (X, s, z, W, O, M, , , , , s, z)
    """
    outputs = "float[a, b, c] Y, float[d, e, f] sum, float[g, h, i] present, uint8[j, k, l] bytes, uint8[m, o, p] Z"
    shapes = shapes_of(nodes, time=time, past="12", outputs=outputs)
    kept, longer = ("t", "(t)+2") if time == "t" else (9, 11)
    same_as_x = ["n", kept, 5]
    assert shapes == {
        "Y": same_as_x,
        "sum": same_as_x,
        "present": ["n", 12, 4],
        "bytes": same_as_x,
        "Z": ["n", longer, 5],
    }


@needs_shapes
@lengths_of_past
def test_a_past_of_another_length_gives_another_shape(time: str, past: str, columns: object) -> None:
    node = ", , , bytes = omni.QConv1d<kernel = 7, dilation = 2, out_channels = 5>(X, s, z, W, O, M, P, , , , s, z)"
    shapes = shapes_of(node, time=time, past=past, outputs="uint8[a, b, c] bytes")
    assert shapes == {"bytes": [] if columns is None else ["n", columns, 5]}


FEEDS, WEIGHT = layer(np.random.default_rng(15), (1, 8, 4), 6, 3)
X, SIX = FEEDS["X"], np.ones(6, np.float32)
ZERO = np.asarray(np.uint8(0))
NONE, ONE, LESS, INFINITE = (np.asarray(scale, np.float32) for scale in (0, 1, -1, np.inf))
STATE = np.zeros((1, 3, 4), np.float32)


@pytest.mark.parametrize(
    ("feeds", "attributes", "message"),
    [
        ({"X": X[0]}, {}, r"Expected rank 3 \(batch, time, channels\), got shape \[8, 4\] - at omni::QConv1d, input X"),
        ({"X": X[:, :, :3]}, {}, "Expected a multiple of 4 channels, got 3 - at omni::QConv1d, input X"),
        ({"W": pack_bytes(WEIGHT)[:2]}, {}, r"Expected shape \[3, 1, 1, 64\], got \[2, 1, 1, 64\] - at .* input W"),
        ({"W": pack_bytes(WEIGHT)[..., :16]}, {}, r"Expected shape \[3, 1, 1, 64\], got \[3, 1, 1, 16\] - at .* W"),
        ({"offset": FEEDS["offset"][:5]}, {}, r"Expected shape \[6\], got \[5\] - at omni::QConv1d, input offset"),
        ({"multiplier": SIX[None]}, {}, r"Expected shape \[6\], got \[1, 6\] - at omni::QConv1d, input multiplier"),
        ({"past": STATE}, {}, r"Expected shape \[1, at most 2, 4\], got \[1, 3, 4\] - at omni::QConv1d, input past"),
        ({"past": STATE[:, :0, :3]}, {}, r"Expected shape \[1, at most 2, 4\], got \[1, 0, 3\] - at .* input past"),
        (
            {"past": STATE[:, :2]},
            {"pad_begin": 2},
            "Expected no padding at the beginning beside a past, got 2 - at omni::QConv1d, attribute pad_begin",
        ),
        ({"X": X[:, :1]}, {}, "Expected at least 2 columns with their padding, got 1 - at omni::QConv1d, input X"),
        (
            {"residual": np.zeros((1, 8, 6), np.float32)},
            {},
            r"Expected shape \[1, 6, 6\], got \[1, 8, 6\] - at omni::QConv1d, input residual",
        ),
        ({"alpha": SIX}, {}, "Expected alpha and inv_beta, got only one - at omni::QConv1d, input inv_beta"),
        ({"inv_beta": SIX}, {}, "Expected alpha and inv_beta, got only one - at omni::QConv1d, input alpha"),
        ({"alpha": SIX[:2], "inv_beta": SIX}, {}, r"Expected shape \[6\], got \[2\] - at omni::QConv1d, input alpha"),
        ({"x_scale": NONE}, {}, "Expected a positive finite scale, got 0 - at omni::QConv1d, input x_scale"),
        ({"x_scale": LESS}, {}, "Expected a positive finite scale, got -1 - at omni::QConv1d, input x_scale"),
        ({"x_scale": INFINITE}, {}, "Expected a positive finite scale"),
        ({"x_scale": SIX}, {}, r"Expected shape \[\], got \[6\] - at omni::QConv1d, input x_scale"),
        ({"y_scale": NONE}, {}, "Expected a positive finite scale, got 0 - at omni::QConv1d, input y_scale"),
        ({"y_scale": LESS}, {}, "Expected a positive finite scale, got -1 - at omni::QConv1d, input y_scale"),
        ({"y_scale": None}, {}, "Expected a scale for the output bytes, got none - at omni::QConv1d, input y_scale"),
        (
            {"y_zero_point": None},
            {},
            "Expected a zero point for the output bytes, got none - at omni::QConv1d, input y_zero_point",
        ),
        ({}, {"kernel": 12}, "Expected a value from 1 to 11, got 12 - at omni::QConv1d, attribute kernel"),
        ({}, {"kernel": None}, "Expected an integer, got none - at omni::QConv1d, attribute kernel"),
        ({}, {"out_channels": None}, "Expected an integer, got none - at omni::QConv1d, attribute out_channels"),
        ({}, {"dilation": 0}, "Expected a value from 1 to .*, got 0 - at omni::QConv1d, attribute dilation"),
        ({}, {"pad_end": -1}, "Expected a value from 0 to .*, got -1 - at omni::QConv1d, attribute pad_end"),
    ],
)
def test_wrong_inputs_are_named(
    feeds: dict[str, Array | None], attributes: dict[str, int | None], message: str
) -> None:
    given = {**FEEDS, "y_scale": ONE, "y_zero_point": ZERO, **feeds}
    kept = {name: array for name, array in given.items() if array is not None}
    model = qconv1d_model(kept, WEIGHT, ["Y", "bytes"])
    (node,) = model.graph.node
    others = [attribute for attribute in node.attribute if attribute.name not in attributes]
    del node.attribute[:]
    node.attribute.extend(others)
    node.attribute.extend(helper.make_attribute(name, value) for name, value in attributes.items() if value is not None)
    with pytest.raises(Exception, match=message):
        qconv1d_session(model).run(None, fed(kept))


@pytest.mark.parametrize("name", ["X", "x_zero_point", "x_scale"])
def test_other_types_are_refused_at_load(name: str) -> None:
    model = qconv1d_model(FEEDS, WEIGHT)
    (value,) = (value for value in model.graph.input if value.name == name)
    value.type.tensor_type.elem_type = onnx.TensorProto.INT8 if name != "x_scale" else onnx.TensorProto.DOUBLE
    with pytest.raises(Exception, match="QConv1d"):
        qconv1d_session(model)
