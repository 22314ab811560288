"""Fixtures that several unit tests share."""

from __future__ import annotations

import pytest
from kernels import supported_variants


@pytest.fixture(params=supported_variants())
def variant(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Has the operators of sessions made in this test use one instruction set, each that this processor has in turn."""
    monkeypatch.setenv("OMNI_SDK_KERNELS", request.param)
    return str(request.param)
