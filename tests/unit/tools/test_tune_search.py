"""The search, on a race whose figures a formula gives: the planted optimum is found, and what breaks a limit is not."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from bench_rows import run

from omni_sdk import InputError, Settings
from omni_sdk.tools.measure.contenders import Contender
from omni_sdk.tools.measure.results import Row
from omni_sdk.tools.measure.search import Limits, Search, default_space, difference
from omni_sdk.tools.tune import tune

SPACE = {
    "intra_op_num_threads": (1, 2, 4),
    "allow_spinning": (False, True),
    "enable_mem_pattern": (False, True),
    "graph_optimization_level": ("all", "extended", "basic"),
}
START = Settings(intra_op_num_threads=4)


class FormulaRace:
    """Stands in for `Race`: a settings' latency is `cost(settings)`, with seeded noise of 2 %."""

    def __init__(self, cost: Callable[[Settings], float], outputs: Callable[[Settings], float] = lambda _: 1.0) -> None:
        self.cost, self.make_outputs = cost, outputs
        self.rows = [Row(Contender("balanced", "settings", "model.onnx", START))]
        self.measured = 0
        self._rounds = 0
        self._noise = np.random.default_rng(7)

    def add(self, contender: Contender) -> Row:
        self.rows.append(Row(contender))
        return self.rows[-1]

    def round(self, rows: Sequence[Row]) -> None:
        for row in rows:
            assert row.contender.settings is not None
            figure = self.cost(row.contender.settings) * (1.0 + 0.02 * self._noise.standard_normal())
            peak = 50 << 20 if row.contender.settings.enable_mem_pattern is False else 500 << 20
            row.runs[self._rounds] = run(figure, peak=peak)
            self.measured += 1
        self._rounds += 1

    def outputs(self, row: Row) -> dict[str, Any] | None:
        assert row.contender.settings is not None
        return {"y": np.full(4, self.make_outputs(row.contender.settings))} if row.runs else None


def cost(settings: Settings) -> float:
    """Two threads and spinning are best, and help together; the other levers cost."""
    threads = {1: 1.4, 2: 1.0, 4: 2.0}[settings.intra_threads]
    level = {"all": 1.0, "extended": 1.05, "basic": 1.2}[settings.graph_optimization_level]
    return (
        0.01
        * threads
        * level
        * (0.9 if settings.allow_spinning else 1.0)
        * (1.1 if settings.enable_mem_pattern else 1.0)
    )


def search(race: FormulaRace, limits: Limits | None = None) -> Search:
    return Search(race, START, "latency", limits or Limits())  # type: ignore[arg-type]


def test_nobody_leads_who_was_not_compared() -> None:
    race = FormulaRace(cost)
    looking = search(race)
    other = race.add(Contender("other", "settings", "model.onnx", START.replace(allow_spinning=True)))
    race.round([race.rows[0]])
    race.round([other])
    assert looking.ahead() is None
    race.round([race.rows[0], other])
    assert looking.ahead() is other


def test_the_planted_optimum_is_found() -> None:
    race = FormulaRace(cost)
    best = search(race).best(SPACE)
    assert best is not None
    assert best.contender.settings == START.replace(intra_op_num_threads=2, allow_spinning=True)


def test_halving_measures_less_than_everything_every_time() -> None:
    race = FormulaRace(cost)
    search(race).best(SPACE)
    rounds = max(len(row.runs) for row in race.rows)
    assert race.measured < 0.7 * rounds * len(race.rows)


def test_where_nothing_helps_nothing_changes() -> None:
    best = search(FormulaRace(lambda settings: 0.01 if settings == START else 0.02)).best(SPACE)
    assert best is not None
    assert best.contender.settings == START


def test_other_outputs_are_refused_however_quick() -> None:
    race = FormulaRace(cost, outputs=lambda settings: 1.0 if settings.intra_threads == 4 else 1.01)
    found = search(race)
    best = found.best(SPACE)
    assert best is not None
    assert best.contender.settings == START.replace(allow_spinning=True)
    assert "differs by" in found.refused["intra_op_num_threads=2"]


def test_the_memory_limit_is_kept() -> None:
    race = FormulaRace(lambda settings: 0.005 if settings.enable_mem_pattern else 0.01)
    found = search(race, Limits(memory_bytes=100 << 20))
    best = found.best(SPACE)
    assert best is not None
    assert best.contender.settings is not None
    assert best.contender.settings.enable_mem_pattern is False
    assert "more than" in found.refused["enable_mem_pattern=True"]


def test_a_limit_that_nothing_keeps_leaves_nothing() -> None:
    assert search(FormulaRace(cost), Limits(memory_bytes=1)).best(SPACE) is None


def test_the_default_space_keeps_the_limit_of_threads() -> None:
    space = default_space(Limits(threads=1))
    assert space["intra_op_num_threads"] == (1,)
    assert not {name for name in ("azure", "AzureExecutionProvider") if any(name in str(v) for v in space["providers"])}
    fields = {field.name for field in dataclasses.fields(Settings)}
    assert space.keys() <= fields


@pytest.mark.parametrize(
    ("wanted", "found", "why"),
    [
        ([1.0, 2.0], [1.0, 2.0005], ""),
        ([1.0, 2.0], [1.0, 2.01], "differs by"),
        ([1.0, np.nan], [1.0, np.nan], ""),
        ([1.0, np.nan], [1.0, 2.0], "infinities or NaNs"),
        ([1.0, 2.0], [1.0, np.inf], "infinities or NaNs"),
        ([0.0, 0.0], [0.0, 1e-9], "differs by"),
        ([1.0], [1.0, 1.0], "shape"),
    ],
)
def test_differences_of_outputs(wanted: list[float], found: list[float], why: str) -> None:
    said = difference({"y": np.array(wanted, "f4")}, {"y": np.array(found, "f4")}, 1e-3)
    assert why in said
    assert bool(said) == bool(why)


def test_integers_must_be_equal_and_present() -> None:
    ids = np.array([1, 2])
    assert difference({"ids": ids}, {"ids": ids.copy()}, 1.0) == ""
    assert "differs" in difference({"ids": ids}, {"ids": ids + 1}, 1.0)
    assert "missing" in difference({"ids": ids}, {}, 1.0)


@pytest.mark.parametrize(("options", "match"), [
    ({"goal": "speed"}, "goal"), ({"max_threads": 0}, "max_threads"), ({"tolerance": float("nan")}, "tolerance"),
])  # fmt: skip
def test_wrong_options_are_named(options: dict[str, Any], match: str) -> None:
    with pytest.raises(InputError, match=match):
        tune("model.onnx", **options)
