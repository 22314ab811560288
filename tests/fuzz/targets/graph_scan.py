"""The reader of ONNX files that looks for operators and external data: harm is what it misses and protobuf finds."""

from __future__ import annotations

import os
from collections.abc import Iterator

import onnx
from google.protobuf.message import DecodeError, Message

from omni_sdk.graph_scan import scan


def read(data: bytes) -> None:
    found = scan(data)
    try:
        model = onnx.load_model_from_string(data)
    except DecodeError:
        return
    assert found is not None, "protobuf reads what the scan cannot"
    for message in _messages(model):
        if isinstance(message, onnx.NodeProto):
            assert _text(message, "op_type").decode(errors="replace") in found.operators, "an operator was missed"
        if isinstance(message, onnx.TensorProto):
            entries = [entry for entry in message.external_data if _text(entry, "key") == b"location"]
            missed = {os.fsdecode(_text(entry, "value")) for entry in entries} - found.external_files
            assert not missed, f"external data was missed: {missed}"


def _messages(message: Message) -> Iterator[Message]:
    """The message and every one below it, from a list: nesting is the file's choice."""
    waiting = [message]
    while waiting:
        message = waiting.pop()
        yield message
        for field, value in message.ListFields():
            if field.message_type is not None:
                waiting.extend([value] if isinstance(value, Message) else value)


def _text(message: Message, field: str) -> bytes:
    """A field's text as it stands in the file: protobuf gives bytes where it is no UTF-8."""
    text: str | bytes = getattr(message, field)
    return text if isinstance(text, bytes) else text.encode()
