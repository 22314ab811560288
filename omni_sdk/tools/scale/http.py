"""The service over HTTP, as an ASGI application: the Open Inference Protocol v2, and streams of audio."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from importlib.metadata import version
from typing import Any

from omni_sdk.tools import wav
from omni_sdk.tools.scale import audio
from omni_sdk.tools.scale.bodies import IDENTITY, Gone, Message, Receive, Send, encoding_of, read_body, unpacked
from omni_sdk.tools.scale.gate import Deadline
from omni_sdk.tools.scale.messages import (
    HEADER_LENGTH,
    JSON_TYPE,
    InferRequest,
    is_small,
    parse_request,
    render_response,
)
from omni_sdk.tools.scale.problems import (
    DEADLINE,
    FAILED,
    METHOD_NOT_ALLOWED,
    NOT_FOUND,
    UNAVAILABLE,
    Problem,
    problem_of,
)
from omni_sdk.tools.scale.service import Service
from omni_sdk.tools.scale.signature import VERSION

SMALL_BYTES = 64 << 10
"""Of a body that is read between two others' turns: a few milliseconds. Larger ones are read on a thread."""
HEAD = "HEAD"
EXTENSIONS = ["binary_tensor_data"]
Observe = Callable[[str, int, float], None]
Pieces = Sequence[bytes | memoryview]

logger = logging.getLogger(__name__)


class Application:
    """Answers requests for one model.

    =================================  ================================================
    `GET v2/health/live`, `ready`      200 while the server can answer
    `GET v2`                           the server's metadata
    `GET v2/models/NAME`               the model's metadata
    `GET v2/models/NAME/ready`         200 while it is ready
    `POST v2/models/NAME/infer`        a run; JSON, or JSON and binary tensors
    `POST v2/models/NAME/audio`        the same request; chunks of WAV or PCM as they are made
    =================================  ================================================

    `HEAD` gets what `GET` does, without the body.

    Parameters
    ----------
    service : Service
    observe : callable, optional
        Told what was asked for, the status, and the seconds until the first byte of the answer, after each answer.

    Attributes
    ----------
    is_ready : bool
        What `ready` says; whoever drains the server sets it to False, and the end of ASGI's lifespan does.
    """

    def __init__(self, service: Service, observe: Observe | None = None) -> None:
        self._service = service
        self._observe = observe or (lambda route, status, seconds: None)
        self.is_ready = True

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """ASGI's entrance."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            try:
                await self._answer(scope, receive, _Reply(send, self._observe, is_head=scope["method"] == HEAD))
            except Gone:
                logger.debug("A client went away before its request was whole")
        else:
            await send({"type": "websocket.close", "code": 1003})

    async def _live(self, receive: Receive, send: Send) -> None:
        """A server's own beginning and end: from its end on, nobody is to be sent here."""
        while True:
            message = await receive()
            is_over = message["type"] == "lifespan.shutdown"
            self.is_ready = self.is_ready and not is_over
            await send({"type": f"{message['type']}.complete"})
            if is_over:
                return

    async def _answer(self, scope: Mapping[str, Any], receive: Receive, reply: _Reply) -> None:
        try:
            action, is_post = self._route(scope)
            reply.route = action
            if is_post:
                headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
                await getattr(self, f"_{action}")(scope, headers, receive, reply)
            else:
                await reply.document(*self._known(action))
        except Gone:
            raise
        except Exception as error:
            problem = problem_of(error)
            if problem.status == FAILED:
                logger.exception("A request failed")
            if reply.has_begun:  # an answer cut short shows as a broken transfer, never as a whole one
                raise
            await reply.document(problem.status, {"error": str(problem)}, problem.headers)

    def _route(self, scope: Mapping[str, Any]) -> tuple[str, bool]:
        """What a path asks for, and whether by POST."""
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        parts = path.strip("/").split("/")  # ASGI's paths are unquoted already
        if parts[:2] == ["v2", "models"] and len(parts) >= 3:
            name = self._service.signature.name
            if parts[2] != name:
                raise Problem(f"Expected the model {name!r}, got {parts[2][:60]!r} - at the path",
                              status=NOT_FOUND)  # fmt: skip
            rest = parts[3:]
            if rest[:1] == ["versions"] and len(rest) >= 2:
                if rest[1] != VERSION:
                    raise Problem(f"Expected version {VERSION}, got {rest[1][:20]!r} - at the path", status=NOT_FOUND)
                rest = rest[2:]
            action = {"": "model", "ready": "ready", "infer": "infer", "audio": "audio"}.get("/".join(rest))
        else:
            action = {"v2": "server", "v2/health/live": "live", "v2/health/ready": "ready"}.get("/".join(parts))
        if action is None:
            raise Problem(f"Expected a path of the protocol, got {path[:80]!r} - at the request", status=NOT_FOUND)
        is_post = action in ("infer", "audio")
        methods = ("POST",) if is_post else ("GET", HEAD)
        if scope["method"] not in methods:
            raise Problem(f"Expected {' or '.join(methods)}, got {scope['method']} - at {path[:80]!r}",
                          status=METHOD_NOT_ALLOWED, allow=", ".join(methods))  # fmt: skip
        return action, is_post

    def _known(self, action: str) -> tuple[int, dict[str, Any]]:
        """Status and body of what needs no run."""
        if action == "server":
            return 200, {"name": "omni-sdk", "version": version("omni-sdk"), "extensions": EXTENSIONS}
        if action == "model":
            return 200, self._service.signature.metadata()
        if action == "live":
            return (UNAVAILABLE if self._service.gate.is_stuck else 200), {"live": not self._service.gate.is_stuck}
        return (200 if self.is_ready else UNAVAILABLE), {"name": self._service.signature.name, "ready": self.is_ready}

    async def _request(self, headers: dict[str, str], receive: Receive, deadline: Deadline) -> InferRequest:
        limits = self._service.limits
        encoding, most = encoding_of(headers), limits.max_body_bytes
        body = await read_body(headers, receive, most, Deadline(min(limits.deadline_seconds, deadline.left())))

        def read() -> InferRequest:
            return parse_request(unpacked(body, encoding, most), headers.get(HEADER_LENGTH), self._service.signature)

        is_short = len(body) <= SMALL_BYTES and encoding == IDENTITY
        request = read() if is_short else await self._service.aside.run(deadline, read)
        if request.timeout is not None:
            deadline.shorten(request.timeout)
        return request

    async def _infer(self, scope: Mapping[str, Any], headers: dict[str, str], receive: Receive, reply: _Reply) -> None:
        deadline = Deadline(self._service.limits.deadline_seconds)
        request = await self._request(headers, receive, deadline)
        results = await self._service.infer(request, deadline)
        parts = request, results, self._service.signature, self._service.limits.max_json_bytes
        if is_small(request, results):
            pieces, described = render_response(*parts)
        else:
            pieces, described = await self._service.aside.run(deadline, render_response, *parts, bounded=False)
        await reply.whole(200, pieces, described)

    async def _audio(self, scope: Mapping[str, Any], headers: dict[str, str], receive: Receive, reply: _Reply) -> None:
        deadline = Deadline(self._service.limits.stream_seconds)
        form = audio.format_asked(scope.get("query_string", b""))
        request = await self._request(headers, receive, deadline)
        synthesis = self._service.synthesis(request.feeds)
        rate, samples = synthesis.sample_rate, synthesis.samples
        head = audio.head_of(form, rate, samples)
        async with aclosing(self._service.pieces(synthesis, deadline)) as pieces:
            first = await anext(pieces)  # what can be refused is refused before the first byte
            reply.deadline = deadline
            await reply.begin(200, audio.headers_for(form, rate, samples))
            await reply.more(head + wav.to_int16(first))
            async for piece in pieces:
                await reply.more(wav.to_int16(piece))
        await reply.end()


class _Reply:
    """One answer on its way out; with a deadline, a reader who stalls is given up on then. To HEAD it has no body."""

    def __init__(self, send: Send, observe: Observe, *, is_head: bool) -> None:
        self._sender = send
        self._observe = observe
        self._is_head = is_head
        self._started = time.perf_counter()
        self.route = "none"
        self.has_begun = False
        self.deadline: Deadline | None = None

    async def document(self, status: int, body: dict[str, Any], headers: Mapping[str, str] | None = None) -> None:
        """A whole answer in JSON."""
        await self.whole(status, [json.dumps(body).encode()], {"content-type": JSON_TYPE, **(headers or {})})

    async def whole(self, status: int, pieces: Pieces, headers: Mapping[str, str]) -> None:
        """A whole answer of known length."""
        await self.begin(status, {**headers, "content-length": str(sum(len(piece) for piece in pieces))})
        await self._send(_body(b"" if self._is_head else b"".join(pieces), more=False))

    async def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """The head of an answer."""
        self._observe(self.route, status, time.perf_counter() - self._started)
        encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        self.has_begun = True
        await self._send({"type": "http.response.start", "status": status, "headers": encoded})

    async def more(self, data: bytes) -> None:
        """A chunk of an answer."""
        await self._send(_body(data, more=True))

    async def end(self) -> None:
        """The end of an answer that came in chunks."""
        await self._send(_body(b"", more=False))

    async def _send(self, message: Message) -> None:
        if self.deadline is None:
            await self._sender(message)
            return
        try:
            await asyncio.wait_for(self._sender(message), max(self.deadline.left(), 1e-3))
        except asyncio.TimeoutError:
            raise Problem("Expected a reader who keeps up, got one that stalled - at the stream",
                          status=DEADLINE) from None  # fmt: skip


def _body(data: bytes, *, more: bool) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}
