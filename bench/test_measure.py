"""What `bench` and `tune` say, said twice: python -m pytest bench/test_measure.py -s

The reference Code2Wav at 16 frames (`OMNI_SDK_BENCH_SMALL=1`: the small one). Two runs of one comparison, on an idle
machine, lie within each other's intervals; settings tuned for latency are never slower than `balanced` beyond noise.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from models import Models, cache_folder

from omni_sdk.tools.bench import Contender, Effort, bench
from omni_sdk.tools.measure.compare import compare
from omni_sdk.tools.tune import tune

SHAPES = {"audio_codes": (1, 16, 16)}
CONTENDERS = ("session", "baseline", "ultra", "balanced")
ROUNDS = 5
EFFORT = Effort(seconds=1.0)


@pytest.fixture(scope="module")
def model():
    return Models(cache_folder(), full=os.environ.get("OMNI_SDK_BENCH_SMALL", "0") in ("", "0")).exported("unit").parent


def test_two_runs_agree(model):
    runs = [bench(model, CONTENDERS, shapes=SHAPES, rounds=ROUNDS, effort=EFFORT) for _ in range(2)]
    apart = []
    for number, name in enumerate(CONTENDERS[1:], 1):
        first, second = (compare(run.rows[0], run.rows[number], "latency").ratio for run in runs)
        agree = first.low <= second.high and second.low <= first.high
        apart += [] if agree else [name]
        print(
            f"\n{name + ' / session, steady latency':<40} {first.estimate:.2f} ({first.low:.2f}-{first.high:.2f})"
            f" then {second.estimate:.2f} ({second.low:.2f}-{second.high:.2f}): {'agree' if agree else 'DIFFER'}"
        )
    assert not apart


def test_tuned_for_latency(model):
    found = tune(model, goal="latency", shapes=SHAPES, keep=False)
    print(f"\n{found}")
    tuned = Contender("tuned", "settings", str(model), found.settings)
    again = bench(model, ["balanced", tuned], shapes=SHAPES, rounds=ROUNDS, effort=EFFORT)
    comparison = compare(*again.rows, "latency")
    print(f"tuned / balanced, measured again: {comparison}")
    assert comparison.verdict in ("lower", "tie")
