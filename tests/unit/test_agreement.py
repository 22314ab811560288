"""A manifest that speaks of another graph is refused at load, with a sentence."""

from __future__ import annotations

import graphs
import pytest

import omni_sdk as omni
from omni_sdk.agreement import OPERATORS
from omni_sdk.bundle import Audio, create
from omni_sdk.errors import BundleError

STEP = """g (float[1, n] x, float[1, 4] h) => (double[1, m] y, float[1, 4] hn) {
    y = Cast<to = 11>(x)
    hn = Neg(h)
}"""
AUDIO = {"sample_rate": 16, "hop": 3, "input": "x", "output": "y"}


def bundle(path, **fields):
    with create(path) as draft:
        (draft.folder / "model.onnx").write_bytes(graphs.serialized(STEP))
        for name, value in {"state": {"h": "hn"}, "audio": Audio(**AUDIO), **fields}.items():
            setattr(draft, name, value)
    return path


@pytest.mark.parametrize("operators", [0, OPERATORS])
def test_what_agrees_is_loaded(tmp_path, operators):
    with omni.load(bundle(tmp_path / "b", operators=operators), cache_dir=None) as model:
        assert model.stream().step(x=[[1.0, 2.0]])["y"].tolist() == [[1, 2]]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"state": {"h": "none"}}, "got 'none'"),
        ({"state": {"none": "hn"}}, "got 'none'"),
        ({"state": {"h": "y"}, "audio": None}, "like h: float"),
        ({"audio": Audio(**{**AUDIO, "input": "none"})}, r"\(x\), got 'none' - at .*audio\.input"),
        ({"audio": Audio(**{**AUDIO, "input": "h"})}, r"\(x\), got 'h' - at .*audio\.input"),
        ({"audio": Audio(**{**AUDIO, "output": "none"})}, r"\(y\), got 'none' - at .*audio\.output"),
        ({"audio": Audio(**{**AUDIO, "output": "hn"})}, r"\(y\), got 'hn' - at .*audio\.output"),
        ({"operators": OPERATORS + 1}, f"version {OPERATORS} or earlier, got {OPERATORS + 1}"),
    ],
)
@pytest.mark.parametrize("max_chunk", [None, 4])
def test_what_does_not_agree_is_refused(tmp_path, fields, says, max_chunk):
    with pytest.raises(BundleError, match=says):
        omni.load(bundle(tmp_path / "b", **fields), omni.Settings(max_chunk=max_chunk), cache_dir=None)


def test_states_are_left_out_of_shapes_as_they_are_of_feeds(tmp_path):
    with omni.load(bundle(tmp_path / "b"), cache_dir=None) as model:
        assert dict(model.warmup({"x": (1, 3)}, passes=1).shapes[0].shapes) == {"x": (1, 3), "h": (1, 4)}
