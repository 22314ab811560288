"""Kills writers at random instants and reads what they left: a script, so that it forks from one thread.

Usage: killing.py bundle|entries|compiled exchange|two-steps KILLS FOLDER
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

import omni_sdk as omni
from omni_sdk import folders
from omni_sdk.bundle import Bundle, create
from omni_sdk.entries import Entries

FILES = 6
BYTES = 200_000
KEYS = [f"{index:04x}{0:028x}" for index in range(3)]
WRITERS = 2


def fill(folder: Path, word: int) -> None:
    for index in range(FILES):
        (folder / f"{index}.bin").write_bytes(word.to_bytes(4, "little") * (BYTES // 4))


def is_filled(folder: Path, word: int) -> bool:
    return {(folder / f"{index}.bin").read_bytes() for index in range(FILES)} == {
        word.to_bytes(4, "little") * (BYTES // 4)
    }


def write_bundle(folder: Path, generation: int) -> None:
    with create(folder / "bundle") as draft:
        (draft.folder / "model.onnx").write_bytes(b"graph")
        fill(draft.folder, generation)
        draft.quality = {"generation": generation}


def bundle_is_whole(folder: Path) -> bool:
    bundle = Bundle.open(folder / "bundle", checksums=True)
    return is_filled(bundle.path, bundle.manifest.quality["generation"])


def use_entries(folder: Path, generation: int) -> None:
    """Fill or read entries of which there is room for two: each use may evict, drop and write."""
    store = Entries(folder / "cache", limit_bytes=2 * FILES * BYTES + 10_000)
    word = generation % len(KEYS)
    with store.holding(KEYS[word], lambda place: fill(place, word)) as place:
        if place is not None and not is_filled(place, word):
            os._exit(7)
    if generation % 5 == 0:
        store.drop(KEYS[word])


def entries_are_whole(folder: Path) -> bool:
    store = Entries(folder / "cache", limit_bytes=2 * FILES * BYTES + 10_000)
    for word, key in enumerate(KEYS):
        with store.holding(key, lambda place, word=word: fill(place, word)) as place:
            if place is None or not is_filled(place, word):
                return False
    return True


def use_compiled(folder: Path, generation: int) -> None:
    """Load one of three models through a cache with room for two, ask it, and now and then damage its entry."""
    factor = generation % 3 + 2
    x = np.arange(8, dtype=np.float32).reshape(1, 8)
    with omni.load(folder / f"{factor}.onnx", cache_dir=folder / "cache") as model:
        if not (model.infer(x=x)["y"] == factor * x).all():
            os._exit(7)
    if generation % 4 == 0:
        for place in (folder / "cache" / "compiled").glob("[0-9a-f]*/model.onnx"):
            with contextlib.suppress(OSError):
                os.truncate(place, 50)


def compiled_are_right(folder: Path) -> bool:
    """In a process of its own: this one forks and so must never have a session."""
    child = os.fork()
    if child == 0:
        for generation in (1, 2, 3):
            use_compiled(folder, generation)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


def save_models(folder: Path) -> None:
    os.environ["OMNI_SDK_CACHE_BYTES"] = "7000"
    for factor in (2, 3, 4):
        weights = numpy_helper.from_array(np.eye(8, dtype=np.float32) * factor, "w")
        value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 8]) for name in "xy"]
        graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", value[:1], value[1:], [weights])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        (folder / f"{factor}.onnx").write_bytes(model.SerializeToString())


KINDS: dict[str, tuple[Callable[[Path, int], None], Callable[[Path], bool]]] = {
    "bundle": (write_bundle, bundle_is_whole),
    "entries": (use_entries, entries_are_whole),
    "compiled": (use_compiled, compiled_are_right),
}


def main() -> int:
    kind, swap, kills, name = sys.argv[1:]
    if swap == "two-steps":
        folders._renameat2 = lambda: None
    write, is_whole = KINDS[kind]
    folder = Path(name)
    if kind == "compiled":
        save_models(folder)
        is_whole(folder)
    else:
        write(folder, 0)
    rng, broken = random.Random(5), 0
    for seed in range(1, int(kills) + 1):
        children = []
        for writer in range(WRITERS):
            child = os.fork()
            if child == 0:
                for generation in range((seed * WRITERS + writer) * 100_000, 2**31):
                    write(folder, generation)
            children.append(child)
        time.sleep(rng.uniform(0.0, 0.03))
        for child in children:
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            broken += not os.WIFSIGNALED(status)
        broken += not is_whole(folder)
    if kind != "compiled":
        write(folder, 0)
    else:
        folders.sweep_inside(folder / "cache" / "compiled")
    left = [
        entry for place in (folder, folder / "cache", folder / "cache" / "compiled") for entry in place.glob(".*.p*")
    ]
    print(f"broken {broken}, left behind: {left}")
    return 0 if not left else 1


if __name__ == "__main__":
    sys.exit(main())
