"""`omni::Conv1d` against ONNX Runtime's own `Conv` and `MatMul`: python -m pytest bench/test_kernels_conv1d.py -s

Every layer shape of the reference decoder at 128 frames, at the steps of a stream, and the transformer's products.
ORT and each tile run in turn, round by round; a line has their least times, ours as a ratio of ORT's, the share of the
GEMM peak of the same run that the direct algorithm's FLOP come to (a tile may exceed 100 %), and the error against
float64 on some columns. It checks the error; the times are for reading.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from conv1d_cases import THREADS, Layer, ours, theirs
from peaks import float_peak

LONG = {768: 4088, 384: 20_435, 192: 81_736, 96: 245_205}
"""Columns at 128 frames by channels; a step of four frames or one has 1/32 or 1/128 of them, as near as may be."""

FEWEST_ROUNDS, MOST_ROUNDS, ENOUGH_SECONDS = 5, 60, 0.6
LEAST_SNR_DB = {1: 120.0, 2: 110.0, 4: 103.0, 6: 96.0}


@pytest.fixture(scope="module")
def peak() -> Iterator[float]:
    found = float_peak(THREADS)
    print(f"\nGEMM peak {found / 1e9:.0f} GFLOP/s on {THREADS} threads")
    yield found


def least_seconds(runs: list[Callable[[], None]], flop: float, peak: float) -> list[float]:
    """Of each, over interleaved rounds that take long enough to be timed."""
    calls = max(1, int(0.002 * peak / flop))
    best, began = [np.inf] * len(runs), time.perf_counter()
    for number in range(MOST_ROUNDS):
        if number >= FEWEST_ROUNDS and time.perf_counter() - began > ENOUGH_SECONDS:
            break
        for i, run in enumerate(runs):
            started = time.perf_counter()
            for _ in range(calls):
                run()
            best[i] = min(best[i], (time.perf_counter() - started) / calls)
    return best


def snr_db(layer: Layer, x: np.ndarray, weight: np.ndarray, result: np.ndarray) -> float:
    rows = np.unique(np.linspace(0, layer.columns - 1, 200).astype(int))
    exact = layer.exact(x, weight, rows)
    return float(10 * np.log10((exact**2).sum() / ((result[0, rows] - exact) ** 2).sum()))


def compare(layer: Layer, tiles: tuple[int, ...], peak: float) -> None:
    x, weight = layer.data()
    base, _ = theirs(layer, x, weight)
    made = [ours(layer, x, weight, tile) for tile in tiles]
    runs = [base, *(run for run, _ in made)]
    for run in runs:
        run()
    baseline, *seconds = least_seconds(runs, layer.flop, peak)
    print(
        f"\n{layer.channels:>5} -> {layer.out_channels}, {layer.columns} columns, kernel {layer.kernel},"
        f" dilation {layer.dilation}: ORT {1e3 * baseline:.3f} ms, {layer.flop / baseline / peak:.0%} of peak"
    )
    for tile, taken, (_, result) in zip(tiles, seconds, made, strict=True):
        decibels = snr_db(layer, x, weight, result.numpy())
        share = layer.flop / taken / peak
        print(
            f"      tile {tile}: {1e3 * taken:9.3f} ms, {taken / baseline:.2f} x ORT, {share:4.0%}, {decibels:.0f} dB"
        )
        assert decibels > LEAST_SNR_DB[tile]


@pytest.mark.parametrize("dilation", [1, 3, 9])
@pytest.mark.parametrize("channels", LONG)
def test_kernel_of_seven(channels: int, dilation: int, peak: float) -> None:
    compare(Layer(channels, channels, LONG[channels], 7, dilation), (1, 4, 6), peak)


@pytest.mark.parametrize("channels", LONG)
def test_kernel_of_one(channels: int, peak: float) -> None:
    compare(Layer(channels, channels, LONG[channels], 1), (1,), peak)


@pytest.mark.parametrize("frames", [4, 1])
@pytest.mark.parametrize("channels", LONG)
def test_step_of_a_stream(channels: int, frames: int, peak: float) -> None:
    columns = round(LONG[channels] * frames / 128)
    compare(Layer(channels, channels, columns, 7, 3), (1, 2, 4, 6), peak)
    compare(Layer(channels, channels, columns, 1), (1,), peak)


@pytest.mark.parametrize("columns", [1, 4, 8, 128])
def test_product_of_the_transformer(columns: int, peak: float) -> None:
    compare(Layer(1024, 3072, columns, 1), (1,), peak)
