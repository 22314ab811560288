"""What the tests of Ray share: a small voice, its clients, and the processes that Ray started."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import time
import warnings
from pathlib import Path
from types import ModuleType

import numpy as np
import psutil
import pytest

from omni_sdk.tools.export import code2wav, reference_checkpoint

FRAMES = 40


def ray_or_skip() -> ModuleType:
    """Ray, whose own import warns; the tests of the module that asks are skipped where it is missing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("ray.serve", reason="the extra ray is not installed: scripts/test-scale runs these")
        return pytest.importorskip("ray")


def make_voice(folder: Path) -> Path:
    """A small streaming Code2Wav, by the seed."""
    code2wav(reference_checkpoint(folder / "checkpoint", seed=7), folder / "voice")
    return folder / "voice"


def codes(frames: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng((seed, frames)).integers(0, 2048, (1, 16, frames))


def json_body(array: np.ndarray, **parameters: object) -> bytes:
    data = {"name": "audio_codes", "datatype": "INT64", "shape": list(array.shape), "data": array.reshape(-1).tolist()}
    return json.dumps({"inputs": [data], "parameters": parameters}).encode()


def post(port: int, path: str, body: bytes, timeout: float = 60) -> http.client.HTTPResponse:
    """The answer, its body not read."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    connection.request("POST", path, body, {"Connection": "close"})
    return connection.getresponse()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def kill_one(name: str) -> int:
    """End one of this process's descendants whose title has this name, as the kernel would; its id."""
    found = [p for p in psutil.Process().children(recursive=True) if name in "".join(p.cmdline()[:1])]
    assert found, f"no process named {name}"
    os.kill(found[0].pid, signal.SIGKILL)
    return found[0].pid


def until(condition, seconds: float = 90) -> None:
    """Wait for a condition, at most so long."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.2)
