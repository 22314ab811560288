"""Which instruction sets a library's machine code really uses.

ONNX Runtime picks its kernels at run time, and a build whose compiler was too old simply lacks the newer ones, without
a word. The instructions themselves are the only witness: their encodings are searched for in the library. Chance
makes a match or two in 30 MB of other bytes, a kernel makes dozens.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

ENOUGH = 16
"""Matches from which on it is no chance."""

# Intel SDM volume 2. VPDPBUSD: EVEX.66.0F38.W0 50 /r and VEX.66.0F38.W0 50 /r; TDPBUSD and its kin:
# VEX.128.0F38.W0 5E with registers.
_VVVV_66 = rb"[\x05\x0d\x15\x1d\x25\x2d\x35\x3d\x45\x4d\x55\x5d\x65\x6d\x75\x7d]"
_EVEX_MAP2 = rb"\x62[\x02\x12\x22\x32\x42\x52\x62\x72\x82\x92\xa2\xb2\xc2\xd2\xe2\xf2]"
X86: Mapping[str, re.Pattern[bytes]] = {
    "avx512_vnni": re.compile(_EVEX_MAP2 + _VVVV_66 + rb"[\x40-\x5f\xc0-\xdf]\x50"),
    "avx_vnni": re.compile(rb"\xc4[\x42\x62\xc2\xe2]" + _VVVV_66 + rb"\x50[\xc0-\xff]"),
    "amx_int8": re.compile(rb"\xc4\xe2[\x40-\x7b]\x5e[\xc0-\xff]"),
}

# Arm ARM C7.2: SDOT and UDOT by vector, SMMLA and UMMLA; mask and values.
ARM_MASK = 0xFFE0FC00
ARM: Mapping[str, tuple[int, ...]] = {"asimddp": (0x4E809400, 0x6E809400), "i8mm": (0x4E80A400, 0x6E80A400)}


def counts(library: Path, machine: str) -> dict[str, int]:
    """How often each instruction set's INT8 products occur in a library.

    Parameters
    ----------
    library : Path
        A shared library.
    machine : str
        As `platform.machine` has it.

    Returns
    -------
    dict of str to int
        By the kernel's names of the sets; empty for other machines.

    Raises
    ------
    OSError
        When it cannot be read.
    """
    with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        if machine.lower() in ("x86_64", "amd64"):
            return {name: sum(1 for _ in pattern.finditer(view)) for name, pattern in X86.items()}
        if machine.lower() in ("aarch64", "arm64"):
            words = np.frombuffer(view[: len(view) // 4 * 4], dtype="<u4")
            masked = words & np.uint32(ARM_MASK)
            return {name: int(np.isin(masked, values).sum()) for name, values in ARM.items()}
    return {}


def kernels(library: Path, machine: str) -> frozenset[str]:
    """The instruction sets that a library surely uses, of those that `counts` knows."""
    return frozenset(name for name, count in counts(library, machine).items() if count >= ENOUGH)


KNOWN = frozenset(X86) | frozenset(ARM)
"""Every instruction set that `kernels` looks for."""
