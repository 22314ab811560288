"""How much of a mapped file is in memory, and letting go of it."""

from __future__ import annotations

import mmap
import sys

import pytest

from omni_sdk import mapped

SIZE = 8 << 20

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="known on Linux only")


def test_pages_are_counted_and_let_go_and_read_again(tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(b"\x07" * SIZE)
    other = tmp_path / "other"
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        assert view[:] == b"\x07" * SIZE
        assert mapped.usage([path]).resident >= SIZE
        assert mapped.usage([other]).resident == 0
        mapped.release([other])
        assert mapped.usage([path]).resident >= SIZE
        mapped.release([path])
        assert mapped.usage([path]).resident < SIZE // 8
        assert view[:] == b"\x07" * SIZE


def test_what_a_process_wrote_into_a_private_mapping_is_never_let_go(tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(b"\x07" * SIZE)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as view:
        view[100] = 9
        mapped.release([path])
        assert view[100] == 9
