"""Makes omni_sdk/smoke.onnx, the small model that the smoke script runs: a recurrent layer with seeded weights."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FEATURES, UNITS = 64, 32


def weights(random: np.random.Generator, name: str, *shape: int) -> onnx.TensorProto:
    values = random.standard_normal(shape).astype(np.float32) / np.sqrt(shape[0]).astype(np.float32)
    return numpy_helper.from_array(values, name)


def main() -> None:
    random = np.random.default_rng(0)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w_in"], ["driven"]),
            helper.make_node("MatMul", ["past.h", "w_back"], ["echoed"]),
            helper.make_node("Add", ["driven", "echoed"], ["mixed"]),
            helper.make_node("Tanh", ["mixed"], ["present.h"]),
            helper.make_node("MatMul", ["present.h", "w_out"], ["y"]),
        ],
        "smoke",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", FEATURES]),
            helper.make_tensor_value_info("past.h", TensorProto.FLOAT, ["batch", UNITS]),
        ],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", FEATURES]),
            helper.make_tensor_value_info("present.h", TensorProto.FLOAT, ["batch", UNITS]),
        ],
        [
            weights(random, "w_in", FEATURES, UNITS),
            weights(random, "w_back", UNITS, UNITS),
            weights(random, "w_out", UNITS, FEATURES),
        ],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="omni-sdk"
    )
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, Path(__file__).parents[1] / "omni_sdk" / "smoke.onnx")


if __name__ == "__main__":
    main()
