"""Fuzzes one reader of bytes with atheris: fuzz.py TARGET SECONDS.

Begins with the corpus that is checked in. What it finds is left in the working directory as `crash-*`, to be replayed
with `python tests/fuzz/fuzz.py TARGET 1 FILE`.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from pathlib import Path

import atheris

CORPUS = Path(__file__).with_name("corpus")


def main() -> None:
    name, seconds, *replayed = sys.argv[1:]
    with atheris.instrument_imports(include=["omni_sdk"]):
        target = importlib.import_module(f"targets.{name}")
        from omni_sdk.errors import OmniError

    def read(data: bytes) -> None:
        try:
            target.read(data)
        except OmniError:
            pass

    with tempfile.TemporaryDirectory() as grown:
        places = replayed or [grown, str(CORPUS / name)]
        limits = [f"-max_total_time={seconds}", "-max_len=8192", "-timeout=20", "-rss_limit_mb=4096"]
        atheris.Setup([sys.argv[0], *limits, "-print_final_stats=1", *places], read)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
