"""What the processor has, and how much of it this process may use."""

from __future__ import annotations

import math
import os
import platform
from dataclasses import dataclass
from functools import cache

from omni_sdk import cgroup

# Instruction sets that matter to inference, in the kernel's names, and what they are good for.
USEFUL = {
    "avx2": "256-bit vectors",
    "fma": "fused multiply-add",
    "avx512f": "512-bit vectors",
    "avx_vnni": "INT8 dot products in 256-bit vectors",
    "avx512_vnni": "INT8 dot products in 512-bit vectors",
    "avx512_bf16": "bfloat16 dot products",
    "amx_int8": "INT8 tiles",
    "amx_bf16": "bfloat16 tiles",
    "asimd": "128-bit vectors (NEON)",
    "asimddp": "INT8 dot products (NEON)",
    "i8mm": "INT8 matrix products (NEON)",
    "bf16": "bfloat16 products (NEON)",
    "sve": "scalable vectors",
}


@dataclass(frozen=True, slots=True)
class Cpu:
    """The processor as the kernel describes it.

    Attributes
    ----------
    name : str
    flags : frozenset of str
        Instruction sets in the kernel's names.
    physical_cores : int
        Cores of the machine that this process's affinity touches, hyper-threads counted once.
    """

    name: str
    flags: frozenset[str]
    physical_cores: int

    @property
    def useful(self) -> tuple[str, ...]:
        """Those of the flags that make inference fast."""
        return tuple(flag for flag in USEFUL if flag in self.flags)

    @property
    def fast_int8(self) -> bool:
        """Whether INT8 products have an instruction of their own; without one INT8 gains little over FP32."""
        return not self.flags.isdisjoint({"avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "i8mm"})


def affinity() -> frozenset[int]:
    """The logical processors this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def quota() -> float | None:
    """Processors' worth of time that the control groups allow, or None when they set no bound."""
    bounds = [
        int(words[0]) / int(words[1])  # version 2: "quota period"
        for words in cgroup.values("cpu", "cpu.max", "cpu.cfs_quota_us")
        if len(words) == 2 and words[0] != "max"
    ]
    quotas = cgroup.values("cpu", "", "cpu.cfs_quota_us")
    periods = cgroup.values("cpu", "", "cpu.cfs_period_us")
    pairs = [(int(quota[0]), int(period[0])) for quota, period in zip(quotas, periods, strict=False)]
    bounds += [quota / period for quota, period in pairs if quota > 0]
    return min(bounds, default=None)


def usable_cores() -> int:
    """Physical cores this process may really use: affinity first, then the control groups' quota, at least one.

    A quota of 1.5 gives one thread: a second would be throttled in every period, and the first would wait for it.
    """
    cores = describe(affinity()).physical_cores
    allowed = quota()
    return cores if allowed is None else max(1, min(cores, math.floor(allowed)))


@cache
def describe(processors: frozenset[int] | None = None) -> Cpu:
    """The processor, seen through `processors` (logical numbers; default: this process's affinity)."""
    processors = affinity() if processors is None else processors
    try:
        blocks = (cgroup.PROC / "cpuinfo").read_text().strip().split("\n\n")
    except OSError:
        return Cpu(platform.processor() or platform.machine(), frozenset(), max(1, len(processors)))
    entries = [dict(_fields(block)) for block in blocks]
    merged = {key: value for entry in reversed(entries) for key, value in entry.items()}
    cores = {
        (entry.get("physical id", "0"), entry.get("core id", entry["processor"]))
        for entry in entries
        if entry.get("processor", "").isdigit() and int(entry["processor"]) in processors
    }
    return Cpu(
        name=merged.get("model name") or merged.get("Model") or platform.machine(),
        flags=frozenset((merged.get("flags") or merged.get("Features") or "").split()),
        physical_cores=max(1, len(cores)),
    )


def _fields(block: str) -> list[tuple[str, str]]:
    pairs = (line.partition(":") for line in block.splitlines())
    return [(key.strip(), value.strip()) for key, _, value in pairs]
