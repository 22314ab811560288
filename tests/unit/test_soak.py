"""The soak's verdict, which must be able to fall, and its models and activities for a few seconds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"
pytestmark = pytest.mark.skipif(not BENCH.exists(), reason="installed without its benchmarks")


@pytest.fixture(scope="module")
def soak():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCH))
        import soak

        yield soak


def samples(soak, *, rss=lambda second: 100_000_000, descriptors=lambda second: 10, threads=lambda second: 8):
    """Two minutes; memory may settle as it likes in the first quarter."""
    return [
        soak.Sample(
            second, rss(second) if second >= 30 else second, 0, descriptors(second), threads(second), second, {}
        )
        for second in range(120)
    ]


def test_what_is_flat_holds(soak):
    verdict = soak.judge(samples(soak, descriptors=lambda second: 10 + second % 3), [], {})
    assert verdict.held
    assert verdict.memory_growth == 0


@pytest.mark.parametrize(
    ("errors", "left", "watched"),
    [
        (["AssertionError: a held result was written over"], {}, {}),
        ([], {"sums": 64}, {}),
        ([], {}, {"rss": lambda second: 100_000_000 + 50_000 * second}),
        ([], {}, {"descriptors": lambda second: 10 + second // 60}),
        ([], {}, {"threads": lambda second: 8 + (second > 80)}),
    ],
    ids=["wrong result", "left in use", "memory", "descriptors", "threads"],
)
def test_what_is_not_flat_does_not(soak, errors, left, watched):
    assert not soak.judge(samples(soak, **watched), errors, left).held


def test_two_percent_is_the_limit(soak):
    grown = [100_000_000 * (1 + share) for share in (0.019, 0.021)]
    held = [
        soak.judge(samples(soak, rss=lambda second, high=high: high if second > 75 else 1e8), [], {}) for high in grown
    ]
    assert [verdict.held for verdict in held] == [True, False]


@pytest.mark.parametrize(
    ("option", "value", "least"),
    [("minutes", "0.1", "0.5"), ("minutes", "-1", "0.5"), ("minutes", "nan", "0.5"), ("threads", "0", "1")],
)
def test_what_gives_no_verdict_is_told_before_the_soak(soak, option, value, least, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["soak.py", f"--{option}={value}"])
    with pytest.raises(SystemExit):
        soak.main()
    assert f"--{option}: Expected {least} or more, got {value}" in capsys.readouterr().err


@pytest.mark.heavy
def test_a_minute_of_it_has_no_wrong_result(tmp_path):
    command = [sys.executable, str(BENCH / "soak.py"), "--minutes", "1", "--out", str(tmp_path)]
    subprocess.run(command, check=False, timeout=300)
    told = json.loads((tmp_path / "soak.json").read_text())
    assert told["verdict"]["errors"] == []
    assert told["verdict"]["left_in_use"] == {}
    assert len(told["calls"]) == 12
    assert (tmp_path / "soak.png").stat().st_size > 10_000
