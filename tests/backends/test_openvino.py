"""The whole SDK on the OpenVINO provider, end to end. `scripts/test-openvino` makes the environment it needs."""

from __future__ import annotations

import os
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

import omni_sdk as omni
from omni_sdk import compiled
from omni_sdk.errors import ProviderError, SettingsError
from omni_sdk.providers import CPU, OPENVINO
from omni_sdk.settings import Settings

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(
        OPENVINO not in ort.get_available_providers(), reason="no onnxruntime-openvino here: run scripts/test-openvino"
    ),
]

DATA = Path(os.environ.get("OMNI_SDK_TEST_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
ON_OPENVINO = Settings(providers=("openvino",))
FRAMES = 24
WITHIN = 1e-4
WINDOW, CONTEXT = 512, 64  # samples of a VAD step, and those of the step before it


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """The reference decoder, small: as exported, for the CPU with fused operators, and for OpenVINO without."""
    from omni_sdk.tools.export import code2wav, reference_checkpoint
    from omni_sdk.tools.prepare import prepare

    folder = tmp_path_factory.mktemp("bundles")
    reference_checkpoint(folder / "checkpoint")
    code2wav(folder / "checkpoint", folder / "exported")
    prepare(folder / "exported", folder / "openvino", target="openvino", measure=False)
    prepare(folder / "exported", folder / "cpu", measure=False)
    return folder


@pytest.fixture(scope="module")
def codes(bundles):
    with omni.load(bundles / "exported", cache_dir=None) as model:
        (spec,) = [spec for spec in model.inputs if spec.name == "audio_codes"]
        return np.random.default_rng(0).integers(0, spec.allowed[1] + 1, (1, spec.shape[1], FRAMES))


@pytest.fixture(scope="module")
def expected(bundles, codes):
    """What the CPU provider says."""
    with omni.load(bundles / "exported", cache_dir=None) as model:
        return model.infer(audio_codes=codes)["waveform"]


def on_openvino(place, **changes):
    return omni.load(place, ON_OPENVINO.replace(**changes), cache_dir=None)


@pytest.mark.parametrize("kind", ["exported", "openvino"])
def test_load_warm_up_and_infer(bundles, codes, expected, kind):
    with on_openvino(bundles / kind) as model:
        report = model.warmup(
            {spec.name: codes.shape if spec.name == "audio_codes" else spec.shape for spec in model.inputs}
        )
        assert len(report.seconds) >= 2
        first = model.infer(audio_codes=codes)["waveform"]
        again = model.infer(audio_codes=codes)["waveform"]
        np.testing.assert_allclose(first, expected, atol=WITHIN, rtol=0)
        np.testing.assert_array_equal(first, again)
        assert not np.shares_memory(first, again)
        assert set(model.explain().placement) == {OPENVINO}


def test_explain_tells_where_nodes_run_and_with_which_options(bundles):
    with on_openvino(bundles / "openvino") as model:
        found = model.explain()
    assert f"nodes on {OPENVINO}: {len(found.placement[OPENVINO])} (" in str(found)
    ((name, options),) = found["providers"].effective
    assert name == OPENVINO
    assert options["device_type"] == "CPU"
    assert '"INFERENCE_PRECISION_HINT": "f32"' in options["load_config"]


def test_a_stream_is_the_one_shot_decode(bundles, codes, expected):
    with on_openvino(bundles / "openvino") as model, model.stream() as stream:
        chunks = [codes[:, :, start : start + 4] for start in range(0, FRAMES, 4)]
        found = np.concatenate([stream.step(audio_codes=chunk)["waveform"] for chunk in chunks], axis=-1)
    np.testing.assert_allclose(found, expected, atol=WITHIN, rtol=0)


def test_the_result_cache(bundles, codes, expected):
    with on_openvino(bundles / "openvino", cache_bytes=64 << 20) as model:
        first = model.infer(audio_codes=codes)["waveform"]
        second = model.infer(audio_codes=codes.copy())["waveform"]
        assert model.stats().cache_hits == 1
    np.testing.assert_allclose(first, expected, atol=WITHIN, rtol=0)
    np.testing.assert_array_equal(first, second)


def test_the_compile_cache_is_the_providers_own_or_says_why_not(bundles, codes, expected, tmp_path):
    """Builds of the provider that cannot read what they wrote compile once for nothing, and never again."""
    found = []
    for _ in range(3):
        with omni.load(bundles / "openvino", ON_OPENVINO, cache_dir=tmp_path) as model:
            found.append(model.explain().compile_cache)
            np.testing.assert_allclose(model.infer(audio_codes=codes)["waveform"], expected, atol=WITHIN, rtol=0)
    entries = [path for path in (tmp_path / "compiled").iterdir() if not path.name.startswith(".")]
    if found[0] == "built":
        assert found[1:] == ["hit", "hit"]
        assert [path.suffix for path in entries[0].iterdir()].count(".blob") >= 1
    else:
        assert found == [f"off, {compiled.UNREAD}"] * 3
        assert entries == []


HOSTED = """
import sys
import numpy as np
import omni_sdk as omni
codes, expected = np.load(sys.argv[3]), np.load(sys.argv[4])
with omni.Host("2 GiB", settings=omni.Settings(providers=("openvino",)), cache_dir=None) as host:
    host.add("first", sys.argv[1])
    host.add("second", sys.argv[2])
    for name in ("first", "second", "first"):
        print(np.abs(host[name].infer(audio_codes=codes)["waveform"] - expected).max())
"""


def test_several_models_under_one_budget(bundles, codes, expected, tmp_path):
    """In a process of its own: its threads are the process's from then on."""
    np.save(tmp_path / "codes.npy", codes)
    np.save(tmp_path / "expected.npy", expected)
    places = [bundles / "exported", bundles / "openvino", tmp_path / "codes.npy", tmp_path / "expected.npy"]
    run = subprocess.run(
        [sys.executable, "-c", HOSTED, *places], capture_output=True, text=True, timeout=120, check=True
    )
    assert [float(line) < WITHIN for line in run.stdout.splitlines()] == [True] * 3


def test_a_bench_shows_it_beside_the_cpu(bundles, codes):
    from omni_sdk.tools.bench import Effort, bench

    found = bench(
        bundles / "openvino",
        ["balanced", "provider:openvino"],
        shapes={"audio_codes": codes.shape},
        rounds=1,
        effort=Effort(seconds=0.2),
    )
    assert [row.name for row in found.rows] == ["balanced", "provider:openvino"]
    assert [row.failure for row in found.rows] == ["", ""]


def test_tune_counts_it_among_the_contenders():
    from omni_sdk.tools.measure.search import Limits, default_space

    assert (OPENVINO, "cpu") in default_space(Limits())["providers"]


FUSED = """
import sys
import numpy as np
import omni_sdk as omni
codes = np.load(sys.argv[2])
with omni.load(sys.argv[1], omni.Settings(providers=("openvino",)), cache_dir=None) as model:
    np.save(sys.argv[3], model.infer(audio_codes=codes)["waveform"])
    for name, nodes in model.explain().placement.items():
        print(name, sum("Conv1d" in node for node in nodes), len(nodes))
"""


def test_fused_operators_stay_on_the_cpu(bundles, codes, expected, tmp_path):
    np.save(tmp_path / "codes.npy", codes)
    command = [sys.executable, "-c", FUSED, bundles / "cpu", tmp_path / "codes.npy", tmp_path / "waveform.npy"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    np.testing.assert_allclose(np.load(tmp_path / "waveform.npy"), expected, atol=WITHIN, rtol=0)
    fused = {name: int(count) for name, count, _ in map(str.split, run.stdout.splitlines())}
    assert fused[CPU] > 0
    assert fused[OPENVINO] == 0


def test_a_provider_that_takes_no_node(tmp_path):
    from onnx import parser

    text = """<ir_version: 10, opset_import: ["": 17, "omni": 1]>
        g (float[1, 2, T] x, float[2] a) => (float[1, 2, T] y) { y = omni.Snake(x, a, a) }"""
    model = parser.parse_model(text).SerializeToString()
    with pytest.raises(ProviderError, match=rf"Expected {OPENVINO} to take nodes, got none(.|\n)*1 on {CPU}"):
        omni.load(model, ON_OPENVINO, cache_dir=None)
    with omni.load(model, ON_OPENVINO.replace(allow_fallback=True), cache_dir=None) as loaded:
        assert "takes no node" in loaded.explain()["providers"].reason


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"cache_dirs": "x"}, SettingsError, "did you mean 'cache_dir'"),
        ({"device_type": "TPU"}, SettingsError, "takes no device_type='TPU'"),
        ({"device_type": "NPU"}, ProviderError, "to take part"),
        ({"load_config": '{"CPU": {"NO_SUCH": "1"}}'}, ProviderError, "Unsupported property NO_SUCH"),
    ],
)
def test_wrong_options(bundles, options, error, says):
    with pytest.raises(error, match=says):
        on_openvino(bundles / "openvino", providers=(("openvino", options),))


# --- Silero VAD, a real model with an If whose branches give different ranks


def silero():
    path = DATA / "silero_vad.onnx"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    return path


def speech():
    with wave.open(str(DATA / "speech_16k_60s.wav")) as file:
        samples = np.frombuffer(file.readframes(WINDOW * 200), "<i2").astype(np.float32) / 32768
    padded = np.concatenate([np.zeros(CONTEXT, np.float32), samples])
    return [padded[None, start : start + CONTEXT + WINDOW] for start in range(0, len(samples) - WINDOW + 1, WINDOW)]


def test_what_its_compiler_refuses_is_one_sentence_with_a_remedy():
    with pytest.raises(ProviderError) as caught:
        omni.load(silero(), ON_OPENVINO, cache_dir=None)
    message, hint = str(caught.value).split("\n")
    assert message.startswith(f"Expected a model that {OPENVINO} takes, got ")
    assert "dynamic rank" in message
    assert "--fix" in hint
    assert len(message) < 300


def test_a_refused_model_runs_on_the_cpu_where_that_is_allowed():
    with omni.load(silero(), ON_OPENVINO.replace(allow_fallback=True), cache_dir=None) as model:
        assert model.explain()["providers"].effective == (CPU,)
        assert "refused" in model.explain()["providers"].reason


def test_the_remedy_works_on_speech(tmp_path):
    from omni_sdk.tools.prepare import prepare

    shapes = {"input": (1, CONTEXT + WINDOW), "state": (2, 1, 128)}
    prepare(silero(), tmp_path / "vad", fix={"sr": 16000}, shapes=shapes, target="openvino", measure=False)
    found, wanted = [], []
    with omni.load(silero(), cache_dir=None) as model, model.stream(sr=np.array(16000)) as stream:
        wanted = [stream.step(input=window)["output"].item() for window in speech()]
    with on_openvino(tmp_path / "vad") as model, model.stream() as stream:
        found = [stream.step(input=window)["output"].item() for window in speech()]
        assert set(model.explain().placement) == {OPENVINO}
    assert max(wanted) > 0.9
    np.testing.assert_allclose(found, wanted, atol=WITHIN, rtol=0)
