"""`omni-sdk synth`: from codes to a WAV that is the one-shot decode, and what wrong codes get."""

from __future__ import annotations

import io
import shlex
import sys
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

import omni_sdk as omni
from omni_sdk.cli import main
from omni_sdk.tools.export import code2wav, reference_checkpoint
from omni_sdk.tools.synth import Synthesis, audio_of, chunk_sizes, read_codes
from omni_sdk.tools.wav import MAX_SAMPLES, header, player, wav_file

FRAMES = 40
ROUNDING = 1 / 32_767
COPY = "import sys; open(sys.argv[1], 'wb').write(sys.stdin.buffer.read())"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synth")
    code2wav(reference_checkpoint(folder / "checkpoint", seed=7), folder / "bundle")
    return folder / "bundle"


@pytest.fixture(scope="module")
def codes() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 2048, (16, FRAMES))


@pytest.fixture(scope="module")
def waveform(bundle: Path, codes: np.ndarray) -> np.ndarray:
    with omni.load(bundle, cache_dir=None) as model:
        return model.infer(audio_codes=codes[None])["waveform"][0, 0]


@pytest.fixture
def saved(codes: np.ndarray, tmp_path: Path) -> Path:
    np.save(tmp_path / "codes.npy", codes)
    return tmp_path / "codes.npy"


def call(*arguments: str | Path, **options: object) -> Result:
    return CliRunner().invoke(main, ["synth", *map(str, arguments)], **options)  # type: ignore[arg-type]


def samples_of(path: Path) -> np.ndarray:
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 24_000)
        found = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        assert found.size == file.getnframes()
    return found / 32_767


def test_the_file_is_the_one_shot_decode(bundle: Path, saved: Path, waveform: np.ndarray, tmp_path: Path) -> None:
    result = call(bundle, saved, "--out", tmp_path / "a.wav", "--chunk", "7", "--first-chunk", "2")
    assert result.exit_code == 0, result.output
    assert "RTF" in result.output and "first audio after" in result.output and "7 steps" in result.output
    np.testing.assert_allclose(samples_of(tmp_path / "a.wav"), waveform, rtol=0, atol=ROUNDING)


def test_a_player_gets_the_same_wav_through_its_pipe(bundle: Path, saved: Path, tmp_path: Path) -> None:
    heard = tmp_path / "heard.wav"
    command = shlex.join([sys.executable, "-c", COPY, str(heard)])
    result = call(bundle, saved, "-o", tmp_path / "a.wav", "--play", command)
    assert result.exit_code == 0, result.output
    assert heard.read_bytes() == (tmp_path / "a.wav").read_bytes()


@pytest.mark.parametrize("save", [np.save, np.savez, lambda file, array: np.savez(file, codes=array, other=1)])
def test_codes_come_from_standard_input_too(
    bundle: Path, codes: np.ndarray, waveform: np.ndarray, tmp_path: Path, save: object
) -> None:
    buffer = io.BytesIO()
    save(buffer, codes)  # type: ignore[operator]
    result = call(bundle, "-", "-o", tmp_path / "a.wav", input=buffer.getvalue())
    assert result.exit_code == 0, result.output
    np.testing.assert_allclose(samples_of(tmp_path / "a.wav"), waveform, rtol=0, atol=ROUNDING)


def test_the_file_grows_while_it_is_made(bundle: Path, codes: np.ndarray, tmp_path: Path) -> None:
    from omni_sdk.tools.wav import wav_file

    sizes = []
    with omni.load(bundle, cache_dir=None) as model:
        synthesis = Synthesis(model, audio_of(bundle), codes[None], chunk=10)
        with wav_file(tmp_path / "a.wav", 24_000, synthesis.samples) as wav:
            for piece in synthesis:
                wav.write(piece)
                sizes.append((tmp_path / "a.wav").stat().st_size)
    lengths = np.array(chunk_sizes(FRAMES, 1, 10)) * 1920
    lengths[0] -= 555
    np.testing.assert_array_equal(np.array(sizes), 44 + 2 * np.cumsum(lengths))
    timing = synthesis.timing
    assert (timing.frames, timing.steps, timing.samples) == (FRAMES, len(lengths), lengths.sum())
    assert 0 < timing.first_audio_seconds < timing.seconds
    assert timing.rtf == timing.seconds / (timing.samples / 24_000)


@pytest.mark.parametrize(
    ("frames", "first", "most", "sizes"),
    [
        (40, 1, 25, [1, 2, 4, 8, 16, 9]),
        (5, 8, 3, [3, 2]),
        (3, 3, 3, [3]),
        (2, 25, 25, [2]),
        (30, 4, 8, [4, 8, 8, 8, 2]),
    ],
)
def test_steps_begin_small_and_grow(frames: int, first: int, most: int, sizes: list[int]) -> None:
    assert chunk_sizes(frames, first, most) == sizes


def damaged(codes: np.ndarray, value: int) -> np.ndarray:
    worse = codes.copy()
    worse[3, 17] = value
    return worse


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: damaged(c, 2048), "Expected values from 0 to 2047, got 2048"),
        (lambda c: damaged(c, -1), "Expected values from 0 to 2047, got -1"),
        (lambda c: c[:5], "Expected 16 quantizers, got codes of shape [5, 40]"),
        (lambda c: np.ascontiguousarray(c.T), "frames come last: transpose the codes"),
        (lambda c: c[:, :0], "Expected at least one frame, got codes of shape [16, 0]"),
        (lambda c: c.astype(np.float32), "Expected codes as integers, got float32"),
        (lambda c: np.stack([c, c]), "Expected codes of shape [quantizers, frames], got [2, 16, 40]"),
        (lambda c: np.array([{}]), "Expected plain arrays as .npy or .npz, got something else"),
    ],
)
def test_wrong_codes_are_named(bundle: Path, codes: np.ndarray, tmp_path: Path, change: object, message: str) -> None:
    np.save(tmp_path / "codes.npy", change(codes), allow_pickle=True)  # type: ignore[operator]
    result = call(bundle, tmp_path / "codes.npy", "-o", tmp_path / "a.wav")
    assert result.exit_code == 1
    assert message in result.output


def test_a_code_out_of_range_is_named_by_its_frame_of_the_whole_and_nothing_is_written(
    bundle: Path, codes: np.ndarray, tmp_path: Path
) -> None:
    np.save(tmp_path / "codes.npy", damaged(codes, 9999))
    result = call(bundle, tmp_path / "codes.npy", "-o", tmp_path / "a.wav", "--chunk", "4")
    assert "got 9999 - at input 'audio_codes'[0, 3, 17]" in result.output
    assert not (tmp_path / "a.wav").exists()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("no-such-player", "Expected a program to play with, got 'no-such-player'"),
        ("false", "Expected a program that plays WAV from its standard input"),
        ("", "Expected a program to play with, got ''"),
    ],
)
def test_a_player_that_does_not_play_is_told(bundle: Path, saved: Path, command: str, message: str) -> None:
    result = call(bundle, saved, "--play", command)
    assert result.exit_code == 1
    assert message in result.output


@pytest.mark.parametrize("sink", [wav_file, player], ids=["file", "player"])
def test_more_samples_than_wav_can_count_are_refused_before_anything_is_written(tmp_path: Path, sink: Any) -> None:
    place = str(tmp_path / "long.wav")
    message = f"Expected at most {MAX_SAMPLES} samples for WAV, got {2**31}"
    with pytest.raises(omni.InputError, match=message), sink(place, 24_000, 2**31):
        pass
    assert not list(tmp_path.iterdir())
    assert len(header(24_000, MAX_SAMPLES)) == 44


def test_a_model_without_state_or_audio_is_told(bundle: Path, saved: Path, tmp_path: Path) -> None:
    code2wav(bundle.parent / "checkpoint", tmp_path / "one-shot", streaming=False)
    assert "got a one-shot one" in call(tmp_path / "one-shot", saved, "--play", "cat").output
    assert "Expected a bundle, got something else" in call(bundle / "model.onnx", saved, "--play", "cat").output
    assert "Expected --out or --play" in call(bundle, saved).output


def test_codes_of_several_arrays_need_a_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "codes.npz", a=np.zeros((16, 1), int), b=np.zeros((16, 1), int))
    with pytest.raises(omni.InputError, match="Expected one array, or one named codes, got a, b"):
        read_codes(tmp_path / "codes.npz")


def test_the_demo_writes_what_it_names_and_its_stream_is_the_one_shot_decode(tmp_path: Path) -> None:
    result = call("--demo", "--out", tmp_path / "demo")
    assert result.exit_code == 0, result.output
    assert "the stream equals the one-shot decode" in result.output
    assert samples_of(tmp_path / "demo" / "speech.wav").size == 100 * 1920 - 555
    again = call(tmp_path / "demo" / "code2wav", tmp_path / "demo" / "codes.npy", "-o", tmp_path / "again.wav")
    assert again.exit_code == 0
    assert (tmp_path / "again.wav").read_bytes() == (tmp_path / "demo" / "speech.wav").read_bytes()
