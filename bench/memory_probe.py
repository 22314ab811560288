"""One load and some runs in a process of their own: prints a JSON line of what they took.

Usage: memory_probe.py '{"engine": "ort" | "omni", "path": ..., "frames": 128, "runs": 5, ...}'

Further keys: `settings` (fields of Settings), `cache_dir`, `warmup` (runs or passes before those that count; null for
`Model.warmup` to decide), `hold` (wait for a line on standard input before the last reading, so that several processes
are up at once), `save` (where to write the waveform).
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
import onnxruntime as ort

import omni_sdk as omni
from omni_sdk import cpu, memory

MIB = 1 << 20


class Ort:
    """ONNX Runtime as it comes, on as many threads as this process really has."""

    def __init__(self, job):
        options = ort.SessionOptions()
        options.intra_op_num_threads = cpu.usable_cores()
        options.log_severity_level = 3
        self.session = ort.InferenceSession(job["path"], options, providers=["CPUExecutionProvider"])
        self.inputs = {node.name: node for node in self.session.get_inputs()}

    def run(self, codes):
        feeds = {name: zeros(node) for name, node in self.inputs.items() if name != "audio_codes"}
        return self.session.run(["waveform"], {"audio_codes": codes, **feeds})[0]

    def warm_up(self, codes, passes):
        for _ in range(2 if passes is None else passes):
            self.run(codes)


class Omni:
    """This package."""

    def __init__(self, job):
        settings = omni.Settings(**job.get("settings", {}))
        self.model = omni.load(job["path"], settings, cache_dir=job["cache_dir"])
        self.rest = {spec.name: np.zeros(spec.shape, spec.dtype) for spec in self.model.inputs[1:]}
        if settings.max_chunk is not None:
            self.rest = {}

    def run(self, codes):
        return self.model.infer({"audio_codes": codes, **self.rest})["waveform"]

    def warm_up(self, codes, passes):
        self.model.warmup({"audio_codes": codes.shape}, passes=passes)


def zeros(node):
    return np.zeros(node.shape, np.int64 if "int64" in node.type else np.float32)


def main():
    job = json.loads(sys.argv[1])
    codes = np.random.default_rng(0).integers(0, 2048, (1, 16, job["frames"]))
    before = memory.process().resident
    started = time.perf_counter()
    engine = {"ort": Ort, "omni": Omni}[job["engine"]](job)
    found = {"load": time.perf_counter() - started, "resident": memory.process().resident - before}
    if job.get("warmup", 0) != 0:
        engine.warm_up(codes, job["warmup"])
    seconds = []
    for _ in range(job["runs"]):
        started = time.perf_counter()
        wave = engine.run(codes)
        seconds.append(time.perf_counter() - started)
    found["runs"] = seconds
    found["peak"] = memory.process().peak - before
    if "save" in job:
        np.save(job["save"], wave)
    if job.get("hold"):
        print("ready", flush=True)
        sys.stdin.readline()
        found["proportional"] = memory.process().proportional
        print(json.dumps(found), flush=True)
        sys.stdin.readline()
        return
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
