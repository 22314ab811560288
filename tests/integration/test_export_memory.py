"""Memory of an export at full size: weights pass through one by one, in a process of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from omni_sdk.tools.export import reference_checkpoint
from omni_sdk.tools.export.checkpoint import open_checkpoint

EXPORT = """
import sys
from omni_sdk.tools.export import code2wav
code2wav(sys.argv[1], sys.argv[2], streaming=sys.argv[3] == "streaming")
with open("/proc/self/status") as status:
    print(next(line.split()[1] for line in status if line.startswith("VmHWM")))
"""


@pytest.mark.heavy
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peaks are read from /proc")
@pytest.mark.parametrize("form", ["one-shot", "streaming"])
def test_the_peak_is_at_most_1_3_times_the_weights(tmp_path: Path, form: str) -> None:
    folder = reference_checkpoint(tmp_path / "full", full=True)
    weights = open_checkpoint(folder).nbytes
    run = [sys.executable, "-c", EXPORT, str(folder), str(tmp_path / "out"), form]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    peak = int(done.stdout) * 1024
    print(f"{form}: peak {peak / 1e6:.0f} MB with Python and its libraries, weights {weights / 1e6:.0f} MB")
    assert peak <= 1.3 * weights
