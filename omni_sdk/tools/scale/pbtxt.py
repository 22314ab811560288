"""Protocol buffers in text form, as far as a configuration needs them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Word:
    """The name of an enumeration's value: written without quotes."""

    name: str


Scalar: TypeAlias = "str | int | bool | Word"
Value: TypeAlias = "Scalar | Mapping[str, Value] | Sequence[Value]"


def render(message: Mapping[str, Value], indent: str = "") -> str:
    """A message as text: fields in the mapping's order, a list as its field repeated."""
    lines = []
    for name, value in message.items():
        items = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
        for item in items:
            if isinstance(item, Mapping):
                lines.append(f"{indent}{name} {{\n{render(item, indent + '  ')}{indent}}}\n")
            else:
                lines.append(f"{indent}{name}: {_scalar(item)}\n")
    return "".join(lines)


def _scalar(value: Value) -> str:
    if isinstance(value, Word):
        return value.name
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value)
