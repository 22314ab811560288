"""Requests of the Open Inference Protocol, whole or compressed: JSON, then a newline and binary tensors, if any."""

from __future__ import annotations

from omni_sdk.specs import TensorSpec
from omni_sdk.tools.scale.bodies import unpacked
from omni_sdk.tools.scale.messages import parse_request
from omni_sdk.tools.scale.signature import Signature

KINDS = {"wave": "float", "codes": "int64", "flag": "bool", "text": "string", "half": "bfloat16"}
SPECS = tuple(TensorSpec.of(name, f"tensor({kind})", [1, None]) for name, kind in KINDS.items())
SIGNATURE = Signature.of("m", SPECS, SPECS, {})
MOST = 1 << 20


def read(data: bytes) -> None:
    encoding = {b"\x1f": "gzip", b"\x78": "deflate"}.get(data[:1], "identity")
    head, newline, blocks = unpacked(data, encoding, MOST).partition(b"\n")
    parse_request(head + blocks, str(len(head)) if newline else None, SIGNATURE)
