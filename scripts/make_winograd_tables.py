"""Makes `ext/kernels/winograd_tables.h` from the transforms of `omni_sdk/tools/prepare/winograd.py`.

Run with ``python scripts/make_winograd_tables.py`` when the points change. A test compares the file with what this
gives.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from omni_sdk.tools.prepare.winograd import POINTS, TILES, exact_input, pairs  # noqa: E402

PATH = ROOT / "ext" / "kernels" / "winograd_tables.h"
HEAD = """\
/* Made by scripts/make_winograd_tables.py: the transforms of omni_sdk/tools/prepare/winograd.py, by number of points.
 * Rows are in the order of the points: a, -a of each pair, then zero where their number is even, then infinity. */
#ifndef OMNI_WINOGRAD_TABLES_H
#define OMNI_WINOGRAD_TABLES_H

/* Entries of the input transform that are not zero. A pair's second row has the same even and the negated odd ones. */
typedef struct WinogradInput {
    float even[7][8];
    float odd[7][8];
    float zero[8];     /* even entries */
    float infinity[8]; /* odd entries where the number of points is even, else even ones */
} WinogradInput;

"""
MIDDLE = """
/* Powers 0 to 5 of each pair's first point: the output transform. */
"""
TAIL = "\n#endif\n"


def tables() -> str:
    """The whole text of the header."""
    text = HEAD + f"static const WinogradInput winograd_input[{POINTS[-1] + 1}] = {{\n"
    for points in POINTS:
        rows, count, has_zero = exact_input(points), len(pairs(points)), points % 2 == 0
        text += f"    [{points}] = {{\n"
        text += _block("even", [row[::2] for row in rows[: 2 * count : 2]])
        text += _block("odd", [row[1::2] for row in rows[: 2 * count : 2]])
        if has_zero:
            text += f"        .zero = {_list(rows[-2][::2])},\n"
        text += f"        .infinity = {_list(rows[-1][int(has_zero) :: 2])},\n    }},\n"
    text += "};\n" + MIDDLE + f"static const float winograd_powers[{POINTS[-1] + 1}][7][{TILES[-1]}] = {{\n"
    for points in POINTS:
        text += _block(f"[{points}]", [[a**i for i in range(TILES[-1])] for a in pairs(points)], indent=4)
    return text + "};\n" + TAIL


def _block(name: str, rows: Iterable[list[Fraction]], indent: int = 8) -> str:
    space = " " * indent
    separator = f",\n{space}    "
    member = name if name.startswith("[") else f".{name}"
    return f"{space}{member} = {{{separator[1:]}{separator.join(map(_list, rows))}}},\n"


def _list(values: Iterable[Fraction]) -> str:
    return "{" + ", ".join(f"{np.float32(float(value)):.9e}F" for value in values) + "}"


def main() -> None:
    """Write the header."""
    PATH.write_text(tables())
    print(f"{PATH.relative_to(ROOT)}: {len(POINTS)} numbers of points")


if __name__ == "__main__":
    main()
