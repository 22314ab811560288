"""Positive controls: what the damaging of files begins with is whole, and each kind of damage is one."""

from __future__ import annotations

import random

import pytest
from mutations import MUTATIONS
from victims import VICTIMS, load_and_try, snake


@pytest.mark.parametrize("name", VICTIMS)
def test_undamaged_every_victim_is_of_use(name, tmp_path):
    victim = VICTIMS[name]
    victim.make(tmp_path)
    files = sorted(path for path in tmp_path.glob(victim.files) if path.is_file() and path.stat().st_size)
    assert files
    for path in files:
        if name != "bundle" or path.name == "manifest.json":
            victim.use(tmp_path, path)


def test_the_operators_of_ours_take_part():
    assert load_and_try(snake()) is not None


@pytest.mark.parametrize("mutation", dict.fromkeys(MUTATIONS), ids=lambda mutation: mutation.__name__)
def test_each_mutation_changes_something(mutation):
    before = bytes(range(200))
    changed = 0
    for seed in range(20):
        data = bytearray(before)
        mutation(data, random.Random(seed))
        changed += data != before
    assert changed >= 15
