"""What a provider's compiler says when it refuses a model: one sentence, and the remedy."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from omni_sdk import providers
from omni_sdk.errors import ProviderError


@dataclass(frozen=True, slots=True)
class Refusal:
    """A provider that would not take the model: which, why, and what helps."""

    provider: str
    why: str
    hint: str


class RefusedError(ProviderError):
    """A provider's compiler refused a model. `provider` is ONNX Runtime's name of it."""

    def __init__(self, message: str, *, provider: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.provider = provider


_ELSEWHERE = "run it on the CPU provider; with allow_fallback=True that happens by itself"
_REMEDIES = (
    (
        re.compile(r"dynamic rank"),
        "an output's rank depends on the data, as after an If: fix the input that decides, so that the If goes away"
        " (omni-sdk prepare MODEL OUT --fix NAME=VALUE --target openvino)",
    ),
    (
        re.compile(r"not acyclic"),
        "its share of the graph and the rest wait for each other: leave it all nodes"
        " (omni-sdk prepare MODEL OUT --target openvino keeps to operators that it knows)",
    ),
    (re.compile(r"option|property", re.IGNORECASE), "remove or correct the provider's option"),
    (
        re.compile(r"profile", re.IGNORECASE),
        "warm up every shape that will come, least and largest, before the first run",
    ),
    (re.compile(r"out of memory|bad_alloc|failed to allocate", re.IGNORECASE), "free memory, or run smaller inputs"),
)
# Who speaks, by the marks each leaves in its messages.
_MARKS = (
    (providers.OPENVINO, re.compile(r"OpenVINO|openvino::|OVCore")),
    (providers.TENSORRT, re.compile(r"TensorRT|nvinfer|NvInfer")),
    (providers.CUDA, re.compile(r"(?:CUDA|CUDNN|CUBLAS|CUFFT) (?:failure|error)")),
)
# A chain of exceptions names the place of each; what follows the last place is the reason.
_PLACES = re.compile(r"(?:Exception from |failed at |\bat )?/?[\w./-]+\.(?:cpp|cc|hpp|h):\d+:?\s*")
_HEADS = re.compile(
    r"^(?:\[ERROR\]|\[OpenVINO(?:-EP)?\]|\[\w+ERROR\w*\]|Unexpected:|Exception during initialization:|[\s:.])+"
)


def refusal(text: str, asked: Sequence[str] = ()) -> Refusal | None:
    """Which provider refused, judged by ONNX Runtime's message; None where none did.

    Parameters
    ----------
    text : str
        The message as it came.
    asked : sequence of str
        Providers that were asked for, by ONNX Runtime's names: a graph that they left in a circle says not whose fault
        it is.
    """
    others = [name for name in asked if name != providers.CPU]
    speaking = next((name for name, mark in _MARKS if mark.search(text)), None)
    if speaking is None and others and "not acyclic" in text:
        speaking = others[0]
    if speaking is None:
        return None
    hint = next((hint for pattern, hint in _REMEDIES if pattern.search(text)), _ELSEWHERE)
    return Refusal(speaking, reason(text), hint)


def reason(text: str) -> str:
    """The last reason in a chain of exceptions, on one line, without places in source code."""
    line = " ".join(text.split())
    parts = [_HEADS.sub("", part).strip() for part in _PLACES.split(line)]
    said = [part for part in parts if part]
    return (said[-1] if said else line).removesuffix(".")
