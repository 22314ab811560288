"""Contenders by name, and inputs made up, read or called for."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from omni_sdk import InputError, Settings, TensorSpec
from omni_sdk.tools.measure.contenders import Contender, parse, parse_all
from omni_sdk.tools.measure.inputs import call, make_up

CODES = TensorSpec.of("codes", "tensor(int64)", ["batch", 16, "frames"])
GAIN = TensorSpec.of("gain", "tensor(float)", [3])


@pytest.fixture
def model(tmp_path: Path) -> str:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"x")
    return str(path)


def test_contenders_by_name(model: str, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("intra_op_num_threads = 1\n")
    assert parse("ultra", model).settings == Settings.preset("ultra")
    assert parse("session", model).kind == "session"
    assert parse("openvino", model).kind == "openvino"
    assert parse("provider:cuda", model).settings == Settings(providers=("cuda",))
    assert parse("mod:make", model) == Contender("mod:make", "callable", model, function="mod:make")
    mine = parse(str(tmp_path / "mine.toml"), model).settings
    assert mine is not None
    assert mine.intra_op_num_threads == 1


def test_another_model_is_a_contender_with_settings_of_its_own(model: str, tmp_path: Path) -> None:
    other = tmp_path / "int8.onnx"
    other.write_bytes(b"x")
    assert (parse(str(other), model).model, parse(str(other), model).settings) == (str(other), Settings())
    assert parse(f"{other}@session", model).kind == "session"
    assert "no such file" in parse("gone.onnx@ultra", model).problem


@pytest.mark.parametrize("text", ["fastest", "missing.toml", "tuned"])
def test_what_cannot_take_part_says_why(text: str, model: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OMNI_SDK_CACHE_DIR", str(tmp_path))
    assert parse(text, model).problem.startswith("Expected")


def test_one_name_twice_is_refused(model: str) -> None:
    with pytest.raises(InputError, match="twice"):
        parse_all(["ultra", "ultra"], model)


def test_a_contender_survives_its_way_to_the_worker(model: str) -> None:
    contender = parse("ultra", model)
    assert Contender.from_dict(contender.to_dict()) == contender


def test_made_up_inputs_are_seeded_and_fit() -> None:
    feeds = make_up([CODES, GAIN], {"codes": (1, 16, 8)}, seed=3)
    again = make_up([CODES, GAIN], {"codes": (1, 16, 8)}, seed=3)
    assert feeds["codes"].dtype == np.int64
    assert set(np.unique(feeds["codes"])) == {0, 1}
    assert feeds["gain"].shape == (3,)
    assert all(np.array_equal(feeds[name], again[name]) for name in feeds)


@pytest.mark.parametrize(
    ("shapes", "match"),
    [
        ({}, "--shape codes=1,16,1"),
        ({"codes": (1, 8, 4)}, "fits codes"),
        ({"codes": (1, 16)}, "fits codes"),
        ({"codes": (1, 16, 0)}, "fits codes"),
        ({"codes": (1, 16, 4), "tone": (1,)}, "'tone'"),
    ],
)
def test_shapes_that_do_not_fit_are_named(shapes: dict[str, tuple[int, ...]], match: str) -> None:
    with pytest.raises(InputError, match=match):
        make_up([CODES, GAIN], shapes, seed=0)


def test_inputs_from_a_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "measured_feeds.py").write_text("def good(): return {'x': [1.0]}\ndef bad(): return 1 / 0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert call("measured_feeds:good")["x"].tolist() == [1.0]
    with pytest.raises(InputError, match="ZeroDivisionError"):
        call("measured_feeds:bad")
