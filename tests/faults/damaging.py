"""Damages files and uses them, case by case: a script, so that a crash is not the test run's.

Usage: damaging.py VICTIM FIRST_SEED END_SEED FOLDER

Prints "case", the seed and the verdict, the last when it is known. A case that hangs ends the process with every
stack shown.
"""

from __future__ import annotations

import faulthandler
import logging
import random
import resource
import sys
from pathlib import Path

from victims import VICTIMS, fresh_copy

import omni_sdk as omni

HANG_SECONDS = 30
ADDRESS_SPACE_BYTES = 6 << 30


def verdict(name: str, seed: int, folder: Path) -> str:
    victim, rng = VICTIMS[name], random.Random(f"{name} {seed}")
    path = fresh_copy(folder / "whole", folder / "case", victim, rng)
    before = path.read_bytes()
    path.write_bytes(next(after for after in iter(lambda: victim.mutate(before, rng), None) if after != before))
    try:
        victim.use(folder / "case", path)
    except (omni.OmniError, TimeoutError):
        return "refused"
    except BaseException as error:
        return f"WRONG {path.name}: {type(error).__name__}: {error}".replace("\n", " ")
    return "harmless"


def main() -> None:
    name, first, end, place = sys.argv[1:]
    logging.disable(logging.CRITICAL)
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES))
    folder = Path(place)
    if not (folder / "whole").exists():
        (folder / "whole").mkdir(mode=0o700)
        VICTIMS[name].make(folder / "whole")
    for seed in range(int(first), int(end)):
        print(f"case {seed}", end=" ", flush=True)
        faulthandler.dump_traceback_later(HANG_SECONDS, exit=True)
        print(verdict(name, seed, folder), flush=True)
    faulthandler.cancel_dump_traceback_later()


if __name__ == "__main__":
    main()
