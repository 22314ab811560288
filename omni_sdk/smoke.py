"""`python -m omni_sdk.smoke`: does the SDK hold its promises on this device? No extras, no network, seconds."""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

import omni_sdk as omni
from omni_sdk import cpu, memory
from omni_sdk.session import kernels_library

MODEL = Path(__file__).with_name("smoke.onnx")
ALIGNMENT = 64
STEPS = 20


@dataclass(frozen=True, slots=True)
class Check:
    """One promise: whether it held, and what was seen."""

    name: str
    held: bool
    seen: str


def device() -> dict[str, Any]:
    """What the script ran on."""
    processor, ram = cpu.describe(), memory.device()
    quota = cpu.quota()
    return {
        "cpu": processor.name,
        "instructions": ", ".join(processor.useful) or "none that matter",
        "fast INT8": "yes" if processor.fast_int8 else "no: expect little from INT8 here",
        "cores": f"{cpu.usable_cores()} usable, {processor.physical_cores} physical, "
        + ("no quota" if quota is None else f"quota {quota:g}"),
        "memory": f"{memory.human(ram.available)} of {memory.human(ram.total)} available ({ram.limited_by})",
        "python": f"{platform.python_version()} on {platform.platform()}",
        "onnxruntime": f"{ort.__version__}, providers: {', '.join(ort.get_available_providers())}",
        "numpy": np.__version__,
    }


def checks() -> Iterator[Check]:
    """Runs the small model and holds each promise against what happens."""
    random = np.random.default_rng(0)
    x = random.standard_normal((STEPS, 64)).astype(np.float32)
    h = np.zeros((STEPS, 32), np.float32)
    with omni.load(MODEL, cache_dir=None) as model:
        report = model.warmup({"x": x.shape, "past.h": h.shape})
        yield Check("warm-up settles", len(report.seconds) > 1, f"{len(report.seconds)} passes: {report}")
        yield from _results(model, {"x": x, "past.h": h})
        yield _stream(model, x[:, None])
    yield _cache({"x": x, "past.h": h})
    yield _kernels()


def _results(model: omni.Model, feeds: dict[str, np.ndarray]) -> Iterator[Check]:
    expected = ort.InferenceSession(MODEL, providers=["CPUExecutionProvider"]).run(None, feeds)
    seconds = []
    for _ in range(200):
        started = time.perf_counter()
        results = model.infer(feeds)
        seconds.append(time.perf_counter() - started)
    equal = all(np.allclose(results[spec.name], want) for spec, want in zip(model.outputs, expected, strict=True))
    yield Check("results equal ONNX Runtime's own", equal, f"{sorted(seconds)[100] * 1e6:.0f} us a warm run")
    addresses = [array.ctypes.data for array in results.values()]
    aligned = all(address % ALIGNMENT == 0 for address in addresses)
    yield Check(f"results aligned to {ALIGNMENT} bytes", aligned, ", ".join(map(hex, addresses)))
    held, before = results, {name: array.copy() for name, array in results.items()}
    results = model.infer({name: -array for name, array in feeds.items()})
    untouched = all(np.array_equal(held[name], before[name]) for name in held)
    yield Check("a held result is never overwritten", untouched, "compared after another run")
    copied = model.stats().bytes_copied
    yield Check("zero copies", copied == 0, f"{copied} bytes copied in {model.stats().runs} runs")
    in_use = model.stats().bytes_in_use
    del results, held
    left = model.stats().bytes_in_use
    yield Check("leases returned", in_use > 0 and left == 0, f"{in_use} bytes in use, {left} once results were dropped")


def _stream(model: omni.Model, chunks: np.ndarray) -> Check:
    state = np.zeros((1, 32), np.float32)
    equal = True
    with model.stream() as stream:
        for chunk in chunks:
            want = model.infer({"x": chunk, "past.h": state})
            equal &= np.array_equal(stream.step(x=chunk)["y"], want["y"])
            state = want["present.h"]
    return Check("a stream equals state passed by hand", bool(equal), f"{len(chunks)} steps")


def _cache(feeds: dict[str, np.ndarray]) -> Check:
    with omni.load(MODEL, omni.Settings(cache_bytes=1 << 20), cache_dir=None) as model:
        first, second = model.infer(feeds), model.infer({name: array.copy() for name, array in feeds.items()})
        stats = model.stats()
        equal = all(np.array_equal(first[name], second[name]) for name in first)
        return Check("a cache hit", equal and stats.cache_hits == 1, f"{stats.cache_hits} of 2 calls")


def _kernels() -> Check:
    try:
        ort.SessionOptions().register_custom_ops_library(str(kernels_library()))
    except Exception as error:
        return Check("the operators load", False, str(error))
    return Check("the operators load", True, kernels_library().name)


def _attempt(run: Callable[[], Iterator[Check]]) -> list[Check]:
    done: list[Check] = []
    try:
        done.extend(run())
    except Exception as error:  # a smoke script reports, whatever happens
        done.append(Check("no exception", False, f"{type(error).__name__}: {error}"))
    return done


def main(arguments: list[str] | None = None) -> int:
    """Prints what was found; 0 when every promise held, else 1."""
    parser = argparse.ArgumentParser(prog="python -m omni_sdk.smoke", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    wants_json = parser.parse_args(arguments).json
    found, facts = _attempt(checks), device()
    held = all(check.held for check in found)
    if wants_json:
        print(json.dumps({"ok": held, "device": facts, "checks": [asdict(check) for check in found]}, indent=2))
        return 0 if held else 1
    for name, value in facts.items():
        print(f"{name:>14}  {value}")
    print()
    for check in found:
        print(f"{'ok' if check.held else 'FAILED':>8}  {check.name}: {check.seen}")
    print("\nevery promise held" if held else "\nnot every promise held")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
