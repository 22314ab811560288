"""The service over HTTP under load: what is large, slow or too many is bounded, and holds up nobody else."""

from __future__ import annotations

import asyncio
import gzip
import json
import math
import threading
import time
from collections.abc import Iterator

import asgi
import graphs
import pytest
from asgi import INFER

import omni_sdk as omni
from omni_sdk.errors import SettingsError
from omni_sdk.tools.scale import http
from omni_sdk.tools.scale.http import SMALL_BYTES, Application
from omni_sdk.tools.scale.messages import SMALL_VALUES, parse_request, render_response
from omni_sdk.tools.scale.service import Limits, Service

LOOPS = 40_000_000


def long_body(**parameters: object) -> bytes:
    inputs = [
        {"name": "x", "datatype": "FP32", "shape": [8], "data": [1.0] * 8},
        {"name": "n", "datatype": "INT64", "shape": [], "data": [LOOPS]},
    ]
    return json.dumps({"inputs": inputs, "parameters": parameters}).encode()


@pytest.fixture
def slow() -> Iterator[omni.Model]:
    with graphs.load(graphs.LONG, async_workers=4) as model:
        yield model


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
    assert sorted(seen) == sorted(("infer", answer.status) for answer in answers)
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
