"""The fixture that rewrites models written as ONNX text."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from modeltext import Rewriting, rewriting


@pytest.fixture
def rewrite(tmp_path: Path) -> Callable[..., Rewriting]:
    """`modeltext.rewriting` in a folder of the test's own."""
    return partial(rewriting, tmp_path)
