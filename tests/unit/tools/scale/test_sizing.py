"""Replicas and cost: the arithmetic, against sums done by hand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from omni_sdk.errors import InputError
from omni_sdk.tools.scale import plan

PAGE = Path(__file__).parents[4] / "docs" / "scale.md"


@pytest.mark.parametrize(
    ("streams", "rtf", "replicas"), [(1, 0.5, 1), (7, 0.1, 1), (8, 0.1, 2), (1000, 0.14, 200), (10, 0.4, 10)]
)
def test_replicas(streams, rtf, replicas):
    assert plan(streams, rtf, price_per_core_hour=1).replicas == replicas


def test_cost():
    made = plan(100_000, 0.35, price_per_core_hour=0.04, cores=2)
    assert made.streams_per_replica == 2
    assert (made.replicas, made.cores) == (50_000, 100_000)
    assert made.cost_per_hour == pytest.approx(4000)
    assert made.cost_per_audio_hour == pytest.approx(0.04)


def test_utilization_is_room_kept_free():
    assert plan(10, 0.1, price_per_core_hour=1, utilization=1.0).replicas == 1
    assert plan(10, 0.1, price_per_core_hour=1, utilization=0.5).replicas == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"streams": 0},
        {"rtf": 0.0},
        {"rtf": float("nan")},
        {"cores": 0},
        {"rtf": 0.71},
        {"utilization": 1.1},
        {"utilization": 0},
        {"utilization": float("nan")},
        {"price_per_core_hour": float("nan")},
        {"price_per_core_hour": float("inf")},
        {"price_per_core_hour": -1},
        {"streams": float("nan")},
        {"streams": float("inf")},
    ],
)
def test_figures_out_of_range(wrong):
    with pytest.raises(InputError, match=r"^Expected .* - at plan"):
        plan(**{"streams": 1, "rtf": 0.1, "price_per_core_hour": 1, **wrong})


@pytest.mark.skipif(not PAGE.exists(), reason="installed without its documentation")
def test_the_pages_table_is_this_arithmetic():
    text = PAGE.read_text(encoding="utf-8").replace(",", "")
    rows = re.findall(r"^\| (\d+) \| (\d+) \| (\d+) \| ([\d.]+) \| ([\d.]+) \|$", text, re.MULTILINE)
    assert [int(streams) for streams, *_ in rows] == [1, 10, 1_000, 100_000]
    for streams, replicas, cores, cost, each in rows:
        made = plan(int(streams), 0.25, cores=2, price_per_core_hour=0.04)
        assert (made.replicas, made.cores) == (int(replicas), int(cores))
        assert (f"{made.cost_per_hour:.2f}", f"{made.cost_per_audio_hour:.3f}") == (cost, each)
