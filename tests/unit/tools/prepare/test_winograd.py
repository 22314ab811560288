"""Winograd's transforms: exact, balanced, as accurate as said; the packed weights; the C tables made from them."""

from __future__ import annotations

import runpy
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from omni_sdk.tools.prepare.winograd import (
    POINTS,
    TILES,
    amplification,
    exact_input,
    exact_output,
    exact_weight,
    pack,
    pairs,
    transforms,
)

ROOT = Path(__file__).resolve().parents[4]
TILED = [(tile, kernel) for tile in (2, 4, 6) for kernel in range(2, 12)]


@pytest.mark.parametrize(("tile", "kernel"), TILED)
def test_transforms_are_exact(tile: int, kernel: int) -> None:
    """On integers, in rationals, the tile is the convolution itself."""
    rng = np.random.default_rng(tile * kernel)
    points = tile + kernel - 1
    inputs = [Fraction(int(v)) for v in rng.integers(-9, 10, points)]
    taps = [Fraction(int(v)) for v in rng.integers(-9, 10, kernel)]
    data = [sum(b * d for b, d in zip(row, inputs, strict=True)) for row in exact_input(points)]
    weights = [sum(g * w for g, w in zip(row, taps, strict=True)) for row in exact_weight(tile, kernel)]
    products = [u * d for u, d in zip(weights, data, strict=True)]
    outputs = [sum(a * z for a, z in zip(row, products, strict=True)) for row in exact_output(tile, points)]
    assert outputs == [sum(inputs[i + j] * taps[j] for j in range(kernel)) for i in range(tile)]


@pytest.mark.parametrize("points", POINTS)
def test_rows_are_balanced_and_paired(points: int) -> None:
    """Every largest entry is 1; the two rows of a pair differ in the sign of their odd entries alone."""
    rows = exact_input(points)
    assert all(max(map(abs, row)) == 1 for row in rows)
    for q in range(len(pairs(points))):
        assert rows[2 * q][::2] == rows[2 * q + 1][::2]
        assert rows[2 * q][1::2] == [-value for value in rows[2 * q + 1][1::2]]


def test_float_matrices_are_the_rationals() -> None:
    made = transforms(4, 7)
    np.testing.assert_array_equal(made.weight, [[float(value) for value in row] for row in exact_weight(4, 7)])
    assert (made.input.shape, made.weight.shape, made.output.shape) == ((10, 10), (10, 7), (4, 10))
    np.testing.assert_array_equal(transforms(1, 3).weight, np.eye(3))


@pytest.mark.parametrize(("tile", "decibels"), [(2, 14), (4, 20.5), (6, 28)])
def test_points_amplify_rounding_no_more_than_said(tile: int, decibels: float) -> None:
    """For seven taps; a single bad point costs 3 dB and more."""
    assert 10 * np.log10(amplification(tile, 7)) < decibels


@pytest.mark.parametrize(("tile", "kernel"), [(3, 7), (2, 1), (1, 12), (6, 0), (8, 3)])
def test_other_tiles_and_kernels_are_refused(tile: int, kernel: int) -> None:
    with pytest.raises(ValueError, match=f"got tile {tile} with {kernel} taps - at transforms"):
        transforms(tile, kernel)


@pytest.mark.parametrize("tile", TILES)
def test_pack_lays_out_panels(tile: int) -> None:
    weight = np.random.default_rng(0).normal(size=(21, 3, 5)).astype(np.float32)
    packed = pack(weight, tile)
    assert packed.shape == (tile + 4, 2, 3, 16)
    assert packed.dtype == np.float32
    matrix = transforms(tile, 5).weight
    for p, c, m in [(0, 0, 0), (tile + 3, 2, 20), (2, 1, 15), (3, 0, 16)]:
        expected = matrix[p] @ weight[m, c].astype(np.float64)
        np.testing.assert_allclose(packed[p, m // 16, c, m % 16], expected, rtol=1e-7, atol=0)
    assert not packed[:, 1, :, 5:].any()


def test_pack_refuses_other_shapes() -> None:
    with pytest.raises(
        ValueError, match=r"Expected \[out_channels, in_channels, kernel\], got shape \[4, 4\] - at pack"
    ):
        pack(np.zeros((4, 4), np.float32), 1)


@pytest.mark.skipif(not (ROOT / "ext").is_dir(), reason="the tests run against an installed package")
def test_the_tables_of_the_kernels_are_made_from_these() -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "make_winograd_tables.py"))
    assert (ROOT / "ext" / "kernels" / "winograd_tables.h").read_text() == script["tables"]()
