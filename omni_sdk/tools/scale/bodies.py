"""Bodies of requests as they come in: bounded, in time, unpacked where they are compressed."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from omni_sdk.tools.scale.gate import Deadline
from omni_sdk.tools.scale.problems import TOO_LARGE, TOO_SLOW, UNSUPPORTED_ENCODING, Problem

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

IDENTITY = "identity"
_WINDOW_BITS = {"gzip": 31, "deflate": 15}


class Gone(Exception):
    """The client went away before its request was whole: nobody waits for an answer."""


def encoding_of(headers: dict[str, str]) -> str:
    """How a request's body is compressed: identity, gzip or deflate.

    Raises
    ------
    Problem
        415 for another compression.
    """
    encoding = headers.get("content-encoding", IDENTITY).lower()
    if encoding not in (IDENTITY, *_WINDOW_BITS):
        raise Problem(f"Expected identity, gzip or deflate, got {encoding[:40]!r} - at content-encoding",
                      status=UNSUPPORTED_ENCODING)  # fmt: skip
    return encoding


async def read_body(headers: dict[str, str], receive: Receive, most: int, deadline: Deadline) -> bytes:
    """The whole body of a request, as it was sent.

    Parameters
    ----------
    headers : dict of str to str
        Names in lower case.
    receive : callable
        ASGI's.
    most : int
        Bytes that it may have.
    deadline : Deadline

    Raises
    ------
    Problem
        413 when it is larger, 408 when it did not come in time.
    Gone
        When the client disconnects.
    """
    announced = headers.get("content-length", "")
    if announced.isascii() and announced.isdigit() and (len(announced) > 18 or int(announced) > most):
        raise _too_large(most)
    body = bytearray()
    more = True
    while more:
        try:
            message = await asyncio.wait_for(receive(), max(deadline.left(), 1e-3))
        except asyncio.TimeoutError:
            raise Problem("Expected a body before the deadline, got a part - at the request", status=TOO_SLOW) from None
        if message["type"] == "http.disconnect":
            raise Gone
        body += message.get("body", b"")
        if len(body) > most:
            raise _too_large(most)
        more = message.get("more_body", False)
    return bytes(body)


def unpacked(body: bytes, encoding: str, most: int) -> bytes:
    """A body, decompressed.

    Raises
    ------
    Problem
        413 when it is larger than `most` bytes, 400 when it is not what `encoding` says.
    """
    if encoding == IDENTITY:
        return body
    unpacker = zlib.decompressobj(_WINDOW_BITS[encoding])
    try:
        whole = unpacker.decompress(body, most + 1)
    except zlib.error as error:
        raise Problem(f"Expected a body in {encoding}, got something else ({error}) - at the request's body") from None
    if len(whole) > most:
        raise _too_large(most)
    if not unpacker.eof or unpacker.unused_data:
        raise Problem(f"Expected one whole body in {encoding}, got a part or more - at the request's body")
    return whole


def _too_large(most: int) -> Problem:
    return Problem(f"Expected a body of at most {most} bytes, got more - at the request", status=TOO_LARGE)
