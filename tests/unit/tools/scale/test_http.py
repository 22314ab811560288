"""The service over HTTP, without a server: what each request gets, and that whatever comes leaves it whole."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import math
import threading
import time
import tracemalloc
import wave
import zlib
from collections.abc import Iterator
from pathlib import Path

import asgi
import graphs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import omni_sdk as omni
from omni_sdk.bundle import Bundle
from omni_sdk.errors import SettingsError
from omni_sdk.tools.export import code2wav, reference_checkpoint
from omni_sdk.tools.scale import http
from omni_sdk.tools.scale.http import SMALL_BYTES, Application
from omni_sdk.tools.scale.messages import SMALL_VALUES, parse_request, render_response
from omni_sdk.tools.scale.problems import Problem
from omni_sdk.tools.scale.service import Limits, Service

INFER = "/v2/models/double/infer"
BODY = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [2], "data": [1, 2]}]}).encode()
LOOPS = 40_000_000


def long_body(**parameters: object) -> bytes:
    inputs = [
        {"name": "x", "datatype": "FP32", "shape": [8], "data": [1.0] * 8},
        {"name": "n", "datatype": "INT64", "shape": [], "data": [LOOPS]},
    ]
    return json.dumps({"inputs": inputs, "parameters": parameters}).encode()


@pytest.fixture(scope="module")
def model() -> Iterator[omni.Model]:
    with graphs.load(graphs.DOUBLE) as model:
        yield model


@pytest.fixture(scope="module")
def application(model: omni.Model) -> Application:
    return Application(Service(model, "double", Limits(max_body_bytes=4096)))


@pytest.fixture
def slow() -> Iterator[omni.Model]:
    with graphs.load(graphs.LONG, async_workers=4) as model:
        yield model


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    code2wav(reference_checkpoint(folder / "checkpoint", seed=7), folder / "bundle")
    return folder / "bundle"


@pytest.fixture(scope="module")
def voice(bundle: Path) -> Iterator[tuple[Application, Service, omni.Model]]:
    manifest = Bundle.open(bundle).manifest
    with omni.load(bundle, cache_dir=None) as model:
        service = Service(model, "voice", Limits(streams=1), audio=manifest.audio, state=dict(manifest.state))
        yield Application(service), service, model
        service.close()


def codes(frames: int, **parameters: object) -> tuple[np.ndarray, bytes]:
    array = np.random.default_rng(frames).integers(0, 2048, (1, 16, frames))
    data = {"name": "audio_codes", "datatype": "INT64", "shape": list(array.shape), "data": array.reshape(-1).tolist()}
    return array, json.dumps({"inputs": [data], "parameters": parameters}).encode()


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


def test_a_run(application):
    answer = asgi.ask(application, "POST", INFER, BODY)
    assert answer.status == 200
    assert answer.json["outputs"][0] == {"name": "y", "datatype": "FP32", "shape": [2], "data": [2, 4]}
    assert int(answer.headers["content-length"]) == len(answer.body)


@pytest.mark.parametrize(("name", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_a_compressed_body(application, name, pack):
    answer = asgi.ask(application, "POST", INFER, pack(BODY), {"content-encoding": name})
    assert answer.json["outputs"][0]["data"] == [2, 4]


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


def large_body(count: int) -> bytes:
    data = {"name": "x", "datatype": "FP32", "shape": [count], "data": [1] * count}
    return json.dumps({"inputs": [data]}, separators=(",", ":")).encode()


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_probes_are_answered_while_a_large_body_is_read(model, monkeypatch, compression):
    entered, go_on = threading.Event(), threading.Event()

    def parse(*arguments):
        entered.set()
        assert go_on.wait(10)
        return parse_request(*arguments)

    monkeypatch.setattr(http, "parse_request", parse)
    service = Service(model, "double")
    application, body = Application(service), large_body(SMALL_BYTES)
    headers = {"content-encoding": compression} if compression else {}
    body = gzip.compress(body) if compression else body

    async def scene() -> tuple[int, int]:
        task = asyncio.create_task(asgi.call(application, "POST", INFER, body, headers))
        while not entered.is_set():
            await asyncio.sleep(0.001)
        probe = await asgi.call(application, "GET", "/v2/health/live")
        go_on.set()
        return probe.status, (await task).status

    assert asyncio.run(scene()) == (200, 200)
    service.close()


def test_large_answers_are_rendered_beside_the_loop_and_small_ones_on_it(model, monkeypatch):
    threads = []

    def render(*arguments):
        threads.append(threading.current_thread())
        return render_response(*arguments)

    monkeypatch.setattr(http, "render_response", render)
    application = Application(Service(model, "double"))
    for count in (2, SMALL_VALUES + 1):
        answer = asgi.ask(application, "POST", INFER, large_body(count))
        assert answer.json["outputs"][0]["data"] == [2] * count
    assert [thread is threading.main_thread() for thread in threads] == [True, False]


def test_large_bodies_are_read_few_at_a_time(model, monkeypatch):
    go_on, body = threading.Event(), large_body(SMALL_BYTES)

    def parse(*arguments):
        assert go_on.wait(10)
        return parse_request(*arguments)

    monkeypatch.setattr(http, "parse_request", parse)
    limits = Limits(queue=0, streams=1)  # two are read, and two may wait
    service = Service(model, "double", limits)
    application = Application(service)

    async def scene() -> list[int]:
        tasks = [asyncio.create_task(asgi.call(application, "POST", INFER, body)) for _ in range(6)]
        while service.aside.gate.running < 2 or not tasks[5].done():
            await asyncio.sleep(0.001)
        go_on.set()
        return [answer.status for answer in await asyncio.gather(*tasks)]

    statuses = asyncio.run(scene())
    assert statuses[4:] == [429, 429]
    assert 200 in statuses[:4]


def test_an_answer_in_json_has_a_bound(model):
    application = Application(Service(model, "double", Limits(max_json_bytes=30)))
    assert asgi.ask(application, "POST", INFER, large_body(5)).status == 200
    answer = asgi.ask(application, "POST", INFER, large_body(9))
    assert answer.status == 400
    assert "binary" in answer.json["error"]


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


def test_a_run_past_its_deadline_is_ended(slow):
    application = Application(Service(slow, "long"))
    started = time.perf_counter()
    answer = asgi.ask(application, "POST", "/v2/models/long/infer", long_body(timeout=50_000))
    assert answer.status == 504
    assert time.perf_counter() - started < 2


def test_more_than_fits_is_turned_away(slow):
    service = Service(slow, "long", Limits(slots=1, queue=1))
    application = Application(service)
    seen: list[tuple[str, int]] = []
    application._observe = lambda route, status, seconds: seen.append((route, status))

    async def scene() -> list[asgi.Answer]:
        body = long_body(timeout=300_000)
        calls = [asgi.call(application, "POST", "/v2/models/long/infer", body) for _ in range(5)]
        return await asyncio.gather(*calls)

    answers = asyncio.run(scene())
    *turned_away, queued, ran = sorted(answer.status for answer in answers)
    assert turned_away == [429, 429, 429] and ran == 504
    assert queued in (503, 504), "it waits as long as the other runs, and may still begin as that one ends"
    for answer in answers:
        assert ("retry-after" in answer.headers) == (answer.status in (429, 503))
        assert "Expected" in answer.json["error"]
    assert sorted(seen) == [("infer", 429)] * 3 + [("infer", 503), ("infer", 504)]
    assert (service.gate.running, service.gate.waiting) == (0, 0)


def test_a_client_that_leaves_ends_its_run(slow):
    service = Service(slow, "long")
    application = Application(service)

    async def scene() -> float:
        task = asyncio.create_task(asgi.call(application, "POST", "/v2/models/long/infer", long_body()))
        while not service.gate.running:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        started = time.perf_counter()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert service.gate.running == 0
        return time.perf_counter() - started

    assert asyncio.run(scene()) < 1


@pytest.mark.parametrize("form", ["wav", "pcm"])
def test_audio_comes_as_it_is_made(voice, form):
    application, service, model = voice
    array, body = codes(40)
    answer = asgi.ask(application, "POST", "/v2/models/voice/audio", body, query=f"format={form}".encode())
    assert (answer.status, answer.is_whole) == (200, True)
    assert len([piece for piece in answer.pieces if piece]) == 6  # 1, 2, 4, 8, 16 and 9 frames
    if form == "wav":
        with wave.open(io.BytesIO(answer.body)) as file:
            assert (file.getframerate(), file.getnchannels()) == (24_000, 1)
            got = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    else:
        got = np.frombuffer(answer.body, "<i2")
    want = model.infer(audio_codes=array)["waveform"].reshape(-1)
    assert got.size == want.size == int(answer.headers["x-audio-samples"])
    np.testing.assert_allclose(got / 32_767, want, atol=1.01 / 32_767)
    assert service.streams == 0


def test_states_are_left_out_of_whole_answers(voice):
    application, _, model = voice
    array, body = codes(5, binary_data_output=True)
    answer = asgi.ask(application, "POST", "/v2/models/voice/infer", body)
    length = int(answer.headers["inference-header-content-length"])
    (output,) = json.loads(answer.body[:length])["outputs"]
    got = np.frombuffer(answer.body[length:], "<f4").reshape(output["shape"])
    np.testing.assert_array_equal(got, model.infer(audio_codes=array)["waveform"])


def test_codes_out_of_range_are_refused_before_the_first_byte(voice):
    application, service, _ = voice
    _, body = codes(3)
    document = json.loads(body)
    document["inputs"][0]["data"][5] = 5000
    for path in ("infer", "audio"):
        answer = asgi.ask(application, "POST", f"/v2/models/voice/{path}", json.dumps(document).encode())
        assert answer.status == 400
        assert "5000" in answer.json["error"]
    assert service.streams == 0


@pytest.mark.parametrize(("query", "frames"), [(b"format=mp3", 3), (b"", 0)])
def test_wrong_audio_requests(voice, query, frames):
    application, _, _ = voice
    assert asgi.ask(application, "POST", "/v2/models/voice/audio", codes(frames)[1], query=query).status == 400


def test_streams_are_bounded_and_share_the_model(voice):
    application, service, _ = voice

    async def scene() -> list[int]:
        body = codes(60)[1]
        calls = [asgi.call(application, "POST", "/v2/models/voice/audio", body) for _ in range(3)]
        return sorted(answer.status for answer in await asyncio.gather(*calls))

    assert asyncio.run(scene()) == [200, 429, 429]
    assert service.streams == 0


def test_a_stream_past_its_deadline_is_cut_short_and_shows_it(voice):
    application, service, _ = voice
    with pytest.raises(Exception, match="deadline"):
        asgi.ask(application, "POST", "/v2/models/voice/audio", codes(400, timeout=30_000)[1])
    assert (service.streams, service.gate.running) == (0, 0)


def test_a_reader_who_stalls_keeps_no_place_past_the_deadline(voice):
    _, service, _ = voice
    application, body = Application(service), codes(30, timeout=300_000)[1]
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def scene() -> float:
        async def receive():
            return messages.pop(0)

        async def send(message):
            if message["type"] == "http.response.body":
                await asyncio.get_running_loop().create_future()

        scope = {"type": "http", "method": "POST", "path": "/v2/models/voice/audio", "headers": []}
        started = time.perf_counter()
        with pytest.raises(Problem, match="stalled"):
            await asyncio.wait_for(application(scope, receive, send), 10)
        return time.perf_counter() - started

    assert 0.2 < asyncio.run(scene()) < 5
    assert (service.streams, service.gate.running) == (0, 0)


@pytest.mark.parametrize("value", [math.nan, math.inf, 0, -1, 10**400, True, "1", None])
def test_limits_in_seconds_are_finite_numbers_above_zero(value):
    for name in ("deadline_seconds", "stream_seconds"):
        with pytest.raises(SettingsError, match=rf"^Expected a number above 0, got .* - at Limits\.{name}"):
            Limits(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"), [("slots", 0), ("queue", -1), ("streams", math.nan), ("max_json_bytes", 1.5)]
)
def test_limits_that_count_are_whole_numbers(name, value):
    with pytest.raises(SettingsError, match=rf"- at Limits\.{name}"):
        Limits(**{name: value})


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
