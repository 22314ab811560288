"""Bytes by what the CPU has, and what saturation would do."""

from __future__ import annotations

import pytest

from omni_sdk.tools.prepare.hardware import ByteProducts, byte_products
from omni_sdk.tools.prepare.quantize.scheme import FULL, SEVEN_BITS, SIGNED, UNSIGNED, candidates


@pytest.mark.parametrize(
    ("machine", "flags", "expected"),
    [
        ("x86_64", (), (SEVEN_BITS, UNSIGNED)),
        ("x86_64", ("avx_vnni",), (FULL,)),
        ("x86_64", ("avx512_vnni",), (FULL,)),
        ("aarch64", ("asimddp",), (SIGNED, FULL)),
        ("aarch64", (), (SIGNED, FULL)),
    ],
)
def test_candidates(machine, flags, expected):
    assert candidates(ByteProducts(flags, machine)) == expected


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        ("flags\t\t: fpu sse avx2 fma\n", ()),
        ("flags\t\t: fpu avx512_vnni avx_vnni\n\nflags\t\t: fpu avx512_vnni avx_vnni\n", ("avx512_vnni", "avx_vnni")),
        ("Features\t: fp asimd asimddp i8mm\n", ("asimddp", "i8mm")),
        ("model name\t: avx512_vnni lookalike\n", ()),
    ],
)
def test_flags_are_read(tmp_path, text, flags):
    (tmp_path / "cpuinfo").write_text(text)
    assert byte_products(tmp_path / "cpuinfo").flags == flags


def test_no_file_no_flags(tmp_path):
    assert byte_products(tmp_path / "absent").flags == ()
