"""Streams beside what they replace: python -m pytest bench/test_stream.py -s

The reference Code2Wav at full size, prepared in FP32, in the bench's cache folder (see `models.py`;
OMNI_SDK_BENCH_SMALL=1 tries the suite out on the small one), and Silero VAD over a minute of speech. Pairs are
interleaved within one run, results compared beside the timing.
Each figure is printed with its goal as it comes.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
import wave
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

import omni_sdk as omni

sys.path.insert(0, str(Path(__file__).parent))
from models import Models, cache_folder
from pairs import measure

DATA = Path(__file__).parents[1] / os.environ.get("OMNI_SDK_TEST_DATA", "../shared/data")
SILERO, SPEECH = DATA / "silero_vad.onnx", DATA / "speech_16k_60s.wav"
FRAMES, STEP, LEFT_CONTEXT, HOP = 128, 4, 25, 1920
TOLERANCE = 1e-4
RATE, CONTEXT, WINDOW = 16_000, 64, 512
ONE_THREAD = omni.Settings(intra_op_num_threads=1)

needs_speech = pytest.mark.skipif(not (SILERO.exists() and SPEECH.exists()), reason=f"no test data in {DATA}")


def show(figure, goal, measured):
    print(f"\n{figure:<64} goal {goal:<10} measured {measured}", flush=True)


@pytest.fixture(scope="module")
def models():
    return Models(cache_folder(), full=os.environ.get("OMNI_SDK_BENCH_SMALL", "0") in ("", "0"))


@pytest.fixture(scope="module")
def streaming(models):
    with omni.load(models.prepared("unit", streaming=True).parent, cache_dir=None) as model:
        for frames in (1, STEP):
            model.warmup({"audio_codes": (1, 16, frames)}, passes=3)
        yield model


@pytest.fixture(scope="module")
def one_shot(models):
    with omni.load(models.prepared("unit").parent, cache_dir=None) as model:
        yield model


@pytest.fixture(scope="module")
def codes(models):
    return models.codes(FRAMES)["audio_codes"]


def part(codes, begin, end):
    return {"audio_codes": np.ascontiguousarray(codes[..., begin:end])}


def by_steps(model, codes):
    with model.stream() as stream:
        chunks = (part(codes, begin, begin + STEP) for begin in range(0, FRAMES, STEP))
        return np.concatenate([results["waveform"] for results in stream.run(chunks)], -1)


def by_windows(model, codes):
    """The common chunked decode: every chunk again with 25 frames before it, whose samples are cut off."""
    pieces = []
    for begin in range(0, FRAMES, STEP):
        context = min(begin, LEFT_CONTEXT)
        pieces.append(model.infer(part(codes, begin - context, begin + STEP))["waveform"][..., context * HOP :])
    return np.concatenate(pieces, -1)


def test_time_to_first_audio(streaming, codes):
    first = part(codes, 0, 1)
    taken = []
    for _ in range(21):
        started = time.perf_counter()
        with streaming.stream() as stream:
            piece = stream.step(first)["waveform"]
            taken.append(time.perf_counter() - started)
    assert piece.shape[-1] == HOP - 555
    show(
        "time to first audio, 1 frame, model warm",
        "<= 50 ms",
        f"{statistics.median(taken) * 1e3:.1f} ms (best {min(taken) * 1e3:.1f})",
    )


def test_steps_beside_the_one_shot_decode(streaming, one_shot, codes):
    whole = {"audio_codes": codes}
    pair = measure(lambda: by_steps(streaming, codes), lambda: one_shot.infer(whole), calls=1, rounds=2, warm=1)
    copied = streaming.stats().bytes_copied
    steps, expected = by_steps(streaming, codes), one_shot.infer(whole)["waveform"]
    assert steps.shape == expected.shape and np.abs(steps - expected).max() <= TOLERANCE
    assert streaming.stats().bytes_copied == copied
    show(
        f"{FRAMES} frames in steps of {STEP} / one-shot",
        "<= 1.15",
        f"{pair.ratio:.3f} x ({pair.ours:.2f} against {pair.theirs:.2f} s)",
    )


def test_steps_beside_windows_with_left_context(streaming, one_shot, codes):
    pair = measure(lambda: by_steps(streaming, codes), lambda: by_windows(one_shot, codes), calls=1, rounds=1, warm=0)
    show(
        f"the same / chunks with {LEFT_CONTEXT} frames of left context",
        "<= 0.17",
        f"{pair.ratio:.3f} x ({pair.ours:.2f} against {pair.theirs:.2f} s)",
    )


@pytest.fixture(scope="module")
def windows():
    with wave.open(str(SPEECH)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float32) / 32_768
    padded = np.concatenate([np.zeros(CONTEXT, np.float32), samples])
    return [padded[begin : begin + CONTEXT + WINDOW][None] for begin in range(0, len(samples) - WINDOW + 1, WINDOW)]


@pytest.fixture
def session():
    return ort.InferenceSession(str(SILERO), ONE_THREAD.session_options(), providers=["CPUExecutionProvider"])


def prebound(session, window):
    """The least a step can be: two bindings made beforehand, whose state buffers swap roles, and ORT's run."""
    states = [np.zeros((2, 1, 128), np.float32), np.zeros((2, 1, 128), np.float32)]
    rate, output = np.array(RATE, np.int64), np.zeros((1, 1), np.float32)
    bindings = []
    for now, after in (states, states[::-1]):
        binding = session.io_binding()
        for name, array in (("input", window), ("state", now), ("sr", rate)):
            binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(array))
        for name, array in (("output", output), ("stateN", after)):
            binding.bind_ortvalue_output(name, ort.OrtValue.ortvalue_from_numpy(array))
        bindings.append(binding)
    kept = (states, rate, output, window)

    def step():
        session.run_with_iobinding(bindings[0])
        bindings.reverse()
        return kept

    return step


@needs_speech
def test_overhead_of_a_step(session, windows):
    window = windows[100].copy()
    with omni.load(SILERO, ONE_THREAD, cache_dir=None) as model, model.stream(sr=np.array(RATE, np.int64)) as stream:
        pair = measure(lambda: stream.step(input=window), prebound(session, window), calls=300)
        copied = model.stats().bytes_copied
    assert copied == 0
    show(
        "Silero VAD: Stream.step beyond ORT's own prebound run",
        "<= 12 us",
        f"{(pair.ours - pair.theirs) * 1e6:.1f} us ({pair.ours * 1e6:.1f} against {pair.theirs * 1e6:.1f}),"
        f" {copied} bytes copied",
    )


@needs_speech
def test_a_minute_of_speech(session, windows):
    rate = np.array(RATE, np.int64)

    def by_hand():
        state = np.zeros((2, 1, 128), np.float32)
        found = np.empty(len(windows), np.float32)
        for index, window in enumerate(windows):
            found[index : index + 1], state = session.run(None, {"input": window, "state": state, "sr": rate})
        return found

    with omni.load(SILERO, ONE_THREAD, cache_dir=None) as model:

        def by_stream():
            found = np.empty(len(windows), np.float32)
            with model.stream(sr=rate) as stream:
                for index, window in enumerate(windows):
                    found[index : index + 1] = stream.step(input=window)["output"]
            return found

        pair = measure(by_stream, by_hand, calls=1, rounds=15, warm=2)
        np.testing.assert_array_equal(by_stream(), by_hand())
    show(
        "Silero VAD, 60 s of speech: Stream / session.run by hand",
        "<= 0.90",
        f"{pair.ratio:.3f} x ({pair.ours:.3f} against {pair.theirs:.3f} s), equal bit for bit",
    )
