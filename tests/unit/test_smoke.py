"""The smoke script: a table for people, JSON for scripts, and status 0 only where every promise held."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from omni_sdk import smoke
from omni_sdk.smoke import Check


@pytest.fixture(scope="module")
def found():
    return list(smoke.checks())


def test_every_promise_holds_here(found):
    assert [check for check in found if not check.held] == []
    assert len({check.name for check in found}) == len(found) == 9


def test_json_and_table_say_the_same(found, monkeypatch, capsys):
    monkeypatch.setattr(smoke, "checks", lambda: iter(found))
    assert smoke.main(["--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["ok"] is True
    assert [check["name"] for check in said["checks"]] == [check.name for check in found]
    assert {"cpu", "cores", "memory", "python", "onnxruntime", "numpy"} <= said["device"].keys()
    assert smoke.main([]) == 0
    table = capsys.readouterr().out
    assert table.count(" ok  ") == len(found)
    assert all(check.seen in table for check in found)
    assert table.endswith("every promise held\n")


@pytest.mark.parametrize("arguments", [[], ["--json"]])
def test_one_broken_promise_is_a_failure(monkeypatch, capsys, arguments):
    monkeypatch.setattr(smoke, "checks", lambda: iter([Check("a", True, "fine"), Check("b", False, "broken")]))
    assert smoke.main(arguments) == 1
    out = capsys.readouterr().out
    assert "broken" in out
    assert json.loads(out)["ok"] is False if arguments else "FAILED  b: broken" in out


def test_an_exception_is_reported_with_what_was_found_before(monkeypatch, capsys):
    def checks():
        yield Check("a", True, "fine")
        raise RuntimeError("out of luck")

    monkeypatch.setattr(smoke, "checks", checks)
    assert smoke.main([]) == 1
    out = capsys.readouterr().out
    assert "ok  a: fine" in out
    assert "FAILED  no exception: RuntimeError: out of luck" in out


def test_a_broken_operators_library_is_seen(monkeypatch, tmp_path):
    library = tmp_path / "_kernels.so"
    library.write_bytes(b"no library")
    monkeypatch.setattr(smoke, "kernels_library", lambda: library)
    assert not smoke._kernels().held


def test_it_runs_as_a_module():
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "omni_sdk.smoke", "--json"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=env)
    assert (run.returncode, run.stderr) == (0, "")
    assert json.loads(run.stdout)["ok"] is True
