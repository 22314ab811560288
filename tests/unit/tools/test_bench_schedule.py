"""What a race makes of the outputs of its rows."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from omni_sdk import Settings
from omni_sdk.tools.evaluate.values import write_arrays
from omni_sdk.tools.measure.contenders import Contender
from omni_sdk.tools.measure.schedule import Effort, Race


@pytest.mark.parametrize(
    ("outputs", "ratios"),
    [
        ((1.0, 1.0, 1.1), (math.inf, math.inf, 20.0)),
        ((None, 1.0, 1.1), (None, None, None)),
        ((1.0, None), (math.inf, None)),
    ],
    ids=["all ran", "the first failed", "another failed"],
)
def test_outputs_are_held_against_those_of_the_first_row_alone(
    tmp_path: Path, outputs: tuple[float | None, ...], ratios: tuple[float | None, ...]
) -> None:
    contenders = [Contender(str(number), "settings", "no.onnx", Settings()) for number in range(len(outputs))]
    race = Race(contenders, tmp_path / "inputs.npz", tmp_path, Effort())
    for number, value in enumerate(outputs):
        if value is not None:
            write_arrays(tmp_path / f"outputs-{number}.npz", {"y": np.full(3, value)})
    race.judge_outputs()
    for row, ratio in zip(race.rows, ratios, strict=True):
        assert row.snr_db == (None if ratio is None else pytest.approx(ratio))


def test_rounds_turn_around_but_for_those_of_one_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    monkeypatch.setattr(Race, "_measure", lambda self, row: order.append(row.name))
    contenders = [Contender(name, "settings", "no.onnx", Settings()) for name in "ab"]
    race = Race(contenders, tmp_path / "inputs.npz", tmp_path, Effort())
    race.round([race.rows[0]])
    for _ in range(3):
        race.round()
    assert "".join(order) == "a" + "ab" + "ba" + "ab"
