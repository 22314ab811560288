"""Bodies of requests over HTTP: whole, compressed, in pieces, never ending, and of any bytes."""

from __future__ import annotations

import asyncio
import gzip
import json
import tracemalloc
import zlib

import asgi
import pytest
from asgi import BODY, INFER
from hypothesis import given
from hypothesis import strategies as st

from omni_sdk.tools.scale.http import Application
from omni_sdk.tools.scale.service import Limits, Service


def test_a_run(application):
    answer = asgi.ask(application, "POST", INFER, BODY)
    assert answer.status == 200
    assert answer.json["outputs"][0] == {"name": "y", "datatype": "FP32", "shape": [2], "data": [2, 4]}
    assert int(answer.headers["content-length"]) == len(answer.body)


@pytest.mark.parametrize(("name", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_a_compressed_body(application, name, pack):
    answer = asgi.ask(application, "POST", INFER, pack(BODY), {"content-encoding": name})
    assert answer.json["outputs"][0]["data"] == [2, 4]


def test_a_body_that_swells_is_not_unpacked_whole(application):
    body = gzip.compress(bytes(3_000_000))
    assert len(body) < 4096
    tracemalloc.start()
    try:
        assert asgi.ask(application, "POST", INFER, body, {"content-encoding": "gzip"}).status == 413
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_a_body_in_many_pieces(application):
    pieces = [BODY[i : i + 7] for i in range(0, len(BODY), 7)]
    assert asgi.ask(application, "POST", INFER, chunks=pieces).status == 200
    assert asgi.ask(application, "POST", INFER, chunks=[bytes(1000)] * 6).status == 413


def test_a_client_that_leaves_before_its_body_is_whole(application):
    answer = asgi.ask(application, "POST", INFER, chunks=[BODY[:9]], gone=True)
    assert (answer.status, answer.pieces) == (0, [])


@pytest.mark.parametrize("path", [INFER, "/v2/models/double/audio"])
def test_a_body_that_never_ends(model, path):
    application = Application(Service(model, "double", Limits(deadline_seconds=0.05)))

    async def scene() -> int:
        statuses = []

        async def receive():
            return await asyncio.get_running_loop().create_future()

        async def send(message):
            statuses.append(message.get("status"))

        scope = {"type": "http", "method": "POST", "path": path, "headers": []}
        await asyncio.wait_for(application(scope, receive, send), 2)
        return statuses[0]

    assert asyncio.run(scene()) == 408


PROTOCOL_ERRORS = {400, 408, 413, 415, 429}
"""What a body that is no request may get: never a failure of the server's."""
DOCUMENT = {
    "id": "1",
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [2], "parameters": {"binary_data_size": 8}}],
    "outputs": [{"name": "y", "parameters": {"binary_data": True}}],
}
HEAD = json.dumps(DOCUMENT).encode()
LENGTH = "inference-header-content-length"


@st.composite
def mangled(draw: st.DrawFn) -> bytes:
    """A request that some bytes were taken from, put into or changed in."""
    body = bytearray(draw(st.sampled_from([BODY, HEAD + bytes(8)])))
    for _ in range(draw(st.integers(0, 4))):
        place = draw(st.integers(0, len(body)))
        body[place : place + draw(st.integers(0, 4))] = draw(
            st.binary(max_size=4) | st.sampled_from([b"[" * 99, b"1e999"])
        )
    return bytes(body)


@given(
    body=st.binary(max_size=300) | mangled(),
    action=st.sampled_from(["infer", "audio", "versions/1/infer"]),
    length=st.none() | st.just(str(len(HEAD))) | st.integers(-1, 400).map(str),
    pack=st.sampled_from([None, gzip.compress, zlib.compress]),
)
def test_arbitrary_bytes_get_an_answer_or_an_error_of_the_protocol(application, body, action, length, pack):
    headers = {} if length is None else {LENGTH: length}
    if pack is not None:
        headers["content-encoding"] = "gzip" if pack is gzip.compress else "deflate"
        body = pack(body)
    answer = asgi.ask(application, "POST", f"/v2/models/double/{action}", body, headers)
    assert answer.is_whole
    assert answer.status == 200 or answer.status in PROTOCOL_ERRORS
    if answer.status != 200:
        assert answer.json.keys() == {"error"}
        assert answer.json["error"].startswith("Expected ")
    assert (application._service.gate.running, application._service.aside.gate.running) == (0, 0)
