"""What this CPU has for products of bytes, read from the kernel's flags."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
DOT_PRODUCT_FLAGS = frozenset(("avx512_vnni", "avx_vnni", "avx_vnni_int8", "amx_int8", "asimddp", "i8mm"))
"""Instructions that sum products of bytes in 32 bits, so that nothing saturates on the way."""


@dataclass(frozen=True, slots=True)
class ByteProducts:
    """How this CPU multiplies bytes.

    Parameters
    ----------
    flags : tuple of str
        The CPU's instructions for it, of `DOT_PRODUCT_FLAGS`.
    machine : str
        Architecture.
    """

    flags: tuple[str, ...]
    machine: str

    @property
    def saturates(self) -> bool:
        """Whether uint8 x int8 kernels sum pairs of products in 16 bits, where 8-bit weights overflow.

        x86 without VNNI has `vpmaddubsw` for it: 255 * 127 * 2 is more than 32,767. With weights of 7 bits it fits.
        """
        return not self.flags and self.machine in ("x86_64", "AMD64", "i686")


def byte_products(cpuinfo: Path = CPUINFO) -> ByteProducts:
    """Read the flags; none where the system has no such file."""
    try:
        text = cpuinfo.read_text()
    except OSError:
        text = ""
    words = {
        word
        for line in text.splitlines()
        if line.lower().startswith(("flags", "features"))
        for word in line.partition(":")[2].split()
    }
    return ByteProducts(tuple(sorted(words & DOT_PRODUCT_FLAGS)), platform.machine())
