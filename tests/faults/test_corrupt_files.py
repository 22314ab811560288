"""Files gone bad by the hundred: each is refused with an error of ours or does no harm; none hangs or crashes.

By default each kind of file is damaged a few times; `-m heavy` damages more than 2,000.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("resource", reason="no limits on address space here")
from victims import VICTIMS

SCRIPT = Path(__file__).with_name("damaging.py")
FEW, MANY = 22, 300
SECONDS = 600


def outcomes(victim: str, count: int, folder: Path) -> tuple[Counter[str], list[str]]:
    """How often each verdict came, and what went wrong: each with the seed that does it again."""
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    first = 0
    while first < count:
        done = subprocess.run(
            [sys.executable, str(SCRIPT), victim, str(first), str(count), str(folder)],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        for line in done.stdout.splitlines():
            word, seed, verdict = (*line.split(" ", 2), "")[:3]
            assert word == "case", f"somebody printed {line!r}"
            first = int(seed) + 1
            if not verdict:
                wrong.append(f"{victim} seed {seed}: ended with {done.returncode}: {done.stderr[-1500:]}")
            elif verdict.startswith("WRONG"):
                wrong.append(f"{victim} seed {seed}: {verdict}")
            else:
                counts[verdict] += 1
        if not done.stdout:
            raise AssertionError(f"the worker did not begin: {done.stderr}")
    return counts, wrong


@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.heavy)])
@pytest.mark.parametrize("victim", VICTIMS)
def test_damaged_files_are_refused_or_harmless(victim, count, tmp_path, record_property):
    counts, wrong = outcomes(victim, count, tmp_path)
    record_property("outcomes", dict(counts))
    print(f"{victim}: {dict(counts)}")
    assert wrong == []
    assert counts.total() == count
