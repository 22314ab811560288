"""Small models for the tests of prepare, and calibration inputs that fit them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir

from omni_sdk.tools.saving import save_model


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    """Seeded normal noise, float32."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def vocoder(folder: Path, channels: int = 16) -> Path:
    """Pad, convolution, Snake, transposed convolution with trims, Snake, convolution: [N, 4, T] to [N, 1, 4 T - 4]."""
    text = f"""<ir_version: 9, opset_import: ["" : 18]>
    agraph (float[N, 4, T] mel, float[{channels}, 4, 7] w0, float[1, {channels}, 1] a0, float[{channels}, 8, 8] w1,
            float[1, 8, 1] a1, float[1, 8, 7] w2) => (float[N, 1, L] waveform) {{
        two = Constant <value = float {{2.0}}> ()
        pads = Constant <value = int64[6] {{0, 0, 6, 0, 0, 0}}> ()
        p0 = Pad(mel, pads) c0 = Conv(p0, w0)
        u0 = Mul(c0, a0) s0 = Sin(u0) q0 = Pow(s0, two) d0 = Div(q0, a0) y0 = Add(c0, d0)
        t1 = ConvTranspose <strides = [4]> (y0, w1)
        starts = Constant <value = int64[1] {{4}}> () ends = Constant <value = int64[1] {{-4}}> ()
        axes = Constant <value = int64[1] {{2}}> () z1 = Slice(t1, starts, ends, axes)
        u1 = Mul(z1, a1) s1 = Sin(u1) q1 = Pow(s1, two) d1 = Div(q1, a1) y1 = Add(z1, d1)
        p2 = Pad(y1, pads) waveform = Conv(p2, w2)
    }}"""
    model = ir.from_onnx_text(text)
    arrays = {
        "w0": noise(channels, 4, 7) / 5,
        "a0": abs(noise(1, channels, 1, seed=1)) + 0.5,
        "w1": noise(channels, 8, 8, seed=2) / 6,
        "a1": abs(noise(1, 8, 1, seed=3)) + 0.5,
        "w2": noise(1, 8, 7, seed=4) / 7,
    }
    return save(model, arrays, folder / "vocoder.onnx")


def save(model: ir.Model, arrays: dict[str, np.ndarray], path: Path) -> Path:
    """Turn inputs into initializers, name the nodes, and write the model."""
    for name, array in arrays.items():
        value = next(value for value in model.graph.inputs if value.name == name)
        model.graph.inputs.remove(value)
        value.const_value, value.type = ir.tensor(array, name=name), ir.TensorType(ir.DataType.from_numpy(array.dtype))
        value.shape = ir.Shape(array.shape)
        model.graph.register_initializer(value)
    for index, node in enumerate(model.graph):
        node.name = f"{node.op_type}_{index}"
    save_model(path, model)
    return path


def mels(count: int = 3, frames: int = 40) -> list[dict[str, np.ndarray]]:
    """Calibration samples of the vocoder."""
    return [{"mel": noise(1, 4, frames, seed=10 + index)} for index in range(count)]
