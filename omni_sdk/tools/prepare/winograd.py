"""Winograd (Toom-Cook) transforms of one-dimensional convolutions, and weights as `omni::Conv1d` takes them.

`tile` outputs of a convolution with `kernel` taps are ``A^T ((G w) * (B^T d))`` for ``tile + kernel - 1`` inputs `d`
(Winograd, *Arithmetic Complexity of Computations*, 1980). One product for each point at which the polynomials are
evaluated replaces ``tile * kernel`` of them. All matrices are derived here from their points, in exact rationals:

- ``A^T[i, p] = a_p ** i``, and 1 in the last row of the point at infinity;
- row `p` of ``B^T`` has the coefficients of ``N(x) / (x - a_p)``, that of infinity those of ``N(x) = prod (x - a_p)``;
- ``G[p, j] = a_p ** j / prod_{q != p} (a_p - a_q)``, and 1 in the last column of infinity.

Rows of ``B^T`` are scaled to a largest entry of 1, the scale moved into ``G``, which meets the weights in float64.

Points stand in pairs ``a, -a``, so that the two rows of a pair share their even and their odd entries but for a sign:
half the work of both transforms. Zero is a point where their number is even; infinity always is, and stands last.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

TILES = (1, 2, 4, 6)
"""Outputs of one tile; 1 is direct convolution."""

KERNELS = range(1, 12)
"""Taps that `omni::Conv1d` takes; tiles above 1 need at least 2."""

POINTS = range(3, 17)
"""Points that tiles of 2, 4 and 6 with 2 to 11 taps need."""

PANEL = 16
"""Output channels that lie side by side in packed weights."""

_PAIRS = {
    3: "1",
    4: "1",
    5: "5/4 2/5",
    6: "3/2 2/3",
    7: "1/4 7/4 7/8",
    8: "1 1/2 2",
    9: "2 2/3 1/4 8/7",
    10: "5/4 4/5 5/2 2/5",
    11: "4/3 1/4 8/3 4/7 7/8",
    12: "1 3/2 2/3 3/8 8/3",
    13: "1/5 1/2 3/4 8/7 8/5 3",
    14: "1/3 3/5 7/8 8/7 5/3 3",
    15: "1/5 3/7 2/3 1 5/4 7/4 7/2",
    16: "2/7 1/2 4/5 1 5/4 2 7/2",
}
"""For each number of points, the positive halves of its pairs: of small fractions those with the least error, which is
what `amplification` says and measuring confirmed."""

Array = NDArray[Any]
Rows = list[list[Fraction]]


@dataclass(frozen=True, slots=True)
class Transforms:
    """The matrices of one tile and kernel, float64; `points` = tile + kernel - 1.

    Attributes
    ----------
    input : ``B^T``, shape [points, points]
    weight : ``G``, shape [points, kernel]
    output : ``A^T``, shape [tile, points]
    """

    input: Array
    weight: Array
    output: Array


def pairs(points: int) -> tuple[Fraction, ...]:
    """The positive half of each pair of points, in the order of the transforms' rows: ``a, -a`` for each of them."""
    return tuple(Fraction(text) for text in _PAIRS[points].split())


def exact_input(points: int) -> Rows:
    """``B^T`` as rationals, its rows scaled; where `points` is odd a pair's second row is negated (``G`` makes up)."""
    return [[value * scale for value in row] for row, scale in _scaled_rows(points)]


def exact_weight(tile: int, kernel: int) -> Rows:
    """``G`` as rationals, each row times what the same row of ``B^T`` was divided by."""
    finite, rows = _finite(tile + kernel - 1), []
    scales = [scale for _, scale in _scaled_rows(tile + kernel - 1)]
    for a, scale in zip(finite, scales, strict=False):
        divisor = scale * _product(a - other for other in finite if other != a)
        rows.append([a**j / divisor for j in range(kernel)])
    return [*rows, [Fraction(0)] * (kernel - 1) + [1 / scales[-1]]]


def exact_output(tile: int, points: int) -> Rows:
    """``A^T`` as rationals."""
    return [[*(a**i for a in _finite(points)), Fraction(int(i == tile - 1))] for i in range(tile)]


def transforms(tile: int, kernel: int) -> Transforms:
    """The matrices of ``F(tile, kernel)`` in float64.

    Parameters
    ----------
    tile : one of `TILES`; 1 gives the identity, which makes `pack` lay out the weights of a direct convolution
    kernel : number of taps, one of `KERNELS`, at least 2 where `tile` is above 1

    Raises
    ------
    ValueError : for any other tile or kernel
    """
    if tile not in TILES or kernel not in KERNELS or (tile > 1 and kernel < 2):
        raise ValueError(
            f"Expected a tile of 1 with 1 to 11 taps, or of 2, 4 or 6 with 2 to 11, got tile {tile} with {kernel} taps"
            " - at transforms"
        )
    if tile == 1:
        return Transforms(np.eye(kernel), np.eye(kernel), np.ones((1, kernel)))
    points = tile + kernel - 1
    return Transforms(
        *(
            np.array([[float(value) for value in row] for row in rows])
            for rows in (exact_input(points), exact_weight(tile, kernel), exact_output(tile, points))
        )
    )


def amplification(tile: int, kernel: int) -> float:
    """Variance of the outputs' rounding errors against that of a direct convolution with one sum, under independent
    rounding of every product and operands of unit variance."""
    made = transforms(tile, kernel)
    products = (made.weight**2).sum(1) * (made.input**2).sum(1)
    return float((made.output**2 @ products).mean() / kernel)


def pack(weight: Array, tile: int) -> NDArray[np.float32]:
    """Weights of a convolution as the input `W` of `omni::Conv1d` holds them.

    Parameters
    ----------
    weight : shape [out_channels, in_channels, kernel], as ONNX `Conv` has it with one group
    tile : one of `TILES`

    Returns
    -------
    float32 array of shape [tile + kernel - 1, ceil(out_channels / 16), in_channels, 16]: transformed in float64,
    rounded once, output channels in panels of 16, the last filled up with zeros

    Raises
    ------
    ValueError : where `weight` has not three axes, or as `transforms`
    """
    if weight.ndim != 3:
        raise ValueError(f"Expected [out_channels, in_channels, kernel], got shape {list(weight.shape)} - at pack")
    out_channels, in_channels, kernel = weight.shape
    matrix = transforms(tile, kernel).weight
    panels = -(-out_channels // PANEL)
    packed = np.zeros((len(matrix), panels, in_channels, PANEL), np.float32)
    for panel in range(panels):
        part = weight[panel * PANEL : (panel + 1) * PANEL].astype(np.float64)
        packed[:, panel, :, : len(part)] = np.einsum("pj,mcj->pcm", matrix, part)
    return packed


def _finite(points: int) -> list[Fraction]:
    signed = [sign * a for a in pairs(points) for sign in (1, -1)]
    return signed if points % 2 else [*signed, Fraction(0)]


def _product(factors: Any) -> Fraction:
    product = Fraction(1)
    for factor in factors:
        product *= factor
    return product


def _polynomial(roots: list[Fraction]) -> list[Fraction]:
    """Coefficients of ``prod (x - root)``, lowest degree first."""
    coefficients = [Fraction(1)]
    for root in roots:
        shifted = [Fraction(0), *coefficients]
        coefficients = [high - root * low for high, low in zip(shifted, [*coefficients, Fraction(0)], strict=True)]
    return coefficients


def _scaled_rows(points: int) -> list[tuple[list[Fraction], Fraction]]:
    """Each row of ``B^T`` before scaling, and what scales it."""
    finite = _finite(points)
    rows = [[*_polynomial([other for other in finite if other != a]), Fraction(0)] for a in finite]
    rows.append(_polynomial(finite))
    signs = [-1 if points % 2 and a < 0 else 1 for a in finite] + [1]
    return [(row, sign / max(abs(value) for value in row)) for row, sign in zip(rows, signs, strict=True)]
