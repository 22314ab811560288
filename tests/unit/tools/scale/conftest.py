"""The model that the tests of the service over HTTP ask, and the application in front of it."""

from __future__ import annotations

from collections.abc import Iterator

import graphs
import pytest

import omni_sdk as omni
from omni_sdk.tools.scale.http import Application
from omni_sdk.tools.scale.service import Limits, Service


@pytest.fixture(scope="module")
def model() -> Iterator[omni.Model]:
    with graphs.load(graphs.DOUBLE) as model:
        yield model


@pytest.fixture(scope="module")
def application(model: omni.Model) -> Application:
    return Application(Service(model, "double", Limits(max_body_bytes=4096)))
