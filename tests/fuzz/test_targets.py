"""Every reader of bytes: its corpus is read, and of what is damaged it says so with an error of ours.

The corpora are those that `scripts/fuzz` begins with; here they are damaged by seeds, so that this runs where atheris
does not.
"""

from __future__ import annotations

import importlib
import random
from pathlib import Path

import pytest
from mutations import mutated

from omni_sdk.errors import OmniError

HERE = Path(__file__).parent
TARGETS = sorted(path.stem for path in (HERE / "targets").glob("[a-z]*.py"))
FEW, MANY = 60, 3000


def corpus(name: str) -> list[Path]:
    return sorted((HERE / "corpus" / name).iterdir())


def test_every_target_has_a_corpus_and_every_corpus_a_target():
    assert sorted(path.name for path in (HERE / "corpus").iterdir()) == TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus_is_read(name):
    target = importlib.import_module(f"targets.{name}")
    for path in corpus(name):
        if path.name.startswith("refused"):
            with pytest.raises(OmniError):
                target.read(path.read_bytes())
        else:
            target.read(path.read_bytes())


@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.heavy)])
@pytest.mark.parametrize("name", TARGETS)
def test_what_is_damaged_is_refused_or_read(name, count):
    target, rng = importlib.import_module(f"targets.{name}"), random.Random(name)
    contents = [path.read_bytes() for path in corpus(name)]
    refused = 0
    for number in range(count):
        data = mutated(rng.choice(contents), rng)
        try:
            target.read(data)
        except OmniError:
            refused += 1
        except Exception as error:
            raise AssertionError(f"{name} damaged file {number}: {data[:2000]!r}") from error
    assert refused or name == "graph_scan"  # which answers None instead
