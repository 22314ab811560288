"""What providers' compilers say, as one sentence with a remedy. The messages are as they came, cut in length."""

from __future__ import annotations

import pytest

from omni_sdk import refusals
from omni_sdk.providers import CPU, CUDA, OPENVINO, TENSORRT

DYNAMIC_RANK = (
    "[ONNXRuntimeError] : 1 : FAIL : Exception during initialization: [with bool typed = false; Func = OVCore::"
    "CompileModel(std::shared_ptr<const ov::Model>&)::<lambda()>] [OpenVINO-EP] Exception while Loading Network for "
    "graph OpenVINO-EP-subgraph_2_0: Exception from src/inference/src/cpp/core.cpp:114:\n"
    "Exception from src/inference/src/dev/plugin.cpp:53:\nCheck '!shape.rank().is_dynamic()' failed at "
    "src/plugins/intel_cpu/src/node.cpp:106:\nUnexpected: CPU plug-in doesn't support Parameter operation with dynamic "
    "rank. Operation name: If_0\n\n"
)
NO_PROPERTY = (
    "[ONNXRuntimeError] : 1 : FAIL : Exception during initialization: /onnxruntime/onnxruntime/core/providers/openvino/"
    "ov_interface.cc:28 auto onnxruntime::openvino_ep::OvExceptionBoundary() [OpenVINO-EP] Exception from "
    "src/inference/src/cpp/core.cpp:181:\nNotFound: Unsupported property NO_SUCH by CPU plugin\n"
)
CUDA_MEMORY = (
    "[ONNXRuntimeError] : 1 : FAIL : /onnxruntime_src/onnxruntime/core/providers/cuda/cuda_call.cc:129 "
    "CUDA failure 2: out of memory ; GPU=0 ; hostname=box"
)
TENSORRT_BUILD = "[ONNXRuntimeError] : 11 : EP_FAIL : TensorRT EP failed to create engine from network for fused node"
CYCLE = "[ONNXRuntimeError] : 1 : FAIL : This is an invalid model. Error: the graph is not acyclic."


@pytest.mark.parametrize(
    ("text", "provider", "why", "hint"),
    [
        (
            DYNAMIC_RANK,
            OPENVINO,
            "CPU plug-in doesn't support Parameter operation with dynamic rank. Operation name: If_0",
            "--fix",
        ),
        (
            NO_PROPERTY,
            OPENVINO,
            "NotFound: Unsupported property NO_SUCH by CPU plugin",
            "correct the provider's option",
        ),
        (CUDA_MEMORY, CUDA, "CUDA failure 2: out of memory ; GPU=0 ; hostname=box", "free memory"),
        (TENSORRT_BUILD, TENSORRT, None, "allow_fallback=True"),
    ],
)
def test_the_last_reason_and_the_remedy(text, provider, why, hint):
    found = refusals.refusal(text)
    assert found.provider == provider
    assert why is None or found.why == why
    assert "\n" not in found.why
    assert hint in found.hint


def test_a_circle_is_the_fault_of_whoever_was_asked():
    assert refusals.refusal(CYCLE, [CPU]) is None
    assert refusals.refusal(CYCLE) is None
    found = refusals.refusal(CYCLE, [OPENVINO, CPU])
    assert (found.provider, "--target openvino" in found.hint) == (OPENVINO, True)


@pytest.mark.parametrize(
    "text", ["Load model from m.onnx failed:Protobuf parsing failed.", "Foo is not a registered function/op", ""]
)
def test_a_models_own_faults_are_nobodys_refusal(text):
    assert refusals.refusal(text, [OPENVINO, CUDA, TENSORRT, CPU]) is None
