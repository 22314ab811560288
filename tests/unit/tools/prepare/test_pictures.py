"""Where the report goes: looked at before the work begins, and a sentence where it still fails."""

from __future__ import annotations

import os
from pathlib import Path

import onnx_ir as ir
import pytest
from click.testing import CliRunner

from omni_sdk import InputError
from omni_sdk.cli import main
from omni_sdk.tools.prepare import prepare
from omni_sdk.tools.prepare.pictures import save_report


@pytest.fixture
def model(tmp_path: Path) -> Path:
    text = """<ir_version: 9, opset_import: ["" : 18]> agraph (float[N] x) => (float[N] y) { y = Neg(x) }"""
    ir.save(ir.from_onnx_text(text), tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


@pytest.mark.parametrize("place", ["taken", "taken/deep", "closed/deep"])
def test_a_folder_that_takes_no_report_is_refused_first(model, tmp_path, monkeypatch, place):
    (tmp_path / "taken").write_text("no folder")
    (tmp_path / "closed").mkdir()
    can = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: "closed" not in str(path) and can(path, mode))
    arguments = ["prepare", str(model), str(tmp_path / "out"), "--no-measure", "--report", str(tmp_path / place)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1
    assert "Expected a folder for the report, got" in result.output and place in result.output
    assert not (tmp_path / "out").exists()


def test_a_report_may_go_into_the_bundle(model, tmp_path):
    arguments = ["prepare", str(model), str(tmp_path / "out"), "--no-measure", "--report", str(tmp_path / "out/report")]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    assert (tmp_path / "out" / "report" / "report.md").exists()


def test_a_report_that_cannot_be_written_after_all_is_a_sentence(model, tmp_path):
    report = prepare(model, tmp_path / "out", measure=False)
    (tmp_path / "report" / "report.json").mkdir(parents=True)
    with pytest.raises(InputError, match="Expected to write a report, got Is a directory"):
        save_report(report, tmp_path / "report")
