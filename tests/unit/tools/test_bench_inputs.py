"""Contenders by name, and inputs made up, read or called for."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from omni_sdk import InputError, Settings, TensorSpec
from omni_sdk.cli import main
from omni_sdk.tools.evaluate.values import plain_arrays, read_written, write_arrays
from omni_sdk.tools.measure.contenders import Contender, parse, parse_all
from omni_sdk.tools.measure.engines import Engine
from omni_sdk.tools.measure.inputs import call, make_up
from omni_sdk.tools.measure.schedule import Effort, _worst_snr, inputs_file
from omni_sdk.tools.measure.worker import MOST_KEPT, Thinned

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


def test_a_function_that_exits_gives_no_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "leaving_feeds.py").write_text("import sys\n\ndef make():\n    sys.exit(0)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    with pytest.raises(InputError, match="got SystemExit: 0 - at leaving_feeds:make"):
        call("leaving_feeds:make")


def test_a_folder_named_like_a_contender_does_not_stand_before_it(
    model: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("baseline", "session"):
        (tmp_path / name).mkdir()
    assert parse("baseline", model).model == model
    assert parse("session", model).kind == "session"
    assert parse("./baseline", model).model == "./baseline"


def test_the_sign_between_model_and_settings_may_stand_in_either(model: str, tmp_path: Path) -> None:
    settings = tmp_path / "me@home.toml"
    settings.write_text("intra_op_num_threads = 1\n")
    other = tmp_path / "v1@2.onnx"
    other.write_bytes(b"x")
    alone, both = parse(str(settings), model), parse(f"{other}@{settings}", model)
    assert (alone.model, both.model) == (model, str(other))
    assert [each.settings.intra_op_num_threads for each in (alone, both) if each.settings] == [1, 1]
    assert parse(str(other), model).model == str(other)


def test_a_settings_file_that_is_missing_is_said_to_be(model: str) -> None:
    assert parse("missing.toml", model).problem == "Expected a settings file, got no such file - at missing.toml"


RATE = TensorSpec.of("sr", "tensor(int64)", [])


def test_values_stand_where_zero_and_one_will_not_do() -> None:
    feeds = make_up([RATE, GAIN], {}, seed=0, values={"sr": 16000, "gain": 0.5})
    assert (feeds["sr"].shape, feeds["sr"].dtype, int(feeds["sr"])) == ((), np.int64, 16000)
    assert feeds["gain"].tolist() == [0.5] * 3
    given = make_up([CODES], {}, seed=0, values={"codes": [[[5, 6]] * 16]})["codes"]
    assert given.shape == (1, 16, 2)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"sr": 0.5}, "numbers of type int64, got 0.5"),
        ({"sr": "fast"}, "numbers of type int64"),
        ({"sr": 1 << 70}, "numbers of type int64"),
        ({"gain": [1, 2]}, "fits gain"),
        ({"gain": 1e300}, "numbers of type float, got 1e\\+300"),
        ({"tone": 1}, "Expected values of sr, gain, got 'tone'"),
    ],
)
def test_values_that_do_not_fit_are_refused(values: dict[str, Any], match: str) -> None:
    with pytest.raises(InputError, match=match):
        make_up([RATE, GAIN], {}, seed=0, values=values)


def test_files_of_inputs_complete_one_another(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.ones(2))
    np.savez(tmp_path / "b.npz", y=np.ones(3))
    both = [tmp_path / "a.npz", tmp_path / "b.npz"]
    with inputs_file("no matter", inputs=both, shapes=None, seed=0) as (_, shapes):
        assert shapes == {"x": [2], "y": [3]}
    with (
        pytest.raises(InputError, match="Expected each input once, got 'x' again"),
        inputs_file("no matter", inputs=[both[0], both[0]], shapes=None, seed=0),
    ):
        pass


def test_any_name_and_any_kind_of_output_survives_its_way(tmp_path: Path) -> None:
    outputs = {"file": np.arange(3), "words": np.array(["a", "ñ"], object), "ragged": [np.zeros(2), np.zeros(3)],
               "scores": [{"hi": 0.5}], "none": []}  # fmt: skip
    plain = plain_arrays(outputs)
    assert list(plain) == ["file", "words", "ragged[]", "ragged[0]", "ragged[1]", "scores[]", "scores[0][]",
                           "scores[0]['hi']", "none"]  # fmt: skip
    write_arrays(tmp_path / "o.npz", plain)
    again = read_written(tmp_path / "o.npz")
    assert list(again) == list(plain)
    assert all(np.array_equal(again[name], plain[name]) for name in plain)


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("wanted", "found", "expected"),
    [
        ([1.0, 2.0], [1.0, 2.0], INF),
        ([1.0, NAN, INF], [1.0, NAN, INF], INF),
        ([1.0, NAN], [2.0, NAN], 0.0),
        ([1.0, NAN], [1.0, 2.0], -INF),
        ([1.0, INF], [1.0, -INF], -INF),
        ([1.0, 2.0], [1.0, NAN], -INF),
        (["a", "b"], ["a", "b"], INF),
        (["a", "b"], ["a", "c"], -INF),
        (["1"], [1.0], -INF),
    ],
)
def test_equal_means_that_everything_was_compared(wanted: list[Any], found: list[Any], expected: float) -> None:
    snr = _worst_snr({"y": np.array(wanted)}, {"y": np.array(found)})
    assert snr == pytest.approx(expected)


def test_values_that_numpy_has_no_name_for_are_compared_as_floats() -> None:
    array = np.array([1.5, -2.0], "f4").astype(pytest.importorskip("ml_dtypes").bfloat16)
    found = plain_arrays({"y": array})
    assert found["y"].dtype == np.float32
    assert found["y"].tolist() == [1.5, -2.0]


def test_latencies_are_thinned_evenly() -> None:
    thinned = Thinned()
    for position in range(20_000):
        thinned.append(float(position))
    assert MOST_KEPT / 2 <= len(thinned.kept) <= MOST_KEPT
    assert set(np.diff(thinned.kept)) == {8.0}


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"seconds": math.nan}, "at seconds"),
        ({"seconds": -1.0}, "at seconds"),
        ({"runs": (0, None)}, "at runs"),
        ({"runs": (5, 3)}, "at runs"),
        ({"seconds": 10.0, "timeout": 5.0}, "at timeout"),
    ],
)
def test_an_effort_that_measures_nothing_is_refused(options: dict[str, Any], match: str) -> None:
    with pytest.raises(InputError, match=match):
        Effort(**options)


def test_the_warm_up_runs_on_what_is_measured() -> None:
    """Zeros are another matter to a model that divides by an input, or repeats something so many times."""
    seen: list[np.ndarray] = []

    class Watched(Engine):
        def load(self) -> None: ...

        def run(self, feeds: Mapping[str, Any]) -> Mapping[str, Any]:
            seen.append(feeds["x"])
            return {}

    Watched(Contender("watched", "callable", "m.onnx")).warm_up({"x": np.array([2, 3])})
    assert len(seen) >= 2
    assert all(x.tolist() == [2, 3] for x in seen)


@pytest.mark.parametrize("command", ["bench", "tune"])
@pytest.mark.parametrize("twice", [["-s", "x=1", "-s", "x=2"], ["--value", "x=1", "--value", "x=2"]])
def test_a_name_that_comes_twice_is_refused(model: str, command: str, twice: list[str]) -> None:
    """The last of them would win in silence."""
    result = CliRunner().invoke(main, [command, model, *twice])
    assert result.exit_code == 2
    assert "Expected each name once, got 'x' 2 times" in " ".join(result.output.split())
