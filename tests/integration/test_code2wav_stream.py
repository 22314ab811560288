"""Code2Wav through `Model.stream`: any chunks give the one-shot waveform, without copies and without a wasted run."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import omni_sdk as omni
from omni_sdk.tools.export import code2wav, reference_checkpoint
from omni_sdk.tools.export.config import Config

FRAMES = 120
TOLERANCE = 1e-5
"""Of FP32 waveforms at a level of 0.1; what is seen is 2e-6."""

TINY = Config(
    codebook_size=64, num_quantizers=4, hidden_size=16, num_attention_heads=4, num_key_value_heads=4, sliding_window=8,
    intermediate_size=24, num_hidden_layers=2, upsampling_ratios=(2, 2), upsample_rates=(3, 2, 2), decoder_dim=16,
)  # fmt: skip


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stream")
    code2wav(reference_checkpoint(folder / "checkpoint", seed=4), folder / "bundle")
    return folder / "bundle"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    code2wav(reference_checkpoint(folder / "checkpoint", config=TINY, seed=9), folder / "bundle")
    return folder / "bundle"


@pytest.fixture(scope="module")
def codes() -> np.ndarray:
    return np.random.default_rng(8).integers(0, 2048, (1, 16, FRAMES))


def chunks(codes: np.ndarray, sizes: list[int]) -> Iterator[dict[str, np.ndarray]]:
    for end, size in zip(np.cumsum(sizes), sizes, strict=True):
        yield {"audio_codes": np.ascontiguousarray(codes[..., end - size : end])}


def random_sizes(frames: int, source: np.random.Generator) -> list[int]:
    sizes = []
    while (left := frames - sum(sizes)) > 0:
        sizes.append(int(min(left, source.choice([1, 1, 2, 3, 4, 4, 7, 25, 80]))))
    return sizes


def streamed(stream: omni.Stream, codes: np.ndarray, sizes: list[int]) -> np.ndarray:
    return np.concatenate([results["waveform"] for results in stream.run(chunks(codes, sizes))], -1)


@pytest.mark.parametrize("seed", range(4))
def test_random_chunks_give_the_one_shot_waveform(bundle: Path, codes: np.ndarray, seed: int) -> None:
    sizes = random_sizes(FRAMES, np.random.default_rng(seed))
    with omni.load(bundle, cache_dir=None) as model, model.stream() as stream:
        whole = model.infer(audio_codes=codes)["waveform"]
        for _ in range(2):
            found = streamed(stream, codes, sizes)
            assert found.shape == whole.shape == (1, 1, 1920 * FRAMES - 555)
            np.testing.assert_allclose(found, whole, rtol=0, atol=TOLERANCE)
            stream.reset()


def test_steps_of_one_size_are_bound_from_the_third_on_and_copy_nothing(bundle: Path, codes: np.ndarray) -> None:
    """A first step gives fewer samples than as many frames later: that is no reason to run anything twice."""
    with omni.load(bundle, cache_dir=None) as model:
        model.warmup({"audio_codes": (1, 16, 4)}, passes=2)
        before = model.stats()
        with model.stream() as stream:
            pieces = [results["waveform"] for results in stream.run(chunks(codes, [4] * 30))]
        after = model.stats()
        assert [piece.shape[-1] for piece in pieces] == [4 * 1920 - 555] + [4 * 1920] * 29
        assert after.runs - before.runs == 30
        assert after.bytes_copied == before.bytes_copied
        assert str(model.explain()).count("depends on the data") == 0
        assert model._runner.bound_later_step({"audio_codes": codes[..., :4], **model.stream()._first_states({})})


def test_a_later_piece_is_never_overwritten(bundle: Path, codes: np.ndarray) -> None:
    with omni.load(bundle, cache_dir=None) as model, model.stream() as stream:
        pieces, copies = [], []
        for results in stream.run(chunks(codes, [3] * 40)):
            pieces.append(results["waveform"])
            copies.append(results["waveform"].copy())
        for piece, copy in zip(pieces, copies, strict=True):
            np.testing.assert_array_equal(piece, copy)


def test_without_its_state_the_same_chunk_sounds_otherwise(bundle: Path, codes: np.ndarray) -> None:
    """The control: were state not carried, the comparisons above would fail by this much."""
    with omni.load(bundle, cache_dir=None) as model, model.stream() as stream:
        whole = model.infer(audio_codes=codes)["waveform"][0, 0]
        next(iter(stream.run(chunks(codes, [60]))))
        kept = stream.snapshot()
        chunk = {"audio_codes": np.ascontiguousarray(codes[..., 60:80])}
        right = stream.step(chunk)["waveform"][0, 0]
        begin = 60 * 1920 - 555
        np.testing.assert_allclose(right, whole[begin : begin + right.size], rtol=0, atol=TOLERANCE)
        for name in ("past.0.value", "past.decoder.2.tconv", "past.position"):
            stream.restore({**kept, name: np.zeros_like(kept[name])})
            wrong = stream.step(chunk)["waveform"][0, 0]
            assert wrong.size != right.size or np.abs(wrong - right).max() > 100 * TOLERANCE


def test_a_refused_step_leaves_the_stream_as_it_was(bundle: Path, codes: np.ndarray) -> None:
    broken = codes.copy()
    broken[0, 5, 9] = 4000
    with omni.load(bundle, cache_dir=None) as model, model.stream() as stream:
        whole = model.infer(audio_codes=codes)["waveform"]
        pieces = []
        for good, bad in zip(chunks(codes, [12] * 10), chunks(broken, [12] * 10), strict=True):
            for wrong in (bad, {"audio_codes": good["audio_codes"][:, :3]}, {"audio_codes": codes[..., :0]}):
                if wrong is not bad or (bad["audio_codes"] > 2047).any():
                    with pytest.raises(omni.InputError):
                        stream.step(wrong)
            pieces.append(stream.step(good)["waveform"])
        np.testing.assert_allclose(np.concatenate(pieces, -1), whole, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("count", [150, pytest.param(1000, marks=pytest.mark.heavy)])
def test_interleaved_streams_do_not_mix_and_memory_stays_flat(tiny: Path, count: int) -> None:
    source = np.random.default_rng(0)
    with omni.load(tiny, omni.Settings(intra_op_num_threads=1), cache_dir=None) as model:
        alive: list[tuple[omni.Stream, np.ndarray, Iterator[dict[str, np.ndarray]], list[np.ndarray]]] = []
        finished = started = 0
        peaks = []
        while finished < count:
            while len(alive) < 20 and started < count:
                codes = source.integers(0, 64, (1, 4, int(source.integers(4, 20))))
                steps = chunks(codes, random_sizes(codes.shape[-1], source))
                alive.append((model.stream(), codes, steps, []))
                started += 1
            index = int(source.integers(len(alive)))
            stream, codes, steps, pieces = alive[index]
            chunk = next(steps, None)
            if chunk is not None:
                pieces.append(stream.step(chunk)["waveform"])
                continue
            whole = model.infer(audio_codes=codes)["waveform"]
            np.testing.assert_allclose(np.concatenate(pieces, -1), whole, rtol=0, atol=TOLERANCE)
            stream.close()
            del alive[index]
            finished += 1
            peaks.append(model.stats().bytes_in_use)
        assert max(peaks[count // 2 :]) <= max(peaks[: count // 2]) * 1.5


def test_threads_with_a_stream_each_do_not_mix(bundle: Path, codes: np.ndarray) -> None:
    failures: list[object] = []
    with omni.load(bundle, omni.Settings(intra_op_num_threads=1), cache_dir=None) as model:
        whole = model.infer(audio_codes=codes)["waveform"]

        def work(seed: int) -> None:
            try:
                with model.stream() as stream:
                    found = streamed(stream, codes, random_sizes(FRAMES, np.random.default_rng(seed)))
                np.testing.assert_allclose(found, whole, rtol=0, atol=TOLERANCE)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []
