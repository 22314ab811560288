"""What needs Ray says so where it is missing, and nothing else does."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from omni_sdk.cli import main
from omni_sdk.errors import OmniError
from omni_sdk.tools import scale


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name == "ray" or name.startswith("ray.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ray", None)


@pytest.mark.parametrize("name", ["InferBatches", "build"])
def test_the_remedy_is_named(no_ray, name):
    with pytest.raises(OmniError, match=r"pip install 'omni-sdk\[ray\]'"):
        getattr(scale, name)


def test_the_command_names_it(no_ray, tmp_path: Path):
    model = tmp_path / "m.onnx"
    model.write_bytes(b"")
    run = CliRunner().invoke(main, ["serve", str(model)])
    assert run.exit_code == 1
    assert "omni-sdk[ray]" in run.output


@pytest.mark.parametrize("command", [["serve"], ["export", "triton"]])
def test_two_shapes_of_one_input_are_refused(no_ray, command, tmp_path: Path):
    """The last of them would win in silence."""
    model = tmp_path / "m.onnx"
    model.write_bytes(b"")
    places = [str(model), *[str(tmp_path / "models")] * (command[0] == "export")]
    run = CliRunner().invoke(main, [*command, *places, "--warmup", "x=1,2", "--warmup", "x=1,3"])
    assert run.exit_code == 2
    assert "Expected each name once, got 'x' 2 times" in " ".join(run.output.split())


def test_other_names_are_no_names():
    with pytest.raises(AttributeError, match="nothing"):
        scale.nothing  # noqa: B018
