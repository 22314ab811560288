"""Signals amid a load, a run, a prepare or a tune: it ends, what stays on disk is whole, nobody is left behind."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import graphs
import numpy as np
import psutil
import pytest
from victims import dense, load_and_try

from omni_sdk.bundle import Bundle, is_bundle

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are sent as POSIX has them")
pytest.importorskip("onnx_ir", reason="prepare needs its extra")

SCRIPT = Path(__file__).with_name("interrupted.py")
SECONDS = 60
ACTIONS = ("load", "run", "prepare", "tune")
# An interrupt that passes through `exec` of a string, as dataclasses and named tuples are made, is remembered by
# CPython: it ends by the signal at the very end, whether or not the exception was handled.
INTERRUPTED = (0, -signal.SIGINT)


def interrupt(action: str, number: int, delay: float, folder: Path) -> tuple[int, str, str]:
    """Exit code, output and complaints of a process that got a signal `delay` seconds after it was ready."""
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), action, str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        assert process.stdout.readline() == "ready\n", process.communicate()[1]
        time.sleep(delay)
        below = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
        out, err = process.communicate(timeout=SECONDS)
        _, left = psutil.wait_procs(below, timeout=SECONDS)
        assert left == []
    finally:
        process.kill()
        process.communicate()
    return process.returncode, out, err


def check_whole(folder: Path) -> None:
    right = load_and_try(folder / "model.onnx")["y"]
    for cache in folder.glob("cache-*"):
        assert (load_and_try(folder / "model.onnx", cache_dir=cache)["y"] == right).all()
    if (folder / "bundle").exists():
        assert is_bundle(folder / "bundle")
        Bundle.open(folder / "bundle", checksums=True)


def rounds(few: tuple[str, ...]) -> pytest.MarkDecorator:
    """One round of the quick ones; of all of them many with `-m heavy`."""
    heavy = [pytest.param(action, 12, marks=pytest.mark.heavy) for action in ACTIONS]
    return pytest.mark.parametrize(("action", "count"), [*((action, 1) for action in few), *heavy])


@rounds(("load", "run"))
def test_an_interrupt_from_the_keyboard_leaves_everything_usable(action, count, tmp_path):
    dense(tmp_path / "model.onnx")
    rng = random.Random(action)
    for _ in range(count):
        code, out, err = interrupt(action, signal.SIGINT, rng.uniform(0, 0.3), tmp_path)
        assert (code in INTERRUPTED, out) == (True, "usable\n"), (code, err)
        check_whole(tmp_path)


@rounds(("load", "tune"))
def test_a_termination_leaves_what_is_whole_and_nobody_behind(action, count, tmp_path):
    dense(tmp_path / "model.onnx")
    rng = random.Random(action)
    for _ in range(count):
        code, _, err = interrupt(action, signal.SIGTERM, rng.uniform(0, 0.3), tmp_path)
        assert (code, err) == (-signal.SIGTERM, "")
        check_whole(tmp_path)


def test_signals_that_are_handled_disturb_nothing(tmp_path):
    """A thousand a second: what a system call is interrupted by, it goes on after."""
    path, handled = dense(tmp_path / "model.onnx"), []
    before = signal.signal(signal.SIGALRM, lambda *_: handled.append(1))
    try:
        right = load_and_try(path)["y"]
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        for number in range(5):
            assert (load_and_try(path, cache_dir=tmp_path / str(number))["y"] == right).all()
        with graphs.load(graphs.LONG) as model:
            model.infer(x=np.ones(8, np.float32), n=np.array(20_000))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert handled
