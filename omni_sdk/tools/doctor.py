"""What holds this device back, in plain words, with the remedy."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import onnxruntime as ort
import psutil

from omni_sdk import cpu, installed, memory
from omni_sdk.settings import Settings
from omni_sdk.settings_check import Finding
from omni_sdk.tools import isa
from omni_sdk.tools.inspect import Inspection, inspect

OLDEST_ORT = (1, 23)
LITTLE_MEMORY = 2 << 30
MUCH_SWAPPED = 64 << 20

QUANTIZED = {"QLinearConv", "QLinearMatMul", "QuantizeLinear", "DequantizeLinear", "MatMulInteger", "ConvInteger"}


@dataclass(frozen=True, slots=True)
class Places:
    """Where the system tells of itself; a test points them elsewhere."""

    sys: Path = Path("/sys")
    proc: Path = Path("/proc")
    root: Path = Path("/")


def examine(
    model: str | os.PathLike[str] | None = None, settings: Settings | None = None, *, places: Places | None = None
) -> list[Finding]:
    """Look at the device, at the installed ONNX Runtime, and at a model and settings where given.

    Parameters
    ----------
    model : path, optional
        A `.onnx` file or a bundle. A `.ort` file will do; what cannot be read of it is one of the findings.
    settings : Settings, optional
        Default `balanced`.
    places : Places, optional
        Where to read from.

    Returns
    -------
    list of Finding
        Errors first, then warnings, then remarks. What is in order is not listed.

    Raises
    ------
    ModelError, BundleError
        When the model cannot be read.
    """
    chosen, where = settings or Settings(), places or Places()
    checks: list[Callable[[], Iterator[Finding]]] = [
        lambda: _quota(chosen),
        lambda: _governor(where),
        lambda: _huge_pages(where),
        _memory,
        _swap,
        _instructions,
        _runtime,
        _distributions,
        lambda: _spinning(chosen, where),
        lambda: iter(chosen.check(None if model is None else os.fspath(model))),
    ]
    if model is not None and Path(model).suffix == ".ort":
        checks.append(_unreadable)
    elif model is not None:
        inspection = inspect(model)
        checks += [lambda: iter(inspection.findings), lambda: _quantization(inspection), lambda: _fits(inspection)]
    found = [finding for check in checks for finding in check()]
    return sorted(dict.fromkeys(found), key=lambda finding: ("error", "warning", "info").index(finding.level))


def _unreadable() -> Iterator[Finding]:
    yield Finding(
        "info",
        "model",
        "in ORT's own format: its operators, weights and quantization cannot be read, so nothing is said of them",
        "give the .onnx that it was made from",
    )


def _quota(settings: Settings) -> Iterator[Finding]:
    quota, here = cpu.quota(), cpu.describe(cpu.affinity())
    if quota is not None and quota < here.physical_cores:
        yield Finding(
            "info" if settings.intra_op_num_threads == "auto" else "warning",
            "cpu quota",
            f"a control group allows {quota:g} of {here.physical_cores} cores; ONNX Runtime by itself would not notice",
            "leave intra_op_num_threads at 'auto', or raise the quota",
        )
    if quota is not None and settings.intra_threads > max(1.0, quota):
        yield Finding(
            "warning",
            "cpu quota",
            f"{settings.intra_threads} threads on a quota of {quota:g} processors are stopped in every period",
            f"set intra_op_num_threads to {max(1, int(quota))} or 'auto'",
        )


def _governor(places: Places) -> Iterator[Finding]:
    slow = set()
    for path in places.sys.glob("devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor"):
        governor = _text(path)
        if governor in ("powersave", "ondemand", "conservative") and not _scales_itself(path.parent):
            slow.add(governor)
    if slow:
        yield Finding(
            "warning",
            "frequency governor",
            f"{', '.join(sorted(slow))} lets the clock sag between inferences",
            "cpupower frequency-set -g performance (or schedutil), where the battery allows",
        )


def _scales_itself(folder: Path) -> bool:
    """Whether the hardware chooses the clock: there `powersave` is the normal mode."""
    return _text(folder / "scaling_driver") in ("intel_pstate", "amd-pstate-epp")


def _distributions() -> Iterator[Finding]:
    found = installed.runtimes()
    if len(found) > 1:
        yield Finding(
            "error",
            "onnxruntime",
            f"{' and '.join(found)} are installed at once: they bring the same files, and one overwrote the others'",
            f"pip uninstall {' '.join(found)}, then install the one that is wanted",
        )


def _huge_pages(places: Places) -> Iterator[Finding]:
    text = _text(places.sys / "kernel/mm/transparent_hugepage/enabled")
    if "[never]" in text:
        yield Finding(
            "info",
            "huge pages",
            "transparent huge pages are off: large weights cost more address translation",
            "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
        )


def _memory() -> Iterator[Finding]:
    device = memory.device()
    if device.available < LITTLE_MEMORY:
        yield Finding(
            "warning",
            "memory",
            f"only {memory.human(device.available)} of {memory.human(device.total)} are free ({device.limited_by})",
            "close other programs, raise the limit, or set memory_limit",
        )


def _swap() -> Iterator[Finding]:
    swap = psutil.swap_memory()
    if swap.used > MUCH_SWAPPED:
        yield Finding(
            "warning",
            "swap",
            f"{memory.human(swap.used)} are swapped out: a swapped weight costs a disk read in the middle of a run",
            "free memory; for devices that must answer in time, swapoff",
        )


def _instructions() -> Iterator[Finding]:
    here = cpu.describe(cpu.affinity())
    if here.flags and not here.fast_int8:
        arm = "asimd" in here.flags
        wanted = "asimddp or i8mm" if arm else "AVX-VNNI, AVX-512-VNNI or AMX"
        yield Finding(
            "info",
            "instructions",
            f"{here.name} has no {wanted}: INT8 products take several steps each, and gain little over FP32",
            "measure INT8 against FP32 on this device before choosing it: omni-sdk bench FP32 --against INT8",
        )
    if here.flags and not here.flags & {"avx2", "asimd"}:
        message = f"{here.name} has neither AVX2 nor NEON: ONNX Runtime falls back to 128-bit kernels"
        yield Finding("warning", "instructions", message)


def _runtime() -> Iterator[Finding]:
    version = tuple(int(part) for part in re.findall(r"\d+", ort.__version__)[:2])
    if version < OLDEST_ORT:
        message = f"{ort.__version__} is older than what this package is tested with"
        yield Finding("warning", "onnxruntime", message, "pip install -U onnxruntime")
    folder = Path(ort.__file__).parent / "capi"
    libraries = [path for path in folder.glob("*onnxruntime*") if path.is_file() and path.stat().st_size]
    if not libraries:
        yield Finding("warning", "onnxruntime", "its library cannot be read, so ignored options go unnoticed")
        return
    built = frozenset().union(*(isa.kernels(library, platform.machine()) for library in libraries))
    here = cpu.describe(cpu.affinity()).flags
    for name in sorted(here & isa.KNOWN - built):
        yield Finding(
            "warning",
            "onnxruntime",
            f"this build holds no {name} code, though the processor could run it: INT8 is slower than need be",
            "install the official wheel of onnxruntime, or build it with a newer compiler",
        )


def _spinning(settings: Settings, places: Places) -> Iterator[Finding]:
    if settings.allow_spinning and settings.intra_threads > 1 and _in_container(places):
        yield Finding(
            "warning",
            "allow_spinning",
            "threads that spin in a container burn its quota while they wait",
            "set allow_spinning=False",
        )


def _in_container(places: Places) -> bool:
    if any((places.root / name).exists() for name in (".dockerenv", "run/.containerenv")):
        return True
    return bool(re.search(r"docker|kubepods|containerd|lxc", _text(places.proc / "1/cgroup")))


def _quantization(model: Inspection) -> Iterator[Finding]:
    counted = {name: count for name, count in model.operators.items() if name in QUANTIZED}
    if counted and not cpu.describe(cpu.affinity()).fast_int8:
        yield Finding(
            "warning",
            "quantization",
            "the model is INT8 and this processor has no INT8 dot products: it may be slower here than in FP32",
            "measure it against the FP32 model: omni-sdk bench FP32 --against INT8",
        )


def _fits(model: Inspection) -> Iterator[Finding]:
    size, free = sum(model.parameter_bytes.values()), memory.device().available
    if size > free:
        yield Finding(
            "error",
            "memory",
            f"the weights are {memory.human(size)}, and {memory.human(free)} are free",
            "quantize the model, or close other programs",
        )


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
