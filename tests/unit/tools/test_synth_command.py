"""What `omni-sdk synth` says of arguments that are missing."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from omni_sdk.cli import main


@pytest.mark.parametrize(
    ("arguments", "said"),
    [([], "Expected MODEL and CODES, or --demo, got neither."), (["m"], "Expected CODES beside MODEL, got m alone.")],
)
def test_the_argument_that_is_missing_is_named(arguments: list[str], said: str) -> None:
    done = CliRunner().invoke(main, ["synth", *arguments, "-o", "x.wav"])
    assert done.exit_code == 2
    assert said in done.output
