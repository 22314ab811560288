"""A tiny checkpoint for all tests of the folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_config import TINY

from omni_sdk.tools.export import reference_checkpoint


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reference checkpoint of the tiny sizes; not to be changed."""
    return reference_checkpoint(tmp_path_factory.mktemp("tiny"), config=TINY)
