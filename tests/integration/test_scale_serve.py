"""The model on Ray Serve, asked by Triton's own client: whole answers, streams, overload, killed replicas, drain."""

from __future__ import annotations

import http.client
import json
import math
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import served

import omni_sdk as omni

ray = served.ray_or_skip()

from omni_sdk.tools.scale import build, local  # noqa: E402
from omni_sdk.tools.scale.deployment import Deployed, Replica  # noqa: E402

pytestmark = [pytest.mark.heavy, pytest.mark.filterwarnings("default")]

MODEL = "/v2/models/voice"


@pytest.fixture(scope="module")
def voice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return served.make_voice(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def cluster():
    with local.cluster(2):
        yield


@pytest.fixture(scope="module")
def running(cluster):
    """Ends the server where a test does not do it before."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture(scope="module")
def address(running, voice):
    limits = {"max_body_bytes": 200_000, "streams": 2}
    args = {"model": str(voice), "queue_per_proxy": 2, "drain_seconds": 60, "limits": limits}
    return running.enter_context(local.server(args, port=served.free_port()))


@pytest.fixture(scope="module")
def port(address) -> int:
    return int(address.url.rpartition(":")[2])


@pytest.fixture(scope="module")
def triton():
    return pytest.importorskip("tritonclient.http", reason="tritonclient is not installed")


@pytest.fixture(scope="module")
def model(voice):
    with omni.load(voice, omni.Settings(intra_op_num_threads=1)) as model:
        yield model


def wanted(model: omni.Model, codes: np.ndarray) -> np.ndarray:
    return model.infer(audio_codes=codes)["waveform"]


def is_up(port: int) -> bool:
    try:
        return served.post(port, f"{MODEL}/infer", served.json_body(served.codes(1)), timeout=5).status == 200
    except OSError:
        return False


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
def test_tritons_client_works_unchanged(port, triton, model, binary, compression):
    codes = served.codes(served.FRAMES)
    with triton.InferenceServerClient(f"127.0.0.1:{port}") as client:
        assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("voice")
        assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
        described = client.get_model_metadata("voice")
        assert [one["name"] for one in described["inputs"]] == ["audio_codes"]
        given = triton.InferInput("audio_codes", codes.shape, "INT64")
        given.set_data_from_numpy(codes, binary_data=binary)
        asked = [triton.InferRequestedOutput("waveform", binary_data=binary)]
        answer = client.infer(
            "voice", [given], outputs=asked, request_id="7", request_compression_algorithm=compression
        )
        assert answer.get_response()["id"] == "7"
        np.testing.assert_array_equal(answer.as_numpy("waveform"), wanted(model, codes))
        later = client.async_infer("voice", [given]).get_result()
        np.testing.assert_array_equal(later.as_numpy("waveform"), wanted(model, codes))


def test_tritons_client_is_told_what_was_wrong(port, triton):
    codes = served.codes(3)
    given = triton.InferInput("audio_codes", codes.shape, "INT64").set_data_from_numpy(codes)
    wide = triton.InferInput("audio_codes", [1, 15, 3], "INT64").set_data_from_numpy(codes[:, :15])
    floats = triton.InferInput("audio_codes", codes.shape, "FP32").set_data_from_numpy(codes.astype(np.float32))
    huge = served.codes(3000)
    large = triton.InferInput("audio_codes", huge.shape, "INT64").set_data_from_numpy(huge)
    with triton.InferenceServerClient(f"127.0.0.1:{port}") as client:
        for name, tensor, options, status in (
            ("nobody", given, {}, "404"),
            ("voice", wide, {}, "400"),
            ("voice", floats, {}, "400"),
            ("voice", large, {}, "413"),
            ("voice", given, {"sequence_id": 3, "sequence_start": True}, "400"),
            ("voice", given, {"model_version": "2"}, "404"),
        ):
            with pytest.raises(Exception, match="Expected ") as caught:
                client.infer(name, [tensor], **options)
            assert caught.value.status() == status
        assert client.infer("voice", [given]).as_numpy("waveform").size


def test_audio_comes_in_chunks(port, model):
    codes = served.codes(200)
    answer = served.post(port, f"{MODEL}/audio?format=pcm", served.json_body(codes))
    assert (answer.status, answer.headers["transfer-encoding"]) == (200, "chunked")
    started, pieces, times = time.perf_counter(), [], []
    while piece := answer.read1():
        pieces.append(piece)
        times.append(time.perf_counter() - started)
    assert len(pieces) > 3
    got = np.frombuffer(b"".join(pieces), "<i2")
    np.testing.assert_allclose(got / 32_767, wanted(model, codes).reshape(-1), atol=1.01 / 32_767)


def test_more_than_it_takes_is_turned_away(port, model):
    codes = served.codes(served.FRAMES)
    body, want = served.json_body(codes), wanted(model, codes)
    statuses: Counter[int] = Counter()

    def client(_: int) -> None:
        for _ in range(6):
            answer = served.post(port, f"{MODEL}/infer", body)
            statuses[answer.status] += 1
            content = answer.read()
            if answer.status == 200:
                (output,) = json.loads(content)["outputs"]
                assert np.array_equal(np.float32(output["data"]), want.reshape(-1))
            else:
                assert int(answer.headers["retry-after"]) >= 1

    with ThreadPoolExecutor(24) as clients:
        list(clients.map(client, range(24)))
    assert statuses.keys() <= {200, 429, 503}
    assert statuses[200] > 0
    assert statuses[429] + statuses[503] > 0


def test_prometheus_reads_what_happened(address, port):
    assert served.post(port, f"{MODEL}/infer", b"{").status == 400

    def metrics() -> str:
        with urllib.request.urlopen(address.metrics_url, timeout=10) as answer:
            return answer.read().decode()

    served.until(lambda: 'status="400"' in metrics() and "ray_omni_runs" in metrics(), 60)
    lines = [line for line in metrics().splitlines() if line.startswith("ray_omni_")]
    assert all('model="voice"' in line and 'deployment="Model"' in line for line in lines)
    runs = [line for line in lines if line.startswith("ray_omni_runs")]
    assert float(runs[0].rpartition(" ")[2]) > 0
    for name in ("bytes_in_use", "run_seconds", "requests_waiting", "first_byte_seconds_bucket"):
        assert any(line.startswith(f"ray_omni_{name}") for line in lines), name


def test_a_replica_that_is_killed_gives_no_wrong_answer(port, model):
    codes = served.codes(900)
    want = wanted(model, codes)
    answer = served.post(port, f"{MODEL}/audio?format=pcm", served.json_body(codes))
    first = answer.read(1000)
    outcomes: list[object] = []

    def whole() -> None:
        try:
            reply = served.post(port, f"{MODEL}/infer", served.json_body(codes))
            outcomes.append((reply.status, reply.read()))
        except (OSError, http.client.HTTPException) as error:
            outcomes.append(error)

    asking = threading.Thread(target=whole)
    asking.start()
    time.sleep(0.2)
    served.kill_one("ServeReplica")
    with pytest.raises((http.client.IncompleteRead, OSError)):
        answer.read()
    asking.join()
    assert first
    (outcome,) = outcomes
    if isinstance(outcome, tuple) and outcome[0] == 200:
        (output,) = json.loads(outcome[1])["outputs"]
        np.testing.assert_array_equal(np.float32(output["data"]), want.reshape(-1))
    served.until(lambda: is_up(port))


def watch(port: int, reading: Future[bytes], told: list[object]) -> None:
    """Whatever else than 200 the readiness probe gets as long as somebody reads."""
    while not reading.done() and not told:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/ready", timeout=5):
                time.sleep(0.02)
        except OSError as error:
            told += [error] * (not reading.done())


def test_what_runs_at_the_end_is_finished(running, port, model):
    codes = served.codes(900)
    answer = served.post(port, f"{MODEL}/audio?format=pcm", served.json_body(codes))
    with ThreadPoolExecutor(1) as clients:
        reading = clients.submit(answer.read)
        told: list[object] = []
        watcher = threading.Thread(target=watch, args=(port, reading, told))
        watcher.start()
        running.close()
        watcher.join()
        assert told, "nobody was told that the server is not ready any more"
        got = np.frombuffer(reading.result(60), "<i2")
    np.testing.assert_allclose(got / 32_767, wanted(model, codes).reshape(-1), atol=1.01 / 32_767)
    assert not is_up(port)


@pytest.mark.parametrize(
    ("wrong", "where"),
    [
        ({"model": "nowhere.onnx"}, "nowhere.onnx"),
        ({"model": 5}, "model"),
        ({"model": None}, "model"),
        ({"name": "a/b"}, "name"),
        ({"name": ""}, "name"),
        ({"name": 5}, "name"),
        ({"cache_dir": 5}, "cache_dir"),
        ({"warmup": [1, 16]}, "warmup"),
        ({"limits": None}, "limits"),
        ({"limits": {5: 1}}, "limits"),
        ({"cpus": math.nan}, "cpus"),
        ({"drain_seconds": math.inf}, "drain_seconds"),
        ({"limits": {"deadline_seconds": math.nan}}, "Limits.deadline_seconds"),
        ({"replicas": 0}, "replicas"),
        ({"cpus": 0}, "cpus"),
        ({"cpus": True}, "cpus"),
        ({"drain_seconds": -1}, "drain_seconds"),
        ({"threads": 2}, "args"),
        ({"settings": "fast"}, "preset"),
        ({"settings": {"treads": 1}}, "treads"),
        ({"settings": 3}, "settings"),
        ({"limits": {"queues": 1}}, "limits"),
        ({"limits": {"queue": -1}}, "Limits.queue"),
        ({"limits": {"slots": 0}}, "Limits.slots"),
        ({"limits": {"slots": 1.5}}, "Limits.slots"),
        ({"limits": {"deadline_seconds": 0}}, "Limits.deadline_seconds"),
    ],
)
def test_wrong_arguments_are_told_before_anything_starts(voice, wrong, where):
    with pytest.raises(omni.OmniError, match=re.escape(where)):
        build({"model": str(voice), **wrong})
    with pytest.raises(omni.OmniError, match="no model"):
        build({})


def test_a_model_is_called_as_its_folder_or_its_file(tmp_path):
    (tmp_path / "code2wav.v2").mkdir()
    (tmp_path / "vocoder.v3.onnx").write_bytes(b"")
    for path, name in (("code2wav.v2", "code2wav.v2"), ("vocoder.v3.onnx", "vocoder.v3")):
        assert Deployed(model=str(tmp_path / path)).served_name == name
    assert Deployed(model=str(tmp_path), name="voice").served_name == "voice"


def test_a_replica_that_could_not_begin_ends_without_another_error(tmp_path, voice):
    (tmp_path / "m.onnx").write_bytes(b"no model")
    replica = Replica.__new__(Replica)
    replica.__del__()
    with pytest.raises(omni.OmniError):
        replica.__init__(Deployed(model=str(tmp_path / "m.onnx")))
    replica.__del__()
    with pytest.raises(omni.OmniError):
        replica.__init__(Deployed(model=str(voice), warmup={"audio_codes": [1, 15, 1]}))
    replica.__del__()
    with pytest.raises(omni.errors.ClosedError):
        replica._model.infer(audio_codes=served.codes(1))


def test_the_command_serves_until_it_is_told_to_end(voice):
    port = served.free_port()
    command = [sys.executable, "-c", "from omni_sdk.cli import main; main()", "serve", str(voice)]
    command += ["--port", str(port), "--warmup", "audio_codes=1,16,5"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        served.until(lambda: process.poll() is not None or is_up(port), 180)
        assert process.poll() is None, process.stdout.read()
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=90)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, output
    assert f"127.0.0.1:{port}/v2/models/voice/infer" in output
    assert "draining" in output


def test_rays_own_command_deploys_the_documented_file(voice, tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "scale.md").read_text()
    text = page.partition("```yaml\n")[2].partition("```")[0]
    port = served.free_port()
    text = text.replace("/models/code2wav", str(voice)).replace("8000", str(port)).replace("0.0.0.0", "127.0.0.1")
    text = text.replace("num_replicas: 4", "num_replicas: 1")
    (tmp_path / "serve.yaml").write_text(text)
    command = [sys.executable, "-m", "ray.serve.scripts", "run", str(tmp_path / "serve.yaml")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path)
    try:
        served.until(lambda: process.poll() is not None or is_up(port), 180)
        assert process.poll() is None, process.stdout.read()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=90)
    finally:
        process.kill()
        process.wait()
