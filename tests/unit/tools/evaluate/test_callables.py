"""The user's own functions, found by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from omni_sdk.errors import InputError
from omni_sdk.tools.evaluate.callables import load_callable


def test_a_function_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_stages.py").write_text("class Box:\n    double = staticmethod(lambda x: 2 * x)\n")
    monkeypatch.setattr("sys.path", __import__("sys").path.copy())
    assert load_callable("my_stages:Box.double", folder=tmp_path)(4) == 8


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("math.sqrt", "'module:function', got 'math.sqrt'"),
        (":sqrt", "'module:function'"),
        ("no_such_module:f", "ModuleNotFoundError"),
        ("math:nothing", "Expected a function, got NoneType"),
        ("math:pi", "Expected a function, got float"),
    ],
)
def test_what_other_names_get(name: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        load_callable(name)


def test_a_module_that_fails_to_import_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_stage.py").write_text("1 / 0\n")
    monkeypatch.setattr("sys.path", __import__("sys").path.copy())
    with pytest.raises(InputError, match="ZeroDivisionError"):
        load_callable("broken_stage:f", folder=tmp_path)


def test_a_script_that_ends_when_it_is_imported_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "whole_script.py").write_text("import sys\n\ndef f(): ...\n\nsys.exit(0)\n")
    monkeypatch.setattr("sys.path", __import__("sys").path.copy())
    with pytest.raises(InputError, match="SystemExit"):
        load_callable("whole_script:f", folder=tmp_path)
