"""The operators of the domain `omni` against the chains of standard operators that they replace, and against memory.

Run with ``pytest bench/test_kernels.py --benchmark-group-by=group``. Each group is one operator, layout and size:
`omni`, `chain` (standard operators, the same result) and, as the limit, `memcpy` of as many bytes on as many threads.
All are bound once, so that no copy in or out is timed; results are compared after timing. `extra_info` has the bytes
that an operator must move at least, and GB/s at the median.
"""

from __future__ import annotations

import importlib.machinery
import itertools
import os
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import omni_sdk

LIBRARY = Path(omni_sdk.__file__).parent / f"_kernels{importlib.machinery.EXTENSION_SUFFIXES[0]}"
THREADS = len(os.sched_getaffinity(0))
SIZES = {"one-shot": (96, 245_205), "step of 4": (96, 7_680), "step of 1": (96, 1_920), "first block": (768, 32)}
STRIDE = 3
SCALE = 0.03125
SNAKE = """
    angle = Mul({x}, alpha)
    sine = Sin(angle)
    square = Mul(sine, sine)
    scaled = Mul(square, inv_beta)
    {y} = Add({x}, scaled)
"""
SHUFFLE = {
    0: "parts = Reshape(X, split)\n turned = Transpose<perm = [0, 2, 3, 1]>(parts)\n {y} = Reshape(turned, joined)",
    1: "{y} = Reshape(X, joined)",
}

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Case:
    """An operator's node, the chain it replaces, and its types: `X` is float or bytes."""

    node: str
    chain: str
    outputs: dict[str, str]
    quantized: bool = False
    shuffles: bool = False

    def bytes_moved(self, count: int) -> int:
        residual = 4 if "residual" in self.node else 0
        return count * (
            (1 if self.quantized else 4) + residual + sum({"float": 4}.get(t, 1) for t in self.outputs.values())
        )


QUANTIZE = "Y = QuantizeLinear(active, scale, zero)"
CASES = {
    "Snake": Case("Y = omni.Snake<{at}>(X, a, ib)", SNAKE.format(x="X", y="Y"), {"Y": "float"}),
    "AddSnake": Case(
        "Y, sum = omni.AddSnake<{at}>(X, residual, a, ib)",
        "sum = Add(X, residual)" + SNAKE.format(x="sum", y="Y"),
        {"Y": "float", "sum": "float"},
    ),
    "ShuffleSnake": Case(
        "Y, sum = omni.ShuffleSnake<stride = 3, {at}>(X, a, ib)",
        "{shuffle}" + SNAKE.format(x="sum", y="Y"),
        {"Y": "float", "sum": "float"},
        shuffles=True,
    ),
    "QSnake": Case(
        "Y = omni.QSnake<{at}>(X, table)",
        "x = DequantizeLinear(X, scale, zero)" + SNAKE.format(x="x", y="active") + QUANTIZE,
        {"Y": "uint8"},
        quantized=True,
    ),
    "QAddSnake": Case(
        "Y, sum = omni.QAddSnake<{at}>(X, scale, zero, residual, a, ib, scale, zero)",
        "x = DequantizeLinear(X, scale, zero)\n sum = Add(x, residual)" + SNAKE.format(x="sum", y="active") + QUANTIZE,
        {"Y": "uint8", "sum": "float"},
        quantized=True,
    ),
    "QShuffleSnake": Case(
        "Y, sum = omni.QShuffleSnake<stride = 3, {at}>(X, scale, zero, table)",
        "{shuffle}\n sum = DequantizeLinear(bytes, scale, zero)" + SNAKE.format(x="sum", y="active") + QUANTIZE,
        {"Y": "uint8", "sum": "float"},
        quantized=True,
        shuffles=True,
    ),
}


class Bench:
    """Inputs, outputs and bound sessions of one case; built outside the timer."""

    def __init__(self, name: str, size: str, channels_last: int) -> None:
        self.case = CASES[name]
        self.channels_last = channels_last
        self.channels, self.time = SIZES[size]
        self.time -= self.time % STRIDE if self.case.shuffles else 0
        rng = np.random.default_rng(1)
        self.shape = self._laid(self.channels, self.time)
        stride = STRIDE if self.case.shuffles else 1
        x_shape = self._laid(self.channels * stride, self.time // stride)
        one = (self.channels, 1) if not channels_last else (self.channels,)
        alpha = np.exp(rng.normal(size=self.channels) * 0.3).astype(np.float32)
        columns = self.time // stride
        self.feeds: dict[str, Array] = {
            "X": rng.integers(0, 256, x_shape, np.uint8)
            if self.case.quantized
            else rng.normal(size=x_shape).astype(np.float32),
            "residual": rng.normal(size=self.shape).astype(np.float32),
            "a": alpha,
            "ib": 1 / alpha,
            "alpha": alpha.reshape(one),
            "inv_beta": (1 / alpha).reshape(one),
            "table": self._table(alpha),
            "scale": np.array(SCALE, np.float32),
            "zero": np.array(128, np.uint8),
            "split": np.array([1, stride, self.channels, columns]),
            "joined": np.array(self.shape),
        }

    def _laid(self, channels: int, time: int) -> tuple[int, int, int]:
        return (1, time, channels) if self.channels_last else (1, channels, time)

    def _table(self, alpha: Array) -> Array:
        x = (np.arange(256) - 128) * SCALE
        y = x + np.sin(alpha[:, None].astype(np.float64) * x) ** 2 / alpha[:, None]
        return np.clip(np.rint(y / SCALE) + 128, 0, 255).astype(np.uint8)

    def bound(self, body: str) -> tuple[Callable[[], None], dict[str, Array]]:
        """A session over `body`, its inputs and outputs bound to arrays; calling it runs it."""
        words = set(re.findall(r"\w+", body))
        used = [name for name in self.feeds if name in words]
        types = {np.dtype(np.float32): "float", np.dtype(np.uint8): "uint8", np.dtype(np.int64): "int64"}
        inputs = ", ".join(f"{types[self.feeds[n].dtype]}{list(self.feeds[n].shape)} {n}" for n in used)
        outputs = ", ".join(f"{kind}{list(self.shape)} {name}" for name, kind in self.case.outputs.items())
        text = f'<ir_version: 10, opset_import: ["": 20, "omni": 1]> g ({inputs}) => ({outputs}) {{ {body} }}'
        options = ort.SessionOptions()
        options.intra_op_num_threads = THREADS
        options.register_custom_ops_library(str(LIBRARY))
        session = ort.InferenceSession(
            onnx.parser.parse_model(text).SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        results = {
            name: np.zeros(self.shape, kind.replace("float", "float32")) for name, kind in self.case.outputs.items()
        }
        binding = session.io_binding()
        values = {name: ort.OrtValue.ortvalue_from_numpy(self.feeds[name]) for name in used}
        for name, value in values.items():
            binding.bind_ortvalue_input(name, value)
        for name, array in results.items():
            binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        return lambda: session.run_with_iobinding(binding), results

    def omni(self) -> tuple[Callable[[], None], dict[str, Array]]:
        return self.bound(self.case.node.format(at=f"channels_last = {self.channels_last}"))

    def chain(self) -> tuple[Callable[[], None], dict[str, Array]]:
        shuffle = SHUFFLE[self.channels_last].format(y="bytes" if self.case.quantized else "sum")
        return self.bound(self.case.chain.format(shuffle=shuffle))


def copier(count: int) -> Callable[[], None]:
    """Copies count / 2 bytes, which moves `count`, each thread its share."""
    source, target = np.ones(count // 2, np.uint8), np.empty(count // 2, np.uint8)
    cuts = [source.size * i // THREADS for i in range(THREADS + 1)]
    shares = [slice(begin, end) for begin, end in itertools.pairwise(cuts)]

    def copy() -> None:
        helpers = [threading.Thread(target=np.copyto, args=(target[s], source[s])) for s in shares[1:]]
        for helper in helpers:
            helper.start()
        np.copyto(target[shares[0]], source[shares[0]])
        for helper in helpers:
            helper.join()

    return copy


@pytest.mark.parametrize("way", ["omni", "chain", "memcpy"])
@pytest.mark.parametrize("channels_last", [0, 1], ids=["channels first", "channels last"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", CASES)
def test_kernel(benchmark: BenchmarkFixture, name: str, size: str, channels_last: int, way: str) -> None:
    bench = Bench(name, size, channels_last)
    moved = bench.case.bytes_moved(bench.channels * bench.time)
    benchmark.group = f"{name}, {size}, {('channels first', 'channels last')[channels_last]}"
    if way == "memcpy" and moved < 1 << 24:
        pytest.skip("starting threads from Python would outweigh so small a copy")
    call, results = (copier(moved), {}) if way == "memcpy" else getattr(bench, way)()
    benchmark.pedantic(call, rounds=15, iterations=max(1, (1 << 22) // moved), warmup_rounds=2)
    benchmark.extra_info["bytes"] = moved
    if benchmark.stats is not None:
        benchmark.extra_info["GB/s"] = round(moved / benchmark.stats.stats.median / 1e9, 2)
    if way == "omni":
        run_chain, expected = bench.chain()
        run_chain()
        for output, array in results.items():
            off = np.abs(array.astype(np.float32) - expected[output])
            if array.dtype == np.uint8:
                assert off.max() <= 1
                assert (off > 0).mean() < 1e-3
            else:
                assert off.max() < 1e-5
