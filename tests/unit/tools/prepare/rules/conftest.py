"""The fixtures that rewrite models written as ONNX text."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from modeltext import Rewriting, rewriting
from qdqtext import Requantized


@pytest.fixture
def rewrite(tmp_path: Path) -> Callable[..., Rewriting]:
    """`modeltext.rewriting` in a folder of the test's own."""
    return partial(rewriting, tmp_path)


@pytest.fixture
def requantized(tmp_path: Path) -> Callable[..., Requantized]:
    """`qdqtext.Requantized` in a folder of the test's own."""
    return partial(Requantized, tmp_path)
