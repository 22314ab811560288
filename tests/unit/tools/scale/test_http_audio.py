"""Audio over HTTP: it comes as it is made, and a stream past its bounds keeps no place."""

from __future__ import annotations

import asyncio
import io
import json
import time
import wave
from collections.abc import Iterator
from pathlib import Path

import asgi
import numpy as np
import pytest

import omni_sdk as omni
from omni_sdk.bundle import Bundle
from omni_sdk.tools.export import code2wav, reference_checkpoint
from omni_sdk.tools.scale.http import Application
from omni_sdk.tools.scale.problems import Problem
from omni_sdk.tools.scale.service import Limits, Service


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
