"""One contender in a process of its own: `python -m omni_sdk.tools.measure.worker`.

The job comes as JSON on standard input; what was measured goes out as one JSON object a line, as soon as it is known,
so that a process that dies leaves what it had measured, and the parent knows what it was at. What libraries print
goes to standard error.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import textwrap
import time
from collections.abc import Callable, Mapping
from typing import Any, TextIO

MOST_PACED = 20
PAUSE_SECONDS = 0.03
"""Between paced inferences: a voice's chunk rate, at which a pool that spins shows what it burns."""

MOST_WORDS = 400
"""Characters of a foreign error that a row quotes."""

REPEATS = 50
MOST_KEPT = 4096
"""Latencies of one process in a report: enough for its percentiles, whatever number a quick model makes."""


def main() -> int:
    """Reads a job, measures, writes events; 0 when it went through."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    job = json.load(sys.stdin)
    began = job["began"]
    phase = "import"

    def say(event: str, **values: Any) -> None:
        out.write(json.dumps({"event": event, "at": time.monotonic() - began, **values}) + "\n")
        out.flush()

    def enter(name: str) -> None:
        nonlocal phase
        phase = name
        say("phase", phase=name)

    try:
        _measure(job, say, enter)
    except BaseException as error:  # the row says what it was, whatever it was
        text = str(error).strip() or type(error).__name__
        from omni_sdk.errors import OmniError

        if not isinstance(error, OmniError):  # whose words may be pages
            text = f"{type(error).__name__}: {textwrap.shorten(text, MOST_WORDS, placeholder=' ...')}"
        say("failed", phase=phase, error=text)
        return 1
    finally:
        _close(out)
    return 0


def _measure(job: Mapping[str, Any], say: Callable[..., None], enter: Callable[[str], None]) -> None:
    enter("import")
    import numpy as np

    from omni_sdk.tools.evaluate.values import plain_arrays, read_written, write_arrays
    from omni_sdk.tools.measure.contenders import Contender
    from omni_sdk.tools.measure.engines import ENGINES

    contender = Contender.from_dict(job["contender"])
    engine = ENGINES[contender.kind](contender)
    if contender.kind in ("settings", "session"):
        import onnxruntime  # noqa: F401  part of importing, not of loading
    say("imported", seconds=time.monotonic() - job["began"])

    enter("load")
    with _Meter() as meter:
        engine.load()
    say("loaded", **meter.figures)
    feeds = read_written(job["inputs"])

    enter("warmup")
    with _Meter() as meter:
        passes = engine.warm_up(feeds)
    say("warmed", passes=passes, **meter.figures)

    enter("first")
    with _Meter() as meter:
        outputs = engine.run(feeds)
    arrays = {name: array for name, array in outputs.items() if not isinstance(array, list | tuple | Mapping)}
    samples = {name: int(np.shape(array)[-1]) for name, array in arrays.items() if np.ndim(array)}
    say("first", samples=samples, **meter.figures)

    enter("steady")
    latencies, count, spent = Thinned(), 0, 0.0
    least, most = job["runs"]
    with _Meter() as meter:
        while count < least or ((most is None or count < most) and spent < job["seconds"]):
            started = time.perf_counter()
            outputs = engine.run(feeds)
            seconds = time.perf_counter() - started
            latencies.append(seconds)
            count, spent = count + 1, spent + seconds
    say("steady", latencies=latencies.kept, count=count, **meter.figures)

    enter("paced")
    count = max(1, min(MOST_PACED, int(job["seconds"] / (PAUSE_SECONDS + seconds))))
    with _Meter() as meter:
        for _ in range(count):
            outputs = engine.run(feeds)
            time.sleep(PAUSE_SECONDS)
    say("paced", count=count, **meter.figures)

    enter("cache")
    hits = engine.cached(feeds, REPEATS)
    if hits is not None:
        say("cached", latencies=hits[0], rate=hits[1])

    enter("finish")
    if job.get("outputs"):
        write_arrays(job["outputs"], plain_arrays(outputs))
    say("done", remarks=engine.remarks(), versions=_versions())


class Thinned:
    """At most `MOST_KEPT` of any number of latencies, evenly spread: when there are more, every other one goes."""

    def __init__(self) -> None:
        self.kept: list[float] = []
        self._every, self._seen = 1, 0

    def append(self, seconds: float) -> None:
        """One more, which is kept if its turn has come."""
        if self._seen % self._every == 0:
            self.kept.append(seconds)
            if len(self.kept) > MOST_KEPT:
                self.kept, self._every = self.kept[::2], self._every * 2
        self._seen += 1


class _Meter:
    """Wall and processor seconds, page faults and the highest resident memory so far, of what stands inside."""

    def __enter__(self) -> _Meter:
        self._usage, self._clock = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        return self

    def __exit__(self, *raised: object) -> None:
        seconds, usage = time.perf_counter() - self._clock, resource.getrusage(resource.RUSAGE_SELF)
        before = self._usage
        self.figures = {
            "seconds": seconds,
            "cpu_seconds": usage.ru_utime + usage.ru_stime - before.ru_utime - before.ru_stime,
            "minor_faults": usage.ru_minflt - before.ru_minflt,
            "major_faults": usage.ru_majflt - before.ru_majflt,
            "peak_bytes": _peak_bytes(),
        }


def _peak_bytes() -> int:
    from omni_sdk import memory

    return memory.process().peak


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    from omni_sdk.installed import runtimes

    wanted = ("openvino", "torch", "numpy")
    return {**runtimes(), **{name: version(name) for name in wanted if name in sys.modules}}


def _close(out: TextIO) -> None:
    try:
        out.close()
    except BrokenPipeError:  # the parent is gone, and with it whoever would read
        pass


if __name__ == "__main__":
    sys.exit(main())
