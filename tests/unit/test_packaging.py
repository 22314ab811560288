"""The source distribution builds, and what is built elsewhere: they have every file that they are made of."""

from __future__ import annotations

import os
import subprocess
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


# Stands for Python and for pip: looks whether what it is given is there.
INTERPRETER = """#!/bin/sh
set -e
for word; do
    case $word in
    install) ls setup.py pyproject.toml README.md ext/_keys.pyx ext/kernels omni_sdk/__init__.py ;;
    tests/*) ls "$word" ;;
    */venv) mkdir -p "$word/bin"; cp "$0" "$word/bin/pip"; cp "$0" "$word/bin/python" ;;
    esac
done
"""


@pytest.mark.skipif(not SOURCES or os.name != "posix", reason="needs the sources and a shell")
def test_the_free_threaded_suite_finds_its_sources_and_tests(tmp_path):
    python = tmp_path / "python3.14t"
    python.write_text(INTERPRETER)
    python.chmod(0o755)
    script = ROOT / "scripts" / "test-free-threaded"
    env = {**os.environ, "PYTHON": str(python), "TMPDIR": str(tmp_path)}
    done = subprocess.run([script], env=env, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "tests/unit/test_buffers.py" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == [python.name]  # nothing is left
