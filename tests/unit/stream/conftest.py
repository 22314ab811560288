"""The model that most tests of streams run."""

from __future__ import annotations

import graphs
import pytest
from summing import SUMS


@pytest.fixture
def model():
    with graphs.load(SUMS, intra_op_num_threads=1) as model:
        yield model
