"""Prints pyproject's lower bounds as pip constraints, a line a dependency: what `scripts/test-oldest` installs.

Linters are left out: no test runs them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import tomli
from packaging.requirements import Requirement

PYPROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"
EXTRAS = ("cli", "export", "prepare", "bench", "eval", "dev")
LINTERS = {"ruff", "mypy"}


def bounds(project: dict[str, object]) -> Iterator[str]:
    """`name==bound` for each requirement of the runtime and of the extras that the tests need."""
    extras = project["optional-dependencies"]
    assert isinstance(extras, dict) and isinstance(project["dependencies"], list)
    lines = project["dependencies"] + [line for extra in EXTRAS for line in extras[extra]]
    for requirement in map(Requirement, lines):
        if requirement.name in {"omni-sdk", *LINTERS}:
            continue
        lower = [specifier.version for specifier in requirement.specifier if specifier.operator == ">="]
        assert len(lower) == 1, f"Expected one lower bound, got {requirement.specifier} - at {requirement.name}"
        yield f"{requirement.name}=={lower[0]}"


if __name__ == "__main__":
    print("\n".join(sorted(set(bounds(tomli.loads(PYPROJECT.read_text())["project"])))))
