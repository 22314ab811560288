"""Models whose file is sound and whose graph says something else: what an attacker writes, not what a disk does."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import onnx

NUMBERS = (0, 1, -1, 2, 3, 7, 100, 2**31 - 1, -(2**31), 2**40, 2**63 - 1, -(2**63))
WORDS = ("", "x", "y", "../x", "/etc/passwd", "Loop", "Resize", "ai.onnx.ml", "\u0000", "a" * 5000)

Place = tuple[Any, Any, Any]


def mutated_graph(content: bytes, rng: random.Random) -> bytes:
    """The model with one or a few of its fields changed, repeated or left out."""
    model = onnx.load_model_from_string(content)
    for _ in range(rng.choice((1, 1, 2, 4))):
        places = list(_places(model))
        words = [value for _, field, value in places if isinstance(value, str)]
        rng.choice((_change, _change, _change, _repeat, _leave_out))(*rng.choice(places), words, rng)
    return model.SerializeToString()


def _places(message: Any) -> Iterator[Place]:
    """Every value that is set, with the message that holds it and its field."""
    for field, value in message.ListFields():
        items = value if _is_repeated(field) else [value]
        for item in items:
            yield message, field, item
            if field.message_type is not None:
                yield from _places(item)


def _change(message: Any, field: Any, value: Any, words: list[str], rng: random.Random) -> None:
    """Another value of the type, of those that programs trip over; a message takes one of its neighbours' place."""
    changed = _other(value, words, rng)
    if not _is_repeated(field):
        if changed is not None:
            with suppress(ValueError):  # beyond what the field's type can hold
                setattr(message, field.name, changed)
        return
    items = getattr(message, field.name)
    index = rng.randrange(len(items))
    if changed is None:
        items[index].CopyFrom(rng.choice(list(items)))
    else:
        with suppress(ValueError):
            items[index] = changed


def _repeat(message: Any, field: Any, value: Any, words: list[str], rng: random.Random) -> None:
    if _is_repeated(field):
        for _ in range(rng.choice((1, 1, 3, 200))):
            getattr(message, field.name).extend([value])


def _leave_out(message: Any, field: Any, value: Any, words: list[str], rng: random.Random) -> None:
    if _is_repeated(field):
        items = getattr(message, field.name)
        del items[rng.randrange(len(items))]
    else:
        message.ClearField(field.name)


def _other(value: Any, words: list[str], rng: random.Random) -> Any:
    if isinstance(value, int):
        return rng.choice((value + 1, value - 1, *NUMBERS))
    if isinstance(value, float):
        return rng.choice((0.0, -1.0, 1e38, float("inf"), float("nan")))
    if isinstance(value, str):
        return rng.choice((*WORDS, *words))
    if isinstance(value, bytes):
        return rng.choice((b"", value[:-1], value + b"\0", value[::-1], rng.randbytes(len(value))))
    return None


def _is_repeated(field: Any) -> bool:
    return bool(field.is_repeated) if hasattr(field, "is_repeated") else field.label == field.LABEL_REPEATED
