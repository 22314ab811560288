"""The source distribution builds: it has every file that the compiled parts are made of."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = [
    path.relative_to(ROOT).as_posix()
    for folder in ("ext", "omni_sdk")
    for kind in ("*.pyx", "*.pxd")
    for path in (ROOT / folder).glob(kind)
]


@pytest.mark.skipif(not SOURCES, reason="the tests run against an installed package")
def test_the_manifest_names_what_cython_reads():
    lines = (line.split() for line in (ROOT / "MANIFEST.in").read_text().splitlines())
    included = [pattern for word, *patterns in filter(None, lines) if word == "include" for pattern in patterns]
    assert [each for each in SOURCES if not any(fnmatch(each, pattern) for pattern in included)] == []
