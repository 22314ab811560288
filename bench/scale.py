"""Scaling out on this machine: what a second actor brings, what overload does, what HTTP costs the first samples.

    python bench/scale.py data [BUNDLE]         # 500 inputs of mixed length on one actor and on two
    python bench/scale.py overload [BUNDLE]     # four times the capacity for a minute
    python bench/scale.py audio BUNDLE          # first samples, over HTTP and in the process, in turns
    python bench/scale.py plan RTF CORES        # replicas and cost by arithmetic

Without BUNDLE a small reference model is made. Needs the extras `ray` and `export`.
"""

from __future__ import annotations

import http.client
import itertools
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil

import omni_sdk as omni
from omni_sdk.tools.export import code2wav, reference_checkpoint
from omni_sdk.tools.scale import InferBatches, local, plan
from omni_sdk.tools.synth import Synthesis, audio_of

INPUTS = 500
BATCH = 5
OVERLOAD = 4
SECONDS = 60
PORT = 8417
CLIENTS = 32
PAIRS = 15
FRAMES = 75
PRICE = 0.04
ONE_THREAD = omni.Settings(intra_op_num_threads=1)


class Timed(InferBatches):
    """Notes when each batch began and ended, where, and the CPU seconds it took."""

    def __call__(self, batch):
        began, before = time.time(), time.process_time()
        made = super().__call__(batch)
        noted = {"began": began, "ended": time.time(), "cpu": time.process_time() - before, "actor": os.getpid()}
        return {**made, **{name: np.full(len(made["id"]), value) for name, value in noted.items()}}


def small(folder: Path) -> Path:
    code2wav(reference_checkpoint(folder / "checkpoint", seed=0), folder / "voice")
    return folder / "voice"


def codes(frames: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng((seed, frames)).integers(0, 2048, (1, 16, frames))


def data(bundle: Path) -> None:
    """Throughput between the first batch's beginning and the last one's end: starting actors is not in it."""
    import ray

    lengths = np.random.default_rng(1).integers(4, 33, INPUTS)
    rows = [{"id": i, "audio_codes": codes(int(n), i)[0]} for i, n in enumerate(lengths)]
    speed, found = {}, []
    with local.cluster(2):
        ray.data.DataContext.get_current().enable_progress_bars = False
        for actors in (1, 2):
            dataset = ray.data.from_items(rows, override_num_blocks=50)
            beside = cpu_seconds()
            found = dataset.map_batches(
                Timed,
                fn_constructor_args=(str(bundle),),
                compute=ray.data.ActorPoolStrategy(size=actors),
                num_cpus=0.75,
                batch_size=BATCH,
            ).take_all()
            speed[actors] = (*rates(found), INPUTS / undisturbed(found, cpu_seconds() - beside))
            whole, best, alone = speed[actors]
            print(
                f"{actors} actor(s), inputs/s: {whole:.1f}; best fifth {best:.1f}; by CPU seconds {alone:.1f}",
                flush=True,
            )
    ratios = [two / one for one, two in zip(speed[1], speed[2], strict=True)]
    print("two actors against one: {:.2f} x; best fifth {:.2f} x; by CPU seconds {:.2f} x".format(*ratios))
    with omni.load(bundle, ONE_THREAD) as model:
        some = [row for row in found if row["id"] % 10 == 0]
        equal = sum(
            np.array_equal(
                row["waveform"], model.infer(audio_codes=codes(int(lengths[row["id"]]), row["id"]))["waveform"][0]
            )
            for row in some
        )
    count = len({row["id"] for row in found})
    print(f"rows: {count}; every tenth held against Model.infer: {equal} of {len(some)} equal, bit for bit")


def cpu_seconds() -> float:
    """Of this process and of what Ray runs beside its actors."""
    me = psutil.Process()
    kept = [p for p in me.children(recursive=True) if "MapWorker" not in "".join(p.cmdline()[:1])]
    return sum(p.cpu_times().user + p.cpu_times().system for p in (me, *kept))


def undisturbed(rows: list[dict[str, float]], beside: float) -> float:
    """Seconds that the run would take on two idle cores: its busiest actor's, or half of all CPU seconds.

    A batch's CPU seconds stand in each of its rows.
    """
    batches = {(row["actor"], row["began"]): row["cpu"] for row in rows}
    actors = Counter()
    for (actor, _), seconds in batches.items():
        actors[actor] += seconds
    return max(max(actors.values()), (sum(actors.values()) + beside) / 2)


def rates(rows: list[dict[str, float]]) -> tuple[float, float]:
    """Rows a second: of the whole run, and of its best fifth, which a busy machine disturbs least.

    Codes are counted, not rows, where a part is held against another: lengths differ.
    """
    began = min(row["began"] for row in rows)
    ordered = sorted(rows, key=lambda row: row["ended"])
    frames = np.array([row["waveform"].size for row in ordered], float)
    done = np.cumsum(frames) / frames.sum() * len(rows)
    ended = np.array([row["ended"] for row in ordered]) - began
    marks = [(0.0, 0.0), *((ended[i], done[i]) for i in range(len(rows) // 5 - 1, len(rows), len(rows) // 5))]
    parts = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in itertools.pairwise(marks)]
    return len(rows) / ended[-1], max(parts)


def ask(connection: http.client.HTTPConnection, path: str, body: bytes, length: int) -> tuple[int, float]:
    """Status and seconds of one request."""
    started = time.perf_counter()
    connection.request("POST", path, body, {"Inference-Header-Content-Length": str(length)})
    answer = connection.getresponse()
    answer.read()
    return answer.status, time.perf_counter() - started


def binary_body(array: np.ndarray) -> tuple[bytes, int]:
    tensor = {"name": "audio_codes", "datatype": "INT64", "shape": list(array.shape)}
    tensor["parameters"] = {"binary_data_size": array.nbytes}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    return head + array.tobytes(), len(head)


def resident() -> int:
    """Bytes of all of Ray's processes; what they share is counted for each."""
    total = 0
    for process in psutil.Process().children(recursive=True):
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def overload(bundle: Path) -> None:
    body, length = binary_body(codes(100))
    path = f"/v2/models/{bundle.name}/infer"
    with local.cluster(), local.server({"model": str(bundle), "warmup": {"audio_codes": [1, 16, 100]}}, port=PORT):
        alone = http.client.HTTPConnection("127.0.0.1", PORT)
        unloaded = [ask(alone, path, body, length)[1] for _ in range(60)][10:]
        base = statistics.median(unloaded)
        print(f"unloaded: median {base * 1e3:.0f} ms, p90 {quantile(unloaded, 0.9) * 1e3:.0f} ms", flush=True)
        answers, memory = flood(path, body, length, OVERLOAD / base)
    statuses = Counter(status for status, _ in answers)
    accepted = [seconds for status, seconds in answers if status == 200]
    print(f"{OVERLOAD} x capacity for {SECONDS} s: {len(answers)} answers, {dict(sorted(statuses.items()))}")
    for name, share in (("median", 0.5), ("p90", 0.9), ("p99", 0.99)):
        seconds = quantile(accepted, share)
        print(f"accepted, {name}: {seconds * 1e3:.0f} ms, {seconds / base:.2f} x the unloaded median")
    print(f"resident: {memory[0] >> 20} MiB before, {max(memory) >> 20} at most, {memory[-1] >> 20} after")


def flood(path: str, body: bytes, length: int, rate: float) -> tuple[list[tuple[int, float]], list[int]]:
    """Requests at a fixed rate, whatever becomes of them."""
    answers: list[tuple[int, float]] = []
    memory, begin, turn = [resident()], time.perf_counter(), iter(range(int(rate * SECONDS)))
    lock = threading.Lock()

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=60)
        while True:
            with lock:
                index = next(turn, None)
            if index is None:
                return
            time.sleep(max(0.0, begin + index / rate - time.perf_counter()))
            answers.append(ask(connection, path, body, length))

    threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        time.sleep(2)
        memory.append(resident())
    return answers, memory


def audio(bundle: Path) -> None:
    described, chosen = audio_of(bundle), codes(12)
    body, length = binary_body(chosen)
    with local.cluster(), local.server({"model": str(bundle), "warmup": {"audio_codes": [1, 16, 1]}}, port=PORT):
        connection = http.client.HTTPConnection("127.0.0.1", PORT)
        with omni.load(bundle, ONE_THREAD) as model:
            here, there = [], []
            for _ in range(PAIRS + 2):
                here.append(first_samples(lambda: next(iter(Synthesis(model, described, chosen)))))
                there.append(first_samples(lambda: first_chunk(connection, bundle.name, body, length)))
                connection.close()
            whole = [first_samples(lambda: whole_stream(bundle.name)) for _ in range(3)]
    inside, outside = statistics.median(here[2:]), statistics.median(there[2:])
    ratios = [b / a for a, b in zip(here[2:], there[2:], strict=True)]
    print(f"first samples: {inside * 1e3:.1f} ms in the process, {outside * 1e3:.1f} ms over HTTP;"
          f" median of {PAIRS} pairs {statistics.median(ratios):.2f} x")  # fmt: skip
    seconds = FRAMES * described.hop / described.sample_rate
    print(f"{FRAMES} frames over HTTP, one thread: RTF {statistics.median(whole) / seconds:.3f}")


def whole_stream(name: str) -> None:
    body, length = binary_body(codes(FRAMES))
    connection = http.client.HTTPConnection("127.0.0.1", PORT)
    assert ask(connection, f"/v2/models/{name}/audio", body, length)[0] == 200
    connection.close()


def first_samples(make: Callable[[], object]) -> float:
    started = time.perf_counter()
    make()
    return time.perf_counter() - started


def first_chunk(connection: http.client.HTTPConnection, name: str, body: bytes, length: int) -> None:
    header = {"Inference-Header-Content-Length": str(length)}
    connection.request("POST", f"/v2/models/{name}/audio?format=pcm", body, header)
    answer = connection.getresponse()
    assert answer.status == 200
    assert answer.read1()


def costs(rtf: float, cores: int) -> None:
    for streams in (1, 10, 1_000, 100_000):
        made = plan(streams, rtf, price_per_core_hour=PRICE, cores=cores)
        figures = f"{made.replicas:,} | {made.cores:,} | {made.cost_per_hour:,.2f} | {made.cost_per_audio_hour:.3f}"
        print(f"| {streams:,} | {figures} |")


def quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


if __name__ == "__main__":
    what, *rest = sys.argv[1:] or ["help"]
    if what == "plan" and len(rest) == 2:
        costs(float(rest[0]), int(rest[1]))
    elif what in ("data", "overload", "audio"):
        with tempfile.TemporaryDirectory() as temporary:
            bundle = Path(rest[0]) if rest else small(Path(temporary))
            {"data": data, "overload": overload, "audio": audio}[what](bundle)
    else:
        sys.exit(__doc__)
