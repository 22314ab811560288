"""The last race of a tuning, on races whose figures a formula gives: what is noise does not win, and limits hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench_rows import run

from omni_sdk import InputError, MemoryBudgetError, Settings
from omni_sdk.tools import tune as tuning
from omni_sdk.tools.measure.confirm import confirm, level_of_a_look
from omni_sdk.tools.measure.contenders import Contender
from omni_sdk.tools.measure.results import Row
from omni_sdk.tools.measure.search import Limits

FOUR, ONE = Settings(intra_op_num_threads=4), Settings(intra_op_num_threads=1)
LITTLE, MUCH = 50 << 20, 500 << 20
Cost = Callable[[Settings], float]


class FakeRace:
    """Stands in for `Race`; what a contender costs and takes is a formula of its settings and of the round."""

    cost: Cost = staticmethod(lambda settings: 1.0)
    peak: Callable[[Settings, int], int] = staticmethod(lambda settings, number: LITTLE)
    noise = 0.1
    random = np.random.default_rng(0)
    interrupt_at = -1
    rounds_of_all = 0

    def __init__(self, contenders: Sequence[Contender], *rest: Any, **options: Any) -> None:
        self.rows = [Row(contender) for contender in contenders]
        self.count = 0

    def add(self, contender: Contender) -> Row:
        self.rows.append(Row(contender))
        return self.rows[-1]

    def round(self, rows: Sequence[Row] | None = None) -> None:
        if FakeRace.rounds_of_all == type(self).interrupt_at:
            raise KeyboardInterrupt
        FakeRace.rounds_of_all += 1
        for row in self.rows if rows is None else rows:
            settings = row.contender.settings
            assert settings is not None
            figure = 0.01 * self.cost(settings) * np.exp(self.noise * self.random.standard_normal())
            row.runs[self.count] = run(figure, peak=self.peak(settings, self.count))
        self.count += 1

    def outputs(self, row: Row) -> dict[str, Any] | None:
        return {"y": np.ones(2)} if row.runs else None


@pytest.fixture
def race(monkeypatch: pytest.MonkeyPatch) -> type[FakeRace]:
    """Tuning on fake races."""

    @contextmanager
    def inputs(*arguments: Any, **options: Any) -> Iterator[tuple[Path, dict[str, Any]]]:
        yield Path("inputs.npz"), {}

    class Mine(FakeRace):
        random = np.random.default_rng(1)

    monkeypatch.setattr(tuning, "Race", Mine)
    monkeypatch.setattr(tuning, "inputs_file", inputs)
    monkeypatch.setattr(FakeRace, "rounds_of_all", 0)
    return Mine


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"no matter")
    return path


def pair() -> list[Contender]:
    return [Contender(name, "settings", "model.onnx", FOUR) for name in ("balanced", "winner")]


@pytest.mark.parametrize("rounds", [4, 7])
def test_looking_after_each_round_does_not_let_noise_win(rounds: int) -> None:
    """A simulated null: 11 to 12 % of useless candidates were kept before; 2.5 % is one side of 95 %."""
    won = [confirm(FakeRace(pair()), "latency", rounds, Limits()).better for _ in range(200)]  # type: ignore[arg-type]
    assert np.mean(won) < 0.055


def test_a_real_gain_wins_and_ends_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeRace, "noise", 0.01)
    monkeypatch.setattr(FakeRace, "cost", staticmethod(lambda settings: settings.intra_threads / 4))
    contenders = [Contender("balanced", "settings", "m", FOUR), Contender("winner", "settings", "m", ONE)]
    fake = FakeRace(contenders)
    found = confirm(fake, "latency", 7, Limits())  # type: ignore[arg-type]
    assert found.better
    assert fake.count == 4
    assert found.effects["latency"].ratio is not None
    assert found.effects["latency"].ratio.level == level_of_a_look(7) == pytest.approx(0.9875)


def test_a_limit_of_threads_lets_no_noise_win(race: type[FakeRace], model: Path) -> None:
    """Its base is compared with itself on fewer threads, not taken for anything that is not balanced."""
    race.cost = staticmethod(lambda settings: 4 / settings.intra_threads)
    space = {"enable_mem_pattern": (False, True), "prepacking": (False, True)}
    found = [tuning.tune(model, start=FOUR, space=space, max_threads=1, keep=False) for _ in range(6)]
    assert sum(each.settings != ONE for each in found) <= 1
    stays = next(each for each in found if each.settings == ONE)
    assert stays.changes == {"intra_op_num_threads": 1}
    assert "balanced on 1 thread stays" in str(stays)


def test_a_lever_that_helps_on_fewer_threads_wins(race: type[FakeRace], model: Path) -> None:
    race.noise = 0.01
    race.cost = staticmethod(lambda s: 4 / s.intra_threads * (0.8 if s.prepacking is False else 1.0))
    space = {"prepacking": (False, True)}
    found = tuning.tune(model, start=FOUR, space=space, max_threads=1, keep=False)
    assert found.settings == ONE.replace(prepacking=False)
    assert found.proven
    assert "less steady latency than balanced on 1 thread (98.75 % interval of the gain" in str(found)


def test_the_memory_of_the_last_race_counts(race: type[FakeRace], model: Path) -> None:
    """A candidate that grows beyond its limit only after the search does not win."""
    race.noise = 0.01
    race.cost = staticmethod(lambda settings: 0.5 if settings.prepacking is False else 1.0)
    race.peak = staticmethod(lambda s, number: MUCH if s.prepacking is False and number >= 3 else LITTLE)
    space = {"prepacking": (False, True)}
    found = tuning.tune(model, start=FOUR, space=space, max_memory=100 << 20, keep=False)
    assert found.settings == FOUR
    assert "balanced stays" in str(found)


def test_where_balanced_is_too_big_the_leader_needs_no_gain(race: type[FakeRace], model: Path) -> None:
    race.peak = staticmethod(lambda s, number: LITTLE if s.prepacking is False else MUCH)
    space = {"prepacking": (False, True)}
    found = tuning.tune(model, start=FOUR, space=space, max_memory=100 << 20, keep=False)
    assert found.settings == FOUR.replace(prepacking=False)
    race.peak = staticmethod(lambda s, number: LITTLE if s.prepacking is False and number < 3 else MUCH)
    with pytest.raises(MemoryBudgetError, match="max_memory"):
        tuning.tune(model, start=FOUR, space=space, max_memory=100 << 20, keep=False)


@pytest.mark.parametrize("at", [0, 2, 4])
def test_ctrl_c_tells_the_leader_and_keeps_nothing(race: type[FakeRace], model: Path, tmp_path: Path, at: int) -> None:
    race.noise = 0.01
    race.cost = staticmethod(lambda settings: 0.5 if settings.prepacking is False else 1.0)
    race.interrupt_at = at
    found = tuning.tune(model, start=FOUR, space={"prepacking": (False, True)}, cache_dir=tmp_path / "cache")
    assert found.interrupted
    assert found.settings == FOUR
    assert found.profile is None
    assert not any((tmp_path / "cache" / "profiles").iterdir())
    said = "ahead until then: prepacking=False, not confirmed" if at else "nothing was ahead yet"
    assert said in str(found)


@pytest.mark.parametrize("rounds", [0, -1])
def test_no_round_is_refused(model: Path, rounds: int) -> None:
    with pytest.raises(InputError, match="at least one round"):
        tuning.tune(model, rounds=rounds)
