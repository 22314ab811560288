"""Ways in which a file goes bad, on a disk, on the way, or on purpose; each decided by a seed."""

from __future__ import annotations

import random
from collections.abc import Callable

Mutation = Callable[[bytearray, random.Random], None]


def flip_bits(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 1, 2, 8))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def cut_short(data: bytearray, rng: random.Random) -> None:
    del data[rng.randrange(len(data)) :]


def cut_out(data: bytearray, rng: random.Random) -> None:
    begin, end = _range(data, rng)
    del data[begin:end]


def swap_ranges(data: bytearray, rng: random.Random) -> None:
    size = rng.randint(1, max(1, len(data) // 4))
    one, other = (rng.randrange(max(1, len(data) - size)) for _ in range(2))
    data[one : one + size], data[other : other + size] = data[other : other + size], data[one : one + size]


def random_bytes(data: bytearray, rng: random.Random) -> None:
    begin, end = _range(data, rng)
    data[begin:end] = rng.randbytes(end - begin)


def zeros(data: bytearray, rng: random.Random) -> None:
    begin, end = _range(data, rng)
    data[begin:end] = bytes(end - begin)


def giant_number(data: bytearray, rng: random.Random) -> None:
    """Where a size stands, in protobuf's or flatbuffers' way of writing it, it is now one that nothing can have."""
    begin = rng.randrange(len(data))
    number = rng.choice((b"\xff\xff\xff\xff\x07", b"\xff" * 8 + b"\x7f", b"\xff\xff\xff\x7f", b"\xff" * 9 + b"\x01"))
    data[begin : begin + rng.choice((1, len(number)))] = number


def repeat_range(data: bytearray, rng: random.Random) -> None:
    begin, end = _range(data, rng)
    data[begin:begin] = data[begin:end] * rng.choice((1, 2, 50))


def add_bytes(data: bytearray, rng: random.Random) -> None:
    place = rng.choice((len(data), rng.randrange(len(data))))
    data[place:place] = rng.randbytes(rng.randint(1, 64))


def nothing_left(data: bytearray, rng: random.Random) -> None:
    data[:] = rng.randbytes(rng.choice((0, 1, 4, 100, 5000)))


# The quiet ones come more often: what looks almost right goes furthest.
MUTATIONS: tuple[Mutation, ...] = (
    flip_bits,
    flip_bits,
    flip_bits,
    giant_number,
    giant_number,
    random_bytes,
    swap_ranges,
    cut_short,
    cut_out,
    zeros,
    repeat_range,
    add_bytes,
    nothing_left,
)


def mutated(content: bytes, rng: random.Random) -> bytes:
    """The content, changed in one way or two."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2))):
        if data:
            rng.choice(MUTATIONS)(data, rng)
    return bytes(data)


def _range(data: bytearray, rng: random.Random) -> tuple[int, int]:
    begin = rng.randrange(len(data))
    return begin, min(len(data), begin + rng.choice((1, 4, 16, 64, len(data))))
