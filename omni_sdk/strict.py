"""JSON read with nothing on trust: for what stands on disk and may be damaged, foreign or hostile.

`decode` refuses what `json` lets pass: keys that occur twice, NaN and infinities, deep nesting, long texts. `Reader`
takes an object apart key by key, each of its type, and refuses what nobody asked for.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import NoReturn, TypeAlias

from omni_sdk.errors import BundleError

MAX_BYTES = 4 << 20
MAX_DEPTH = 32
MAX_SHOWN = 255
MAX_INTEGER = 2**63 - 1
DIGEST_DIGITS = 32

JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"


class Reader:
    """One JSON object being read: each key is taken once, and `close` refuses what nobody asked for.

    Parameters
    ----------
    value : JSON
        What should be an object.
    where : str
        Its place, for errors: "manifest.audio".

    Raises
    ------
    BundleError
        From every method: a key that is missing, or a value of another type or range than asked for.
    """

    def __init__(self, value: JSON, where: str) -> None:
        if not isinstance(value, Mapping):
            refuse("an object", _kind(value), where)
        self.whole = value
        self.where = where
        self._left = dict(value)

    def peek(self, key: str) -> JSON:
        """Look at a value without taking it; None where there is none."""
        return self._left.get(key)

    def take(self, key: str) -> JSON:
        """Take a value of any type."""
        if key not in self._left:
            refuse(f"the key {key!r}", "none", self.where)
        return self._left.pop(key)

    def close(self) -> None:
        """Refuse the object if it holds a key that was not taken."""
        if self._left:
            refuse("no further key", f"{min(self._left)[:MAX_SHOWN]!r}", self.where)

    def string(self, key: str) -> str:
        """Take a string that is not empty."""
        return _text(self.take(key), f"{self.where}.{key}")

    def digest(self, key: str) -> str:
        """Take an XXH3-128 checksum: 32 lowercase hexadecimal digits."""
        value = self.string(key)
        if len(value) != DIGEST_DIGITS or not set(value) <= set("0123456789abcdef"):
            refuse(f"{DIGEST_DIGITS} lowercase hexadecimal digits", f"{value[:MAX_SHOWN]!r}", f"{self.where}.{key}")
        return value

    def integer(self, key: str, *, minimum: int = 0) -> int:
        """Take an integer from `minimum` up to what 64 bits hold."""
        return _integer(self.take(key), f"{self.where}.{key}", minimum)

    def mapping(self, key: str) -> Mapping[str, JSON]:
        """Take an object as it is."""
        return Reader(self.take(key), f"{self.where}.{key}").whole

    def strings(self, key: str) -> dict[str, str]:
        """Take an object whose values are strings that are not empty."""
        return {name: _text(value, f"{self.where}.{key}.{name}") for name, value in self.mapping(key).items()}

    def integers(self, key: str) -> dict[str, int]:
        """Take an object whose values are integers of 1 or more."""
        return {name: _integer(value, f"{self.where}.{key}.{name}", 1) for name, value in self.mapping(key).items()}

    def objects(self, key: str, *, maximum: int) -> list[Reader]:
        """Take a list of at most `maximum` objects, each to be read in its turn."""
        where = f"{self.where}.{key}"
        value = self.take(key)
        if not isinstance(value, list) or len(value) > maximum:
            refuse(f"a list of at most {maximum}", _kind(value), where)
        return [Reader(item, f"{where}[{index}]") for index, item in enumerate(value)]


def decode(text: bytes, what: str) -> JSON:
    """Read JSON text of at most `MAX_BYTES`, nested at most `MAX_DEPTH` deep.

    Parameters
    ----------
    text : bytes
        JSON in UTF-8.
    what : str
        What it is, for errors: "manifest".

    Returns
    -------
    JSON

    Raises
    ------
    BundleError
        Where it is longer, deeper, or no JSON in the strict sense.
    """
    if len(text) > MAX_BYTES:
        refuse(f"at most {MAX_BYTES} bytes", f"{len(text)}", what)
    try:
        value: JSON = json.loads(
            text.decode(), object_pairs_hook=_unique, parse_constant=_constant, parse_float=_finite
        )
    except (ValueError, RecursionError) as error:
        raise BundleError(f"Expected JSON, got text that is none ({error}) - at {what}") from error
    level: list[JSON] = [value]
    for _ in range(MAX_DEPTH):
        level = [child for item in level for child in _children(item)]
    if level:
        refuse(f"nesting of at most {MAX_DEPTH}", "deeper nesting", what)
    return value


def refuse(expected: str, got: str, where: str) -> NoReturn:
    """Raise the `BundleError` of the house's grammar."""
    raise BundleError(f"Expected {expected}, got {got} - at {where}")


def _text(value: JSON, where: str) -> str:
    if not isinstance(value, str) or not value:
        refuse("a string that is not empty", _kind(value), where)
    return value


def _integer(value: JSON, where: str, minimum: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not minimum <= value <= MAX_INTEGER:
        refuse(f"an integer of {minimum} or more", _kind(value), where)
    return value


def _children(item: JSON) -> Sequence[JSON]:
    if isinstance(item, Mapping):
        return list(item.values())
    return item if isinstance(item, list) else ()


def _unique(pairs: list[tuple[str, JSON]]) -> dict[str, JSON]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key occurs twice in one object")
    return result


def _constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number beyond what a float holds")
    return value


def _kind(value: JSON) -> str:
    if isinstance(value, (str, list, Mapping)):
        return f"{type(value).__name__} of length {len(value)}"
    return repr(value) if not isinstance(value, int) or abs(value) <= MAX_INTEGER else "an integer beyond 64 bits"
