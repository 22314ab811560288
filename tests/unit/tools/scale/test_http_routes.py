"""The service over HTTP, without a server: which requests are answered, and that others get the reason."""

from __future__ import annotations

import asyncio
import gzip

import asgi
import pytest
from asgi import BODY, INFER
from hypothesis import given
from hypothesis import strategies as st

from omni_sdk.errors import SettingsError
from omni_sdk.tools.scale.http import Application
from omni_sdk.tools.scale.service import Service


def test_what_needs_no_run(application):
    for path, want in {
        "/v2/health/live": {"live": True},
        "/v2/health/ready": {"name": "double", "ready": True},
        "/v2/models/double/ready": {"name": "double", "ready": True},
        "/v2/models/double/versions/1/ready": {"name": "double", "ready": True},
        "/v2/models/double": application._service.signature.metadata(),
    }.items():
        answer = asgi.ask(application, "GET", path)
        assert (answer.status, answer.json, answer.is_whole) == (200, want, True)
    assert asgi.ask(application, "GET", "/v2").json["extensions"] == ["binary_tensor_data"]


def test_a_server_that_is_not_ready_says_so(model):
    application = Application(Service(model, "double"))
    application.is_ready = False
    assert asgi.ask(application, "GET", "/v2/health/ready").status == 503
    assert asgi.ask(application, "GET", "/v2/health/live").status == 200


def test_the_end_of_the_servers_life_ends_its_readiness(model):
    application = Application(Service(model, "double"))

    async def scene() -> None:
        events = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]

        async def receive():
            return events.pop(0)

        async def send(message):
            status = (await asgi.call(application, "GET", "/v2/models/double/ready")).status
            assert status == (503 if message["type"] == "lifespan.shutdown.complete" else 200)

        await application({"type": "lifespan"}, receive, send)

    asyncio.run(scene())


@pytest.mark.parametrize("name", ["a%20b", "a b", "ä?"])
def test_a_name_is_unquoted_once(model, name):
    application = Application(Service(model, name))
    assert asgi.ask(application, "GET", f"/v2/models/{name}").json["name"] == name


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\nb", 5])
def test_names_that_no_path_can_hold_are_refused_at_the_start(model, name):
    with pytest.raises(SettingsError, match="at the served model's name"):
        Service(model, name)


def test_a_mounted_application_knows_its_own_part_of_the_path(application):
    messages: list[dict[str, object]] = []

    async def send(message):
        messages.append(message)

    scope = {"type": "http", "method": "GET", "path": "/voices/v2", "root_path": "/voices", "headers": []}
    asyncio.run(application(scope, None, send))
    assert messages[0]["status"] == 200


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status"),
    [
        ("GET", "/", b"", {}, 404),
        ("GET", "/v2/models", b"", {}, 404),
        ("GET", "/v2/models/other", b"", {}, 404),
        ("POST", "/v2/models/other/infer", BODY, {}, 404),
        ("POST", "/v2/models/double/versions/2/infer", BODY, {}, 404),
        ("POST", "/v2/models/double/versions", BODY, {}, 404),
        ("POST", "/v2/models/double/explode", BODY, {}, 404),
        ("GET", INFER, b"", {}, 405),
        ("POST", "/v2", b"", {}, 405),
        ("POST", INFER, b"", {}, 400),
        ("POST", INFER, b"{", {}, 400),
        ("POST", INFER, BODY, {"inference-header-content-length": "99999"}, 400),
        ("POST", INFER, BODY + b"more", {"inference-header-content-length": str(len(BODY))}, 400),
        ("POST", INFER, bytes(5000), {}, 413),
        ("POST", INFER, BODY, {"content-length": "5000"}, 413),
        ("POST", INFER, BODY, {"content-length": "9" * 30}, 413),
        ("POST", INFER, gzip.compress(bytes(10_000_000), mtime=0), {"content-encoding": "gzip"}, 413),
        ("POST", INFER, BODY, {"content-encoding": "gzip"}, 400),
        ("POST", INFER, gzip.compress(BODY, mtime=0)[:-4], {"content-encoding": "gzip"}, 400),
        ("POST", INFER, gzip.compress(BODY, mtime=0) + b"x", {"content-encoding": "gzip"}, 400),
        ("POST", INFER, BODY, {"content-encoding": "br"}, 415),
        ("POST", "/v2/models/double/audio", BODY, {}, 400),
    ],
)
def test_wrong_requests_get_the_reason(application, method, path, body, headers, status):
    answer = asgi.ask(application, method, path, body, headers)
    assert answer.status == status
    assert answer.json["error"].startswith("Expected ")
    assert asgi.ask(application, "POST", INFER, BODY).status == 200


@pytest.mark.parametrize(
    ("method", "path", "allowed"), [("GET", INFER, "POST"), ("HEAD", INFER, "POST"), ("POST", "/v2", "GET, HEAD")]
)
def test_another_method_is_told_which_are_allowed(application, method, path, allowed):
    answer = asgi.ask(application, method, path)
    assert (answer.status, answer.headers["allow"]) == (405, allowed)


@pytest.mark.parametrize("path", ["/v2", "/v2/health/live", "/v2/models/double", "/v2/models/double/ready", "/v3"])
def test_head_is_answered_like_get_without_the_body(application, path):
    head, get = asgi.ask(application, "HEAD", path), asgi.ask(application, "GET", path)
    assert (head.status, head.headers, head.body, head.is_whole) == (get.status, get.headers, b"", True)


def test_lifespan_and_websockets(application):
    async def scene() -> list[str]:
        said, events = [], [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]

        async def receive():
            return events.pop(0)

        async def send(message):
            said.append(message["type"])

        await application({"type": "lifespan"}, receive, send)
        await application({"type": "websocket"}, receive, send)
        return said

    assert asyncio.run(scene()) == ["lifespan.startup.complete", "lifespan.shutdown.complete", "websocket.close"]


@given(
    st.sampled_from(["GET", "POST", "PUT"]),
    st.sampled_from([INFER, "/v2/models/double/audio", "/v2/models/double"]) | st.text(max_size=20).map("/{}".format),
    st.lists(st.binary(max_size=60), min_size=1, max_size=3) | st.just([BODY]),
    st.dictionaries(
        st.sampled_from(["content-length", "content-encoding", "inference-header-content-length"]),
        st.sampled_from(["gzip", "deflate", "0", "57", "-1"]) | st.text(st.characters(max_codepoint=255), max_size=6),
        max_size=2,
    ),
)
def test_whatever_comes_is_answered(application, method, path, chunks, headers):
    headers = {name: value.encode("latin-1").decode("utf-8", "replace") for name, value in headers.items()}
    before = application._service.gate
    answer = asgi.ask(application, method, path, headers=headers, chunks=list(chunks))
    assert answer.is_whole
    assert answer.status in (200, 400, 404, 405, 413, 415)
    assert (before.running, before.waiting) == (0, 0)
