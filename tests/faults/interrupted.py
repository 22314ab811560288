"""Does one thing again and again until a signal comes: a script, so that the signal is not the test run's.

Usage: interrupted.py load|run|prepare|tune FOLDER

Says "ready" before the first time. On SIGINT it makes sure that the model still answers as it did, and says "usable".
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from victims import SETTINGS, WIDTH

import omni_sdk as omni

X = np.linspace(-1, 1, 2 * WIDTH, dtype=np.float32).reshape(2, WIDTH)


def load_again(folder: Path, generation: int) -> None:
    """Through a compile cache, each time for other settings, so that each builds an entry."""
    level = ("basic", "extended", "all")[generation % 3]
    settings = SETTINGS.replace(graph_optimization_level=level, prepacking=generation % 2 == 0)
    with omni.load(folder / "model.onnx", settings, cache_dir=folder / f"cache-{generation % 5}") as model:
        model.infer(x=X)


def prepare_again(folder: Path, generation: int) -> None:
    from omni_sdk.tools.prepare import prepare

    prepare(folder / "model.onnx", folder / "bundle", quantize=False, measure=False)


def tune_again(folder: Path, generation: int) -> None:
    from omni_sdk.tools.bench import Effort
    from omni_sdk.tools.tune import tune

    tune(folder / "model.onnx", shapes={"x": (2, WIDTH)}, effort=Effort(seconds=0.05), cache_dir=folder, rounds=2)


def main() -> None:
    action, folder = sys.argv[1], Path(sys.argv[2])
    with omni.load(folder / "model.onnx", SETTINGS, cache_dir=None) as model:
        right = model.infer(x=X)["y"]
        actions: dict[str, Callable[[Path, int], object]] = {
            "load": load_again,
            "run": lambda *_: model.infer(x=X),
            "prepare": prepare_again,
            "tune": tune_again,
        }
        print("ready", flush=True)
        try:
            for generation in range(1_000_000):
                actions[action](folder, generation)
        except KeyboardInterrupt:
            for _ in range(3):
                assert (model.infer(x=X)["y"] == right).all()
            load_again(folder, 0)
            print("usable", flush=True)


if __name__ == "__main__":
    main()
