"""`omni-sdk export code2wav` from the command line to a bundle that opens."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from omni_sdk.bundle import Bundle
from omni_sdk.cli import main


@pytest.fixture(autouse=True)
def somewhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["export", "code2wav", *arguments])


def test_a_reference_needs_no_place_and_keeps_no_checkpoint() -> None:
    result = call("--reference", "--seed", "3")
    assert result.exit_code == 0, result.output
    assert [path.name for path in Path().iterdir()] == ["code2wav-reference"]
    manifest = Bundle.open("code2wav-reference", checksums=True).manifest
    assert manifest.state["past.position"] == "present.position"
    assert manifest.audio is not None and (manifest.audio.hop, manifest.audio.first_chunk_deficit) == (1920, 555)


def test_a_kept_checkpoint_exports_to_the_same_weights_again() -> None:
    assert call("--reference", "checkpoint", "first").exit_code == 0
    assert call("checkpoint", "second").exit_code == 0
    weights = [(Path(name) / "weights.bin").read_bytes() for name in ("first", "second")]
    assert weights[0] == weights[1]


def test_the_seed_decides_the_weights_and_one_shot_has_no_state() -> None:
    call("--reference", "--one-shot", "first")
    result = call("--reference", "--one-shot", "--seed", "1", "second")
    assert "one-shot" in result.output
    assert not Bundle.open("second").manifest.state
    assert (Path("first") / "weights.bin").read_bytes() != (Path("second") / "weights.bin").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["checkpoint"], "Expected CHECKPOINT and OUT, got 1"),
        (["--full", "checkpoint", "out"], "Expected --full and --seed with --reference"),
        (["--reference", "a", "b", "c"], "Expected at most CHECKPOINT and OUT, got 3"),
        (["no-such-folder", "out"], "Expected a checkpoint's folder or a hub id, got neither - at no-such-folder"),
    ],
)
def test_wrong_use_is_told_and_leaves_nothing(arguments: list[str], message: str) -> None:
    result = call(*arguments)
    assert result.exit_code != 0
    assert message in result.output
    assert list(Path().iterdir()) == []
