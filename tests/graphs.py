"""Small models, written as ONNX text."""

from __future__ import annotations

from typing import Any

from onnx import parser

import omni_sdk as omni

HEAD = '<ir_version: 10, opset_import: ["": 21]>'

DOUBLE = "g (float[N] x) => (float[N] y) { y = Add(x, x) }"
SUM_AND_GAP = "g (float[N] a, float[N] b) => (float[N] total, float[N] gap) { total = Add(a, b)\n gap = Sub(a, b) }"
NONZERO = "g (int64[N] x) => (int64[1, M] y) { y = NonZero(x) }"
RANDOM = "g (float[N] x) => (float[N] y) { r = RandomNormalLike(x)\n y = Add(x, r) }"
PICK = "g (float[N] x, int64[K] i) => (float[K] y) { y = Gather(x, i) }"
# Runs for seconds, in steps of microseconds: what a deadline is tried on.
LONG = """g (float[8] x, int64 n) => (float[8] y) {
    t = Constant <value: tensor = bool {1}> ()
    y = Loop (n, t, x) <body = b (int64 i, bool c, float[8] s) => (bool d, float[8] e) { d = Identity(c)
        e = Sin(s) }>
}"""


def serialized(text: str) -> bytes:
    return parser.parse_model(f"{HEAD} {text}").SerializeToString()


def load(text: str, **settings: Any) -> omni.Model:
    return omni.load(serialized(text), omni.Settings(**settings), cache_dir=None)
