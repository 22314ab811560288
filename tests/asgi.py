"""A client of ASGI applications, without a server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

INFER = "/v2/models/double/infer"
BODY = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [2], "data": [1, 2]}]}).encode()
"""A request that `graphs.DOUBLE`, served as `double`, runs on."""


@dataclass
class Answer:
    """What came back: the status, the headers, and each piece of the body."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    pieces: list[bytes] = field(default_factory=list)
    is_whole: bool = False

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


async def call(
    application: Any,
    method: str,
    path: str,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    *,
    chunks: list[bytes] | None = None,
    gone: bool = False,
    query: bytes = b"",
) -> Answer:
    """One request; `chunks` come one message each, `gone` is a client that leaves after them."""
    answer = Answer()
    parts = [body] if chunks is None else chunks
    messages = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    if gone:
        messages.append({"type": "http.disconnect"})
    else:
        messages[-1]["more_body"] = False

    async def receive() -> Any:
        if messages:
            return messages.pop(0)
        return await asyncio.get_running_loop().create_future()

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            assert not answer.status
            answer.status = message["status"]
            answer.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            assert answer.status
            assert not answer.is_whole
            answer.pieces.append(message["body"])
            answer.is_whole = not message["more_body"]

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "root_path": "",
        "query_string": query,
        "headers": [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()],
    }
    await application(scope, receive, send)
    return answer


def ask(application: Any, method: str, path: str, *arguments: Any, **options: Any) -> Answer:
    """`call`, from code that is not asynchronous."""
    return asyncio.run(call(application, method, path, *arguments, **options))
