"""Exports of the golden checkpoints give the waveforms that `transformers` gave; needs no PyTorch.

`scripts/make_golden.py` makes the files.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import omni_sdk as omni
from omni_sdk.tools.export import code2wav

GOLDEN = Path(__file__).parents[1] / "golden"
TOLERANCE = 1e-5
"""Of waveforms at a level of 0.1; what is seen is 1e-6."""

CASES = sorted(path.parent for path in GOLDEN.glob("*/waveforms.npz"))


@pytest.fixture(params=CASES, ids=[path.name for path in CASES])
def case(request: pytest.FixtureRequest) -> Path:
    folder: Path = request.param
    return folder


def test_there_are_golden_cases() -> None:
    assert {path.name for path in CASES} == {"grouped", "plain"}


@pytest.mark.parametrize("streaming", [False, True], ids=["one-shot", "streaming"])
def test_each_form_gives_the_waveforms_of_transformers(case: Path, streaming: bool, tmp_path: Path) -> None:
    code2wav(case, tmp_path / "bundle", streaming=streaming)
    golden = np.load(case / "waveforms.npz")
    frames = [int(name.removeprefix("codes.")) for name in golden.files if name.startswith("codes.")]
    assert {1, 2, 40} <= set(frames)
    with omni.load(tmp_path / "bundle", cache_dir=None) as model:
        for count in frames:
            found = model.infer(audio_codes=golden[f"codes.{count}"])["waveform"]
            expected = golden[f"waveform.{count}"]
            assert np.abs(expected).max() > 0.01
            np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("size", [1, 3, 7])
def test_streamed_in_steps_it_gives_them_too(case: Path, size: int, tmp_path: Path) -> None:
    code2wav(case, tmp_path / "bundle")
    golden = np.load(case / "waveforms.npz")
    codes = golden["codes.40"]
    with omni.load(tmp_path / "bundle", cache_dir=None) as model, model.stream() as stream:
        chunks = (np.ascontiguousarray(codes[..., begin : begin + size]) for begin in range(0, 40, size))
        pieces = [stream.step(audio_codes=chunk)["waveform"] for chunk in chunks]
    np.testing.assert_allclose(np.concatenate(pieces, -1), golden["waveform.40"], rtol=0, atol=TOLERANCE)
