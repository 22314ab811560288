"""The models of the soak, written by a process of their own: what makes models is not what is watched.

Usage: soak_models.py FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

from onnx import parser

from omni_sdk.tools.export import code2wav, reference_checkpoint
from omni_sdk.tools.export.config import Config
from omni_sdk.tools.prepare import prepare

HEAD = '<ir_version: 10, opset_import: ["": 21]>'
GRAPHS = {
    "sums": "g (float[N] a, float[N] b) => (float[N] total, float[N] gap) { total = Add(a, b)\n gap = Sub(a, b) }",
    "nonzero": "g (int64[N] x) => (int64[1, M] y) { y = NonZero(x) }",
    "smooth": "g (float[B, N] x) => (float[B, N] y) { y = Tanh(x) }",
    "long": """g (float[8] x, int64 n) => (float[8] y) {
        t = Constant <value: tensor = bool {1}> ()
        y = Loop (n, t, x) <body = b (int64 i, bool c, float[8] s) => (bool d, float[8] e) { d = Identity(c)
            e = Sin(s) }>
    }""",
}
TINY = Config(
    codebook_size=16, num_quantizers=4, hidden_size=16, num_attention_heads=4, num_key_value_heads=2,
    attention_bias=True, sliding_window=5, intermediate_size=24, num_hidden_layers=2, upsampling_ratios=(2,),
    upsample_rates=(3, 2), decoder_dim=16,
)  # fmt: skip


def make(folder: Path) -> None:
    """Four graphs of a node or two, and a Code2Wav of a few thousand weights, prepared, as a stream."""
    for name, text in GRAPHS.items():
        (folder / f"{name}.onnx").write_bytes(parser.parse_model(f"{HEAD} {text}").SerializeToString())
    checkpoint = reference_checkpoint(folder / "checkpoint", config=TINY)
    code2wav(checkpoint, folder / "exported", streaming=True)
    prepare(folder / "exported", folder / "code2wav", measure=False)


if __name__ == "__main__":
    make(Path(sys.argv[1]))
