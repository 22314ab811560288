"""The order of passes, and that what is documented is what runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from omni_sdk.tools.prepare.rules.order import CONV1D_PASSES, PASSES, QUANTIZED_PASSES, passes

DOCS = Path(__file__).parents[5] / "docs" / "prepare.md"


@pytest.mark.parametrize("title", [each.title for each in (*PASSES, *CONV1D_PASSES, *QUANTIZED_PASSES)])
def test_every_pass_is_documented(title):
    assert f"`{title}`" in DOCS.read_text()


def test_titles_are_unique():
    titles = [each.title for each in (*PASSES, *CONV1D_PASSES, *QUANTIZED_PASSES)]
    assert len(set(titles)) == len(titles)


def test_other_engines_get_neither_our_operators_nor_onnxruntimes():
    left_out = {each.title for each in PASSES} - {each.title for each in passes(operators=False, onnxruntime=False)}
    assert left_out == {"rms-norm", "snake", "shuffle-snake", "add-snake"}


def test_what_a_pass_needs_comes_before_it():
    titles = [each.title for each in PASSES]
    for earlier, later in [
        ("constant-folding", "snake"),
        ("static-bounds", "no-ops"),
        ("slice-into-conv-transpose", "conv-transpose-as-conv"),
        ("conv-transpose-as-conv", "shuffle-snake"),
        ("snake", "shuffle-snake"),
        ("snake", "add-snake"),
    ]:
        assert titles.index(earlier) < titles.index(later)
