"""What an ONNX file says of its operators and of its external data, read without the weights and without `onnx`.

The format is protobuf: fields of a number, a wire type and a value, nested by length. Only the messages that lead to
operators and to external data are entered; weights are skipped by their length. Field numbers are from ONNX's
published `onnx.proto`.

The scan guards what a model may read, so it must see all that ONNX Runtime's reader of protobuf would see, however
oddly it is written: what protobuf skips is skipped (unknown groups, fields of another wire type), what protobuf merges
is seen piece by piece, and what is read differently by different readers of protobuf makes the scan fail.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass

# Message -> field number -> message it holds; None marks a field that is read as text.
_MESSAGES: dict[str, dict[int, str | None]] = {
    "Model": {7: "Graph", 8: "OperatorSet", 20: "Training", 25: "Function"},
    "Training": {1: "Graph", 2: "Graph"},
    "Graph": {1: "Node", 5: "Tensor", 15: "SparseTensor"},
    "Function": {7: "Node", 9: "OperatorSet", 11: "Attribute"},
    "Node": {1: None, 4: None, 5: "Attribute", 7: None},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "SparseTensor", 23: "SparseTensor"},
    "SparseTensor": {1: "Tensor", 2: "Tensor"},
    "Tensor": {13: "Entry"},
    "Entry": {1: None, 2: None},
    "OperatorSet": {1: None},
}
_INPUT, _OPERATOR, _DOMAIN, _SET_DOMAIN, _KEY, _VALUE = 1, 4, 7, 1, 1, 2
# Place among the inputs of Dropout of the one that says whether it trains, and so draws at random.
_TRAINING_MODE = 2
_VARINT, _FIXED64, _LENGTH, _GROUP, _GROUP_END, _FIXED32 = 0, 1, 2, 3, 4, 5
# Messages within messages that protobuf itself reads before it refuses.
_DEEPEST = 100
_TAG_BITS = 32

View = bytes | mmap.mmap


@dataclass(frozen=True, slots=True)
class GraphScan:
    """What was found.

    Attributes
    ----------
    operators : frozenset of str
        Operator types that nodes name.
    domains : frozenset of str
        Operator domains that nodes name or the model imports.
    external_files : frozenset of str
        Locations of external data, as they stand in the file.
    dropout_may_train : bool
        Whether a Dropout has the input that can switch it to training, which makes its result random.
    """

    operators: frozenset[str]
    domains: frozenset[str]
    external_files: frozenset[str]
    dropout_may_train: bool = False


def scan(view: View) -> GraphScan | None:
    """Read a serialized model; None where it is no ONNX protobuf, and nothing is known of what it would read."""
    operators: set[str] = set()
    domains: set[str] = set()
    external: set[str] = set()
    dropout_may_train = False
    # A stack instead of recursion: nesting is the file's choice.
    waiting = [("Model", 0, len(view), 0)]
    try:
        while waiting:
            message, start, end, depth = waiting.pop()
            texts: dict[int, bytes] = {}
            taken: list[bool] = []
            for number, first, last in _fields(view, start, end):
                kind = _MESSAGES[message].get(number, "")
                if kind:
                    if depth == _DEEPEST:
                        return None
                    waiting.append((kind, first, last, depth + 1))
                elif message == "Node" and number == _INPUT:
                    taken.append(first < last)
                elif kind is None:
                    texts[number] = view[first:last]
            if message == "Node":
                operators.add(_name(texts.get(_OPERATOR, b"")))
                dropout_may_train |= texts.get(_OPERATOR) == b"Dropout" and any(taken[_TRAINING_MODE:])
                domains.add(_name(texts.get(_DOMAIN, b"")))
            elif message == "OperatorSet":
                domains.add(_name(texts.get(_SET_DOMAIN, b"")))
            elif message == "Entry" and texts.get(_KEY) == b"location":
                # The very bytes that ONNX Runtime would open, so that what is checked is what is read.
                external.add(os.fsdecode(texts.get(_VALUE, b"")))
    except (ValueError, IndexError):
        return None
    return GraphScan(frozenset(operators), frozenset(domains), frozenset(external), dropout_may_train)


def _name(text: bytes) -> str:
    """Protobuf takes names that are no UTF-8; none of those is one that is looked for."""
    return text.decode(errors="replace")


def _fields(view: View, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number and extent of each field that has a length; the others are passed over, groups with all they hold."""
    groups: list[int] = []
    while start < end:
        tag, start = _varint(view, start, end)
        number, wire = tag >> 3, tag & 7
        # C++ drops the bits beyond and finds a field of another number, other readers refuse.
        if tag >> _TAG_BITS:
            raise ValueError("a number beyond those of fields")
        if wire == _LENGTH:
            size, start = _varint(view, start, end)
            if size > end - start:
                raise ValueError("a field beyond its message")
            if not groups:
                yield number, start, start + size
            start += size
        elif wire == _VARINT:
            _, start = _varint(view, start, end)
        elif wire in (_FIXED64, _FIXED32):
            start += 8 if wire == _FIXED64 else 4
        elif wire == _GROUP:
            groups.append(number)
        elif wire != _GROUP_END or not groups or groups.pop() != number:
            raise ValueError("an unknown wire type, or the end of a group that did not begin")
    if start != end or groups:
        raise ValueError("a field beyond its message")


def _varint(view: View, start: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while start < end and shift < 64:
        byte = view[start]
        start += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, start
        shift += 7
    raise ValueError("a number that does not end")
