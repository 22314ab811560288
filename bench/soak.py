"""Soak: mixed models, shapes, threads, cancellations, streams and caches for N minutes, watched every second.

Usage: soak.py [--minutes 20] [--threads 4] [--seed 0] [--heap steady] [--out soak]

Writes `soak.json` (every sample) and `soak.png` (memory, descriptors, threads and latency over time) to the folder, and
prints the verdict. Exit status: 0 when no result was wrong and nothing grew, else 1. Latency is drawn, not judged: on a
machine that others use too it says more about them.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from soak_work import Held, Shift, Work, worker

# glibc's mallopt. Left alone, its limit for mapping a block on its own follows what is freed, and large inputs end up
# in the heaps of the threads that made them, which grow for hours by chance alone.
M_MMAP_THRESHOLD, M_ARENA_MAX, THRESHOLD_BYTES = -3, -8, 128 << 10
LEAST_MINUTES = 0.5  # for some samples in each quarter of the time
FLAT = 0.02  # how much of its memory a process may gain from the second quarter of the time to the last
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Sample:
    """The process at one second."""

    seconds: float
    rss_bytes: int
    buffer_bytes: int  # of that, the models' pools
    descriptors: int
    threads: int
    calls: int  # since the start
    median_ms: dict[str, float]  # of the calls since the last sample, by activity


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the soak says.

    Attributes
    ----------
    held : bool
        No error, nothing left in use, memory flat, no more descriptors or threads.
    memory_growth : float
        Median resident memory of the last quarter over that of the second quarter, less one.
    new_descriptors, new_threads : int
        Fewest in the last quarter less fewest in the second.
    """

    held: bool
    memory_growth: float
    new_descriptors: int
    new_threads: int
    errors: list[str]
    left_in_use: dict[str, int]


def judge(samples: Sequence[Sample], errors: list[str], left_in_use: dict[str, int]) -> Verdict:
    """Holds the last quarter of the time against the second; the first is for learning shapes and filling caches."""
    end = samples[-1].seconds
    early = [sample for sample in samples if end / 4 <= sample.seconds < end / 2]
    late = [sample for sample in samples if sample.seconds >= end * 3 / 4]
    grown = statistics.median(s.rss_bytes for s in late) / statistics.median(s.rss_bytes for s in early) - 1
    descriptors = min(s.descriptors for s in late) - min(s.descriptors for s in early)
    threads = min(s.threads for s in late) - min(s.threads for s in early)
    held = not errors and not left_in_use and grown <= FLAT and descriptors <= 0 and threads <= 0
    return Verdict(held, grown, descriptors, threads, errors, left_in_use)


def soak(folder: Path, minutes: float, threads: int, seed: int) -> tuple[list[Sample], Verdict, Counter[str]]:
    """Runs the workers and watches them."""
    work = Work(folder, seed)
    shift = Shift(time.monotonic() + 60 * minutes, deque(), [], threading.Barrier(threads))
    running = [threading.Thread(target=worker, args=(work, seed + number, shift, Held())) for number in range(threads)]
    for thread in running:
        thread.start()
    samples, calls = watch(work, shift)
    for thread in running:
        thread.join()
    return samples, judge(samples, shift.errors, work.close()), calls


def watch(work: Work, shift: Shift) -> tuple[list[Sample], Counter[str]]:
    """Samples of this process, one a second, and how many calls there were of each activity."""
    process, started = psutil.Process(), time.monotonic()
    samples: list[Sample] = []
    calls: Counter[str] = Counter()
    while (now := time.monotonic()) < shift.until:
        by_name = defaultdict(list)
        for _ in range(len(shift.done)):
            name, seconds = shift.done.popleft()
            by_name[name].append(1e3 * seconds)
        calls.update({name: len(values) for name, values in by_name.items()})
        medians = {name: round(statistics.median(values), 4) for name, values in by_name.items()}
        rss, descriptors, threads = process.memory_info().rss, process.num_fds(), process.num_threads()
        buffers = work.buffer_bytes()
        samples.append(Sample(now - started, rss, buffers, descriptors, threads, calls.total(), medians))
        time.sleep(min(1.0, max(0.0, shift.until - now)))
    return samples, calls


def draw(samples: Sequence[Sample], path: Path) -> None:
    """Memory, descriptors, threads and latency over time."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    minutes = [sample.seconds / 60 for sample in samples]
    figure, (memory, counts, latency) = pyplot.subplots(3, 1, sharex=True, figsize=(10, 9), layout="constrained")
    memory.plot(minutes, [sample.rss_bytes / MIB for sample in samples], label="resident")
    memory.plot(minutes, [sample.buffer_bytes / MIB for sample in samples], label="buffers of the models' pools")
    memory.set(ylabel="MiB", ylim=(0, None))
    memory.legend(loc="lower right")
    counts.plot(minutes, [sample.descriptors for sample in samples], label="file descriptors")
    counts.plot(minutes, [sample.threads for sample in samples], label="threads")
    counts.set(ylim=(0, None))
    counts.legend(loc="lower right")
    for name in sorted({name for sample in samples for name in sample.median_ms}):
        latency.plot(minutes, [sample.median_ms.get(name, float("nan")) for sample in samples], label=name, lw=0.7)
    latency.set(yscale="log", ylabel="median a second, ms", xlabel="minutes")
    latency.legend(ncols=4, fontsize="small")
    figure.savefig(path, dpi=110)


def steady_heap() -> None:
    """Has glibc map what is large and keep one heap, so that what grows is what leaks; other systems are left alone."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, THRESHOLD_BYTES)
        mallopt(M_ARENA_MAX, 1)


def at_least(kind: Callable[[str], float], least: float) -> Callable[[str], float]:
    """A reader of numbers for `argparse`, which are not below the least."""

    def read(text: str) -> float:
        number = kind(text)
        if not least <= number < float("inf"):
            raise argparse.ArgumentTypeError(f"Expected {least:g} or more, got {text}")
        return number

    return read


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=at_least(float, LEAST_MINUTES), default=20)
    parser.add_argument("--threads", type=at_least(int, 1), default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("soak"))
    parser.add_argument("--heap", choices=["steady", "default"], default="steady", help="how glibc's malloc is set")
    asked = parser.parse_args()
    if asked.heap == "steady":
        steady_heap()
    asked.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, Path(__file__).with_name("soak_models.py"), folder], check=True)
        samples, verdict, calls = soak(Path(folder), asked.minutes, asked.threads, asked.seed)
    told = {"verdict": asdict(verdict), "calls": dict(calls), "samples": [asdict(sample) for sample in samples]}
    (asked.out / "soak.json").write_text(json.dumps(told))
    draw(samples, asked.out / "soak.png")
    rss = [sample.rss_bytes / MIB for sample in samples]
    print(f"{calls.total():,} calls in {samples[-1].seconds / 60:.1f} minutes: {dict(calls)}")
    print(f"memory {min(rss):.1f} to {max(rss):.1f} MiB, {rss[-1]:.1f} at the end; growth {verdict.memory_growth:+.2%}")
    print(f"descriptors {verdict.new_descriptors:+d}, threads {verdict.new_threads:+d}, errors {verdict.errors}")
    print("held" if verdict.held else "NOT held", verdict.left_in_use or "")
    return 0 if verdict.held else 1


if __name__ == "__main__":
    sys.exit(main())
