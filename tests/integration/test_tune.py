"""Tuning for real, where the winner is known beforehand."""

from __future__ import annotations

import json
import logging
import os
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from measured_models import WIDTH, chain
from onnx import TensorProto, helper, numpy_helper

import omni_sdk
from omni_sdk import MemoryBudgetError, Settings
from omni_sdk.cli import main
from omni_sdk.tools.bench import Effort
from omni_sdk.tools.tune import tune

QUICK = Effort(seconds=0.05, runs=(3, 40), timeout=60.0)


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(chain(tmp_path / "chain.onnx"))


@pytest.mark.heavy
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no affinity to limit")
def test_one_core_wants_one_thread_and_load_takes_it(model: str, tmp_path: Path) -> None:
    """Four threads that spin on one core wait for one another: an optimum that is known, whatever the machine."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        found = tune(
            model,
            shapes={"x": (512, WIDTH)},
            start=Settings(intra_op_num_threads=4, allow_spinning=True),
            space={"intra_op_num_threads": (1, 4), "enable_mem_pattern": (False, True)},
            effort=Effort(seconds=0.3, runs=(3, 100)),
            cache_dir=tmp_path / "cache",
        )
        assert found.settings.intra_threads == 1
        assert found.gain.verdict == "lower"
        assert found.gain.ratio is not None
        assert found.gain.ratio.high < 1.0
        assert re.search(r"less steady latency than balanced \([\d.]+ % interval", str(found))
        assert found.profile is not None
        with omni_sdk.load(model, "tuned", cache_dir=tmp_path / "cache") as loaded:
            assert loaded.settings == found.settings
            assert loaded.explain()["intra_op_num_threads"].reason == "from the tuned profile"
            assert loaded.infer(x=np.ones((2, WIDTH), "f4"))["y"].shape == (2, WIDTH)
    finally:
        os.sched_setaffinity(0, before)


def test_a_truncated_profile_is_reported_and_tuning_starts_anew(
    model: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = {"shapes": {"x": (4, WIDTH)}, "space": {}, "rounds": 1, "effort": QUICK, "cache_dir": tmp_path}
    path = tune(model, **options).profile  # type: ignore[arg-type]
    assert path is not None
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with caplog.at_level(logging.WARNING), pytest.raises(omni_sdk.SettingsError, match="tune the model anew"):
        omni_sdk.load(model, "tuned", cache_dir=tmp_path)
    with caplog.at_level(logging.WARNING):
        again = tune(model, **options)  # type: ignore[arg-type]
    assert "tuning starts anew" in caplog.text
    assert again.profile == path
    assert json.loads(path.read_text())["goal"] == "latency"
    omni_sdk.load(model, "tuned", cache_dir=tmp_path).close()


def test_settings_that_change_the_outputs_never_win(tmp_path: Path) -> None:
    """Denormal outputs flushed to zero are other outputs: the lever is refused, however quick."""
    value = helper.make_tensor_value_info
    weight = numpy_helper.from_array(np.array(1e-30, "f4"), "w")
    nodes = [helper.make_node("Mul", ["x", "w"], ["m"]), helper.make_node("Mul", ["m", "w2"], ["y"])]
    small = numpy_helper.from_array(np.array(1e-10, "f4"), "w2")
    ends = [value("x", TensorProto.FLOAT, [8])], [value("y", TensorProto.FLOAT, [8])]
    graph = helper.make_graph(nodes, "g", *ends, [weight, small])
    path = tmp_path / "denormal.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    found = tune(
        path,
        inputs={"x": np.ones(8, "f4")},
        space={"set_denormal_as_zero": (False, True)},
        rounds=1,
        effort=QUICK,
        keep=False,
    )
    assert "differs" in found.refused["set_denormal_as_zero=True"]
    assert found.settings.set_denormal_as_zero is False
    assert found.profile is None


def test_nothing_is_measured_where_the_winner_cannot_be_kept(model: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    measured: list[str] = []
    with pytest.raises(omni_sdk.SettingsError, match="Expected to keep a profile, got Not a directory"):
        tune(
            model,
            shapes={"x": (4, WIDTH)},
            space={},
            rounds=1,
            effort=QUICK,
            cache_dir=tmp_path / "file" / "cache",
            progress=lambda name, number, phase: measured.append(name),
        )
    assert not measured


def test_a_model_that_does_not_run_is_said_before_others_are_tried(model: str) -> None:
    measured: set[str] = set()
    with pytest.raises(omni_sdk.ModelError, match="Expected a model that runs, got: Expected the inputs x"):
        tune(
            model,
            inputs={"nobody": np.ones(1, "f4")},
            effort=QUICK,
            keep=False,
            progress=lambda name, number, phase: measured.add(name),
        )
    assert measured == {"balanced"}


def test_a_budget_that_nothing_fits_is_said(model: str, tmp_path: Path) -> None:
    with pytest.raises(MemoryBudgetError, match="max_memory"):
        tune(model, shapes={"x": (4, WIDTH)}, space={}, max_memory="1 MiB", effort=QUICK, cache_dir=tmp_path)


@pytest.mark.heavy
def test_the_limit_of_threads_holds_even_where_more_are_quicker(model: str, tmp_path: Path) -> None:
    found = tune(
        model,
        shapes={"x": (4, WIDTH)},
        start=Settings(intra_op_num_threads=2),
        space={},
        max_threads=1,
        rounds=1,
        effort=QUICK,
        keep=False,
    )
    assert found.settings.intra_threads == 1


@pytest.mark.heavy
def test_the_command_tunes_and_says_what_it_gained(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMNI_SDK_CACHE_DIR", str(tmp_path))
    shape = ["-s", f"x=2,{WIDTH}"]
    done = CliRunner().invoke(
        main, ["tune", model, *shape, "--goal", "memory", "--seconds", "0.02", "--rounds", "1", "--dry-run"]
    )
    assert done.exit_code == 0, done.output
    assert "balanced" in done.output
    assert not (tmp_path / "profiles").exists()
