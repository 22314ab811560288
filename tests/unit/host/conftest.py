"""The models that the tests of hosts share."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hosts import SIDE
from onnx import TensorProto, helper, numpy_helper


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """Three models of 1 MiB; each multiplies by its own number."""
    folder = tmp_path_factory.mktemp("models")
    for factor in (2, 3, 5):
        weights = numpy_helper.from_array(np.eye(SIDE, dtype=np.float32) * factor, "w")
        value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", SIDE]) for name in "xy"]
        graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", value[:1], value[1:], [weights])
        onnx.save_model(
            helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9),
            folder / f"{factor}.onnx",
        )
    return {name: folder / f"{factor}.onnx" for name, factor in {"two": 2, "three": 3, "five": 5}.items()}
