"""Snake, run by ONNX Runtime itself: its error bound, every shape and layout, threads, memory taken over."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from kernels import LAYOUTS, LIBRARY, SINE_ERROR, laid, needs_shapes, options, parameters, rounding, run, snake64


@LAYOUTS
@pytest.mark.parametrize("largest", [1e-30, 1e-3, 3.0, 1e4])
def test_snake_keeps_its_error_bound_over_the_audio_range(variant: str, channels_last: int, largest: float) -> None:
    rng = np.random.default_rng(7)
    values = parameters(rng, 5)
    x = rng.uniform(-largest, largest, (2, 5, 4001)).astype(np.float32)
    (y,) = run("Snake", {"X": laid(x, channels_last), **values}, channels_last=channels_last)
    reference = snake64(x, values["alpha"], values["inv_beta"])
    bound = SINE_ERROR * values["inv_beta"][:, None] + rounding(reference)
    assert np.all(np.abs(laid(y, channels_last) - reference) <= bound)


def test_sine_part_is_within_a_millionth_up_to_ten_thousand(variant: str) -> None:
    """With x = 1 the sum is small enough for its rounding to hide nothing, and alpha carries the angle."""
    alpha = np.linspace(-1e4, 1e4, 200_001, dtype=np.float32)
    x = np.ones((1, alpha.size, 1), np.float32)
    (y,) = run("Snake", {"X": x, "alpha": alpha, "inv_beta": np.ones_like(alpha)})
    exact = np.sin(alpha.astype(np.float64)) ** 2
    assert np.abs((y.ravel().astype(np.float64) - 1) - exact).max() < 5e-7


@LAYOUTS
def test_angle_is_the_exact_product_and_not_its_rounding(variant: str, channels_last: int) -> None:
    """An angle of 1e4 as a float is off by up to 5e-4. inv_beta is so large that the sum's rounding hides nothing."""
    rng = np.random.default_rng(15)
    x = rng.uniform(-1e4, 1e4, (1, 3, 5000)).astype(np.float32)
    alpha = np.array([0.3, 1.1, 7.7], np.float32)
    inv_beta = np.full(3, 1e6, np.float32)
    feeds = {"X": laid(x, channels_last), "alpha": alpha, "inv_beta": inv_beta}
    (y,) = run("Snake", feeds, channels_last=channels_last)
    reference = snake64(x, alpha, inv_beta)
    assert np.all(np.abs(laid(y, channels_last) - reference) <= SINE_ERROR * 1e6 + rounding(reference))


@LAYOUTS
@pytest.mark.parametrize("largest", [1e6, 1e9, 1e30, 3e38])
def test_snake_of_huge_values_is_as_exact(variant: str, channels_last: int, largest: float) -> None:
    """inv_beta as large as x, so that the sine is not lost in the sum."""
    rng = np.random.default_rng(3)
    x = rng.uniform(-largest, largest, (1, 3, 3000)).astype(np.float32)
    alpha = np.array([0.5, 1.0, 7.25], np.float32)
    inv_beta = np.full(3, largest / 4, np.float32)
    (y,) = run(
        "Snake", {"X": laid(x, channels_last), "alpha": alpha, "inv_beta": inv_beta}, channels_last=channels_last
    )
    reference = snake64(x, alpha, inv_beta)
    finite = np.abs(reference) < np.finfo(np.float32).max
    error = np.abs(laid(y, channels_last) - reference)
    assert np.all(error[finite] <= SINE_ERROR * float(inv_beta[0]) + rounding(reference[finite]))


def test_snake_keeps_denormals(variant: str) -> None:
    x = np.array([1e-45, -1e-45, 1e-40, -1e-39, 0.0, -0.0], np.float32).reshape(1, 1, -1)
    ones = np.ones(1, np.float32)
    (y,) = run("Snake", {"X": x, "alpha": ones, "inv_beta": ones})
    np.testing.assert_array_equal(y, x)


def test_nan_and_infinity_stay_where_they_are(variant: str) -> None:
    rng = np.random.default_rng(11)
    x = rng.normal(size=(1, 2, 2500)).astype(np.float32)
    bad = {3: np.nan, 900: np.inf, 1800: -np.inf}
    for at, value in bad.items():
        x[0, 1, at] = value
    values = parameters(rng, 2)
    (y,) = run("Snake", {"X": x, **values})
    wrong = np.zeros_like(x, bool)
    wrong[0, 1, list(bad)] = True
    np.testing.assert_array_equal(np.isnan(y), wrong)
    reference = snake64(np.where(wrong, 0, x), values["alpha"], values["inv_beta"])
    assert np.abs(np.where(wrong, 0, y) - reference).max() < 5e-6


@LAYOUTS
@pytest.mark.parametrize(
    "shape",
    [
        (1, 1, 1),
        (1, 1, 70_001),
        (3, 1, 7),
        (1, 96, 4),
        (2, 130, 3),
        (1, 128, 257),
        (1, 129, 257),
        (4, 3, 9001),
        (1, 1536, 5),
    ],
    ids=str,
)
def test_snake_of_every_shape(variant: str, channels_last: int, shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(5)
    values = parameters(rng, shape[1])
    x = rng.normal(size=shape).astype(np.float32)
    (y,) = run("Snake", {"X": laid(x, channels_last), **values}, channels_last=channels_last)
    assert np.abs(laid(y, channels_last) - snake64(x, values["alpha"], values["inv_beta"])).max() < 1e-5


@pytest.mark.parametrize("shape", [(1, 4, 0), (0, 4, 9), (2, 0, 5)], ids=str)
def test_nothing_in_gives_nothing_out(shape: tuple[int, int, int]) -> None:
    values = parameters(np.random.default_rng(0), shape[1])
    (y,) = run("Snake", {"X": np.zeros(shape, np.float32), **values})
    assert y.shape == shape


@LAYOUTS
def test_threads_change_no_bit(channels_last: int) -> None:
    rng = np.random.default_rng(2)
    values = parameters(rng, 24)
    x = laid(rng.normal(size=(2, 24, 6000)).astype(np.float32), channels_last)
    results = [
        run("Snake", {"X": x, **values}, threads=threads, channels_last=channels_last)[0] for threads in (1, 2, 4)
    ]
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


def test_input_that_is_used_again_is_not_overwritten() -> None:
    """Snake runs in place only where ORT says so; here X + Snake(X) still needs X."""
    rng = np.random.default_rng(4)
    values = parameters(rng, 3)
    graph = onnx.parser.parse_model(
        """
        <ir_version: 10, opset_import: ["": 20, "omni": 1]>
        g (float[n, 3, t] X, float[3] alpha, float[3] inv_beta) => (float[n, 3, t] Z) {
            H = Relu(X)
            S = omni.Snake(H, alpha, inv_beta)
            P = omni.Snake(S, alpha, inv_beta)
            Z = Sub(P, H)
        }
        """
    )
    x = rng.normal(size=(1, 3, 5000)).astype(np.float32)
    session = ort.InferenceSession(graph.SerializeToString(), options(), providers=["CPUExecutionProvider"])
    (z,) = session.run(None, {"X": x, **values})
    h = np.maximum(x, 0)
    inner = snake64(h, values["alpha"], values["inv_beta"])
    np.testing.assert_allclose(z, snake64(inner, values["alpha"], values["inv_beta"]) - h, atol=2e-5)


PEAK_OF_A_CHAIN = """
import sys
import numpy as np, onnx.parser, onnxruntime as ort
library, dims = sys.argv[1:]
model = onnx.parser.parse_model(f'''<ir_version: 10, opset_import: ["": 20, "omni": 1]>
    g (float[{dims}] X, float[c] alpha, float[c] inv_beta) => (float[1, 1, 1] Z) {{
        A = Abs(X)
        B = omni.Snake(A, alpha, inv_beta)
        C = omni.Snake(B, alpha, inv_beta)
        Z = ReduceMax(C)
    }}''')
options = ort.SessionOptions()
options.enable_mem_pattern = False
options.enable_cpu_mem_arena = False
options.register_custom_ops_library(library)
session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
ones = np.ones(1, np.float32)
session.run(None, {"X": np.ones((1, 1, 8), np.float32), "alpha": ones, "inv_beta": ones})
x = np.ones((1, 1, 1 << 23), np.float32)

def status(field):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(field))

before = status("VmRSS")
session.run(None, {"X": x, "alpha": ones, "inv_beta": ones})
print((status("VmHWM") - before) / (x.nbytes / 1024))
"""


@needs_shapes
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's account of peak memory")
@pytest.mark.parametrize(("dims", "tensors"), [("n, c, t", 1), ("?, ?, ?", 2)])
def test_a_chain_runs_in_place_where_its_shape_has_a_name(dims: str, tensors: int) -> None:
    """A, B and C share one tensor's memory; without a shape that ORT can compare, two are held at a time."""
    ran = subprocess.run(
        [sys.executable, "-c", PEAK_OF_A_CHAIN, str(LIBRARY), dims], capture_output=True, text=True, check=True
    )
    assert round(float(ran.stdout)) == tensors
