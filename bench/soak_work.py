"""What the soak does over and over: each activity makes one kind of call and checks its result."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import omni_sdk as omni

SIZES = (1, 17, 480, 4_000, 40_000, 700_000)
FRAMES = 24
STREAM_TOLERANCE = 1e-4  # one-shot against streamed, float32: other sizes of the same products
TIMEOUT = 0.02
ROUNDS = 12  # of each activity, by all threads at once, before the soak proper
Held = dict[int, tuple[np.ndarray, float]]


class Work:
    """The models under soak, and one method an activity.

    Every method takes the thread's own random source and its held results, and raises AssertionError on a wrong one.

    Parameters
    ----------
    folder : pathlib.Path
        What `soak_models.py` wrote; compile caches go there too.
    seed : int
    """

    def __init__(self, folder: Path, seed: int) -> None:
        one = omni.Settings(intra_op_num_threads=1)
        cached = one.replace(cache_bytes=4 << 20)
        self._folder, self._settings = folder, one
        self.cache_dir = folder / "compiled"
        load = {"cache_dir": self.cache_dir}
        self.sums = omni.load(folder / "sums.onnx", one, **load)
        self.cached = omni.load(folder / "sums.onnx", cached, **load)
        self.smooth = omni.load(folder / "smooth.onnx", one, **load)
        self.nonzero = omni.load(folder / "nonzero.onnx", one, **load)
        self.long = omni.load(folder / "long.onnx", one, **load)
        self.code2wav = omni.load(folder / "code2wav", one, **load)
        self.host = omni.Host("256MiB", settings=one, shared_threads=False, **load)
        for name in ("sums", "smooth", "code2wav"):
            self.host.add(name, folder / (name if name == "code2wav" else f"{name}.onnx"))
        rng = np.random.default_rng(seed)
        self.codes = rng.integers(0, 16, (1, 4, FRAMES))
        self.waveform = self.code2wav.infer(audio_codes=self.codes)["waveform"]
        self.activities: dict[str, Callable[[random.Random, Held], None]] = {
            "infer": self.infer,
            "cache": self.cache,
            "own arrays": self.own_arrays,
            "data-dependent": self.data_dependent,
            "stream": self.stream,
            "broken stream": self.broken_stream,
            "window": self.window,
            "deadline": self.deadline,
            "cancelled": self.cancelled,
            "bad input": self.bad_input,
            "load": self.load,
            "host": self.from_host,
        }

    def infer(self, rng: random.Random, held: Held) -> None:
        """Random sizes; one result of each is held until the next of that size, and must still be what it was."""
        size, value = rng.choice(SIZES), float(rng.randrange(1000))
        a, b = np.full(size, value, np.float32), np.ones(size, np.float32)
        result = self.sums.infer(a=a, b=b)["total"]
        array, expected = held.get(size, (result, value + 1))
        assert (array == expected).all(), "a held result was written over"
        held[size] = result, value + 1

    def cache(self, rng: random.Random, held: Held) -> None:
        """One of twelve inputs: hits, misses and evictions."""
        value = rng.randrange(12)
        a = np.full(60_000, value, np.float32)
        results = self.cached.infer(a=a, b=a)
        assert (results["total"] == 2 * value).all() and not results["gap"].any()

    def own_arrays(self, rng: random.Random, held: Held) -> None:
        """Inputs filled in place, an output of the caller's."""
        size = rng.choice(SIZES[:4])
        with self.smooth.input_buffers(x=(2, size)) as buffers:
            buffers["x"][:] = 0.5
            out = np.empty((2, size), np.float32)
            self.smooth.infer(buffers, out={"y": out})
        np.testing.assert_allclose(out, np.tanh(0.5), rtol=1e-6)

    def data_dependent(self, rng: random.Random, held: Held) -> None:
        """An output whose shape only the data knows."""
        x = np.zeros(1000, np.int64)
        x[rng.sample(range(1000), rng.randrange(40))] = 1
        assert (self.nonzero.infer(x=x)["y"] == np.flatnonzero(x)).all()

    def stream(self, rng: random.Random, held: Held) -> None:
        """Chunks of random length; the whole equals the one-shot waveform."""
        pieces, at = [], 0
        with self.code2wav.stream() as stream:
            while at < FRAMES:
                count = min(rng.randrange(1, 7), FRAMES - at)
                chunk = np.ascontiguousarray(self.codes[:, :, at : at + count])
                pieces.append(stream.step(audio_codes=chunk)["waveform"])
                at += count
        np.testing.assert_allclose(np.concatenate(pieces, axis=-1), self.waveform, atol=STREAM_TOLERANCE)

    def broken_stream(self, rng: random.Random, held: Held) -> None:
        """An input that does not fit in the middle, then a stream that nobody closes."""
        stream = self.code2wav.stream()
        stream.step(audio_codes=np.ascontiguousarray(self.codes[:, :, :2]))
        try:
            stream.step(audio_codes=np.zeros((1, 3, 2), np.int64))
        except omni.InputError:
            return
        raise AssertionError("a chunk that does not fit was taken")

    def window(self, rng: random.Random, held: Held) -> None:
        """Overlapping windows over a model without state."""
        x = np.linspace(-1, 1, 3000, dtype=np.float32)[None]
        with self.smooth.stream(window=omni.Window(left=16, right=4)) as stream:
            pieces = [result["y"] for result in stream.run({"x": chunk} for chunk in np.split(x, 10, axis=-1))]
            rest = stream.flush()
        pieces += [] if rest is None else [rest["y"]]
        np.testing.assert_allclose(np.concatenate(pieces, axis=-1), np.tanh(x), rtol=1e-5, atol=1e-6)

    def deadline(self, rng: random.Random, held: Held) -> None:
        """A run that would take hours."""
        try:
            self.long.infer(x=np.ones(8, np.float32), n=np.array(1 << 40), timeout=TIMEOUT)
        except TimeoutError:
            return
        raise AssertionError("a run outlived its deadline")

    def cancelled(self, rng: random.Random, held: Held) -> None:
        """The same, awaited by somebody who leaves."""

        async def leave() -> bool:
            work = asyncio.create_task(self.long.infer_async(x=np.ones(8, np.float32), n=np.array(1 << 40)))
            await asyncio.sleep(TIMEOUT * rng.random())
            work.cancel()
            return isinstance((await asyncio.gather(work, return_exceptions=True))[0], asyncio.CancelledError)

        assert asyncio.run(leave()), "a cancelled run gave a result"

    def bad_input(self, rng: random.Random, held: Held) -> None:
        """A missing input and a wrong dtype."""
        for feeds in ({"a": np.ones(3, np.float32)}, {"a": np.ones(3), "b": np.ones(3, np.float32)}):
            try:
                self.sums.infer(feeds)
            except omni.InputError:
                continue
            raise AssertionError("an input that does not fit was taken")

    def load(self, rng: random.Random, held: Held) -> None:
        """Loads by way of the compile cache, runs once, closes."""
        with omni.load(self._folder / "sums.onnx", self._settings, cache_dir=self.cache_dir) as model:
            assert model.infer(a=np.ones(3, np.float32), b=np.ones(3, np.float32))["total"].tolist() == [2, 2, 2]

    def from_host(self, rng: random.Random, held: Held) -> None:
        """One of three models that do not fit the budget together."""
        with self.host.using(rng.choice(("sums", "smooth", "code2wav"))) as model:
            name = model.inputs[0].name
            if name == "audio_codes":
                model.infer(audio_codes=self.codes)
            elif name == "x":
                model.infer(x=np.ones((1, 64), np.float32))
            else:
                model.infer(a=np.ones(64, np.float32), b=np.ones(64, np.float32))

    def buffer_bytes(self) -> int:
        """Memory of all pools, in use and idle."""
        every = (self.sums, self.cached, self.smooth, self.nonzero, self.long, self.code2wav)
        return sum(stats.bytes_in_use + stats.bytes_idle for stats in (model.stats() for model in every))

    def close(self) -> dict[str, int]:
        """Closes everything; bytes that a model still has in use, by model, which is none when nothing leaks."""
        models = {name: getattr(self, name) for name in ("sums", "smooth", "nonzero", "long", "code2wav")}
        left = {name: model.stats().bytes_in_use for name, model in models.items()}
        for model in (*models.values(), self.cached):
            model.close()
        self.host.close()
        return {name: count for name, count in left.items() if count}


@dataclass(frozen=True, slots=True)
class Shift:
    """What all threads of a soak share.

    Attributes
    ----------
    until : float
        `time.monotonic()` at which they stop.
    done : deque
        Name and seconds of each call.
    errors : list of str
        The first wrong result of each thread.
    together : threading.Barrier
    """

    until: float
    done: deque[tuple[str, float]]
    errors: list[str]
    together: threading.Barrier


def worker(work: Work, seed: int, shift: Shift, held: Held) -> None:
    """Activities in random order until the time is up; the first wrong result ends the thread.

    Before that each activity, by all threads at once and at the same sizes: what they need at most at one moment is
    needed right away, and not by a rare coincidence after hours, which would look like growth.
    """
    own, same = random.Random(seed), random.Random(0)
    names = list(work.activities)
    try:
        results = [work.sums.infer(a=ones, b=ones) for size in SIZES for ones in [np.ones(size, np.float32)] * 3]
        shift.together.wait()  # all of them at once: more than any later moment needs
        del results
        for name in names * ROUNDS:
            shift.together.wait()
            _call(work, name, same, shift, held)
        while time.monotonic() < shift.until:
            _call(work, own.choice(names), own, shift, held)
    except threading.BrokenBarrierError:
        return
    except Exception as error:
        shift.errors.append(f"{type(error).__name__}: {error}")
        shift.together.abort()


def _call(work: Work, name: str, rng: random.Random, shift: Shift, held: Held) -> None:
    started = time.perf_counter()
    work.activities[name](rng, held)
    shift.done.append((name, time.perf_counter() - started))
