"""The parent's side of a worker: its events, its memory over time, and why it died."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import psutil

from omni_sdk import cgroup, memory
from omni_sdk.errors import InputError, ModelError

Event = dict[str, Any]

SAMPLE_SECONDS = 0.02
MOST_SAMPLES = 500
LAST_WORDS = 400
"""Characters of standard error that a failure quotes."""


@dataclass
class Outcome:
    """What came of a job.

    Attributes
    ----------
    events : mapping of str to mapping
        The last event of each name.
    phases : list of (str, float)
        What it was at from when on, in seconds since the process began.
    memory : list of (float, int)
        Seconds since the process began, resident bytes.
    failure : str
        Why it ended early; empty when it did not.
    """

    events: dict[str, Event] = field(default_factory=dict)
    phases: list[tuple[str, float]] = field(default_factory=list)
    memory: list[tuple[float, int]] = field(default_factory=list)
    failure: str = ""

    @property
    def phase(self) -> str:
        """What it was at last."""
        return self.phases[-1][0] if self.phases else "start"


def run_job(job: Mapping[str, Any], *, timeout: float, on_phase: Callable[[str], None] = lambda phase: None) -> Outcome:
    """Run a worker to its end; killed when `timeout` seconds are over or the caller is interrupted."""
    outcome, kills_before = Outcome(), _memory_kills()
    began = time.monotonic()  # one clock for all processes of a machine
    with tempfile.TemporaryFile() as errors:
        worker = subprocess.Popen(
            [sys.executable, "-m", "omni_sdk.tools.measure.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,  # Ctrl-C is for the parent, which then ends the worker
        )
        try:
            _send(worker, {**job, "began": began})
            late = not _watch(worker, outcome, began, timeout, on_phase)
        finally:
            _end(worker)
            for pipe in (worker.stdin, worker.stdout):
                if pipe is not None:
                    _close(pipe)
        errors.seek(0)
        words = errors.read().decode(errors="replace").strip()[-LAST_WORDS:]
    if "failed" in outcome.events:
        failed = outcome.events["failed"]
        sentence, newline, hint = failed["error"].partition("\n")  # the hint stays on a line of its own
        outcome.failure = f"{sentence} (during {failed['phase']}){newline}{hint}"
    elif late:
        outcome.failure = f"took longer than {timeout:g} s (during {outcome.phase})"
    elif "done" not in outcome.events:
        outcome.failure = _why_dead(worker.returncode, outcome, words, _memory_kills() > kills_before)
    return outcome


def make_inputs(model: str, shapes: Mapping[str, Any], values: Mapping[str, Any], seed: int, path: Path) -> None:
    """Write made-up feeds for a model to `path`.

    Raises
    ------
    ModelError
        When the model does not load.
    InputError
        When the shapes or the values do not fit it.
    """
    sizes = {name: list(shape) for name, shape in shapes.items()}
    job = {"model": model, "shapes": sizes, "values": dict(values), "seed": seed}
    done = subprocess.run(
        [sys.executable, "-m", "omni_sdk.tools.measure.describe"],
        input=json.dumps({**job, "inputs": str(path)}).encode(),
        capture_output=True,
        check=False,
    )
    message, _, hint = done.stderr.decode(errors="replace").strip().partition("\0")
    if done.returncode == 2:
        raise InputError(message, hint=hint or None)
    if done.returncode == 1 and message.startswith("Expected"):
        raise ModelError(message, hint=hint or None)
    if done.returncode:
        gist = message.splitlines()[-1] if message else f"exit status {done.returncode}"
        raise ModelError(f"Expected a model that loads, got a process that died ({gist}) - at {model}")


def _end(worker: subprocess.Popen[bytes]) -> None:
    """End a worker that runs on, with the processes it began: they would disturb whoever is measured next."""
    if worker.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # it ended by itself this instant
            os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()


def _send(worker: subprocess.Popen[bytes], job: Mapping[str, Any]) -> None:
    assert worker.stdin is not None
    try:
        worker.stdin.write(json.dumps(job).encode())
        worker.stdin.close()
    except BrokenPipeError:  # it is dead already; its status and last words say why
        pass


def _close(pipe: IO[bytes]) -> None:
    try:
        pipe.close()
    except BrokenPipeError:  # what it had not read is of no use to anyone
        pass


def _watch(
    worker: subprocess.Popen[bytes],
    outcome: Outcome,
    began: float,
    timeout: float,
    on_phase: Callable[[str], None],
) -> bool:
    """Take events in and sample memory until the worker closes its output; False when the time was up first."""
    assert worker.stdout is not None
    process, every, pending = psutil.Process(worker.pid), SAMPLE_SECONDS, b""
    with selectors.DefaultSelector() as selector:
        selector.register(worker.stdout, selectors.EVENT_READ)
        while time.monotonic() < began + timeout:
            if selector.select(every):
                chunk = worker.stdout.read1(1 << 16)  # type: ignore[attr-defined]
                if not chunk:
                    worker.wait()
                    return True
                *lines, pending = (pending + chunk).split(b"\n")
                for line in lines:
                    _take(json.loads(line), outcome, on_phase)
            now = time.monotonic() - began
            if not outcome.memory or now - outcome.memory[-1][0] >= every:
                outcome.memory.append((now, _resident(process)))
                if len(outcome.memory) > MOST_SAMPLES:
                    outcome.memory, every = outcome.memory[::2], every * 2
    return False


def _take(event: Event, outcome: Outcome, on_phase: Callable[[str], None]) -> None:
    if event["event"] == "phase":
        outcome.phases.append((event["phase"], event["at"]))
        on_phase(event["phase"])
    else:
        outcome.events[event["event"]] = event


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def _why_dead(status: int, outcome: Outcome, words: str, killed_for_memory: bool) -> str:
    highest = max((size for _, size in outcome.memory), default=0)
    if status == -signal.SIGKILL:
        cause = (
            "for memory: its control group counted one more such kill"
            if killed_for_memory
            else "as the kernel does when memory runs out"
        )
        return f"killed {cause}, at {memory.human(highest)} resident (during {outcome.phase})"
    why = f"crashed with {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
    return f"{why} (during {outcome.phase}){': ' + words.splitlines()[-1] if words else ''}"


def _memory_kills() -> int:
    """How often the kernel killed for memory in the control groups above; 0 where nothing counts it."""
    total = 0
    for words in cgroup.values("memory", "memory.events", "memory.oom_control"):
        counts = dict(zip(words[::2], words[1::2], strict=False))
        total += int(counts.get("oom_kill", 0))
    return total
