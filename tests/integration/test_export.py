"""An exported bundle on ONNX Runtime: streamed it is the one-shot waveform, and every state counts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx.reference import ReferenceEvaluator
from tiny_config import TINY

from omni_sdk.bundle import Bundle
from omni_sdk.tools.export import code2wav, reference_checkpoint
from omni_sdk.tools.export.build import build
from omni_sdk.tools.export.checkpoint import open_checkpoint

FRAMES = 90
TOLERANCE = 1e-5
"""Of FP32 waveforms at a level of 0.1; what is seen is 2e-6."""

State = dict[str, np.ndarray]


class Decoder:
    """Runs an exported bundle chunk by chunk."""

    def __init__(self, folder: Path) -> None:
        bundle = Bundle.open(folder)
        self.session = ort.InferenceSession(str(bundle.graph_path))
        self.pairs: Mapping[str, str] = bundle.manifest.state

    def fresh(self) -> State:
        kinds = {"tensor(int64)": np.int64, "tensor(float)": np.float32}
        return {i.name: np.zeros(i.shape, kinds[i.type]) for i in self.session.get_inputs() if i.name in self.pairs}

    def step(self, codes: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        names = ["waveform", *self.pairs.values()]
        outputs = dict(zip(names, self.session.run(names, {"audio_codes": codes, **state}), strict=True))
        return outputs["waveform"], {source: outputs[target] for source, target in self.pairs.items()}

    def stream(self, codes: np.ndarray, chunks: Iterable[int]) -> Iterator[np.ndarray]:
        state, begin = self.fresh(), 0
        for size in chunks:
            waveform, state = self.step(codes[..., begin : begin + size], state)
            yield waveform
            begin += size


def chunkings(frames: int, count: int, seed: int) -> list[list[int]]:
    """Random sizes that add up to `frames`, with runs of single frames and chunks beyond the attention's window."""
    random = np.random.default_rng(seed)
    cuts = (np.sort(random.choice(np.arange(1, frames), random.integers(1, frames // 2), False)) for _ in range(count))
    return [np.diff([0, *cut, frames]).tolist() for cut in cuts]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return reference_checkpoint(tmp_path_factory.mktemp("reference"), seed=5)


@pytest.fixture(scope="module")
def streaming(reference: Path, tmp_path_factory: pytest.TempPathFactory) -> Decoder:
    folder = tmp_path_factory.mktemp("bundles") / "streaming"
    code2wav(reference, folder)
    return Decoder(folder)


@pytest.fixture(scope="module")
def one_shot(reference: Path, tmp_path_factory: pytest.TempPathFactory) -> Decoder:
    folder = tmp_path_factory.mktemp("bundles") / "one-shot"
    code2wav(reference, folder, streaming=False)
    return Decoder(folder)


@pytest.fixture(scope="module")
def codes() -> np.ndarray:
    return np.random.default_rng(11).integers(0, 2048, (1, 16, FRAMES))


@pytest.fixture(scope="module")
def waveform(one_shot: Decoder, codes: np.ndarray) -> np.ndarray:
    return one_shot.step(codes, {})[0]


def test_from_zero_state_on_all_frames_it_is_the_one_shot_decode(
    streaming: Decoder, codes: np.ndarray, waveform: np.ndarray
) -> None:
    assert waveform.shape == (1, 1, 1920 * FRAMES - 555)
    np.testing.assert_allclose(streaming.step(codes, streaming.fresh())[0], waveform, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(
    "chunks",
    [[1] * FRAMES, [2, 88], [89, 1], [4] * 22 + [2], [1, 72, 17], [75, 15], *chunkings(FRAMES, 5, seed=3)],
    ids=lambda chunks: f"{len(chunks)} chunks from {chunks[0]}",
)
def test_chunks_of_any_sizes_concatenate_to_it(
    streaming: Decoder, codes: np.ndarray, waveform: np.ndarray, chunks: list[int]
) -> None:
    pieces = list(streaming.stream(codes, chunks))
    lengths = [1920 * size - (555 if index == 0 else 0) for index, size in enumerate(chunks)]
    assert [piece.shape[-1] for piece in pieces] == lengths
    np.testing.assert_allclose(np.concatenate(pieces, -1), waveform, rtol=0, atol=TOLERANCE)


def test_zeroing_any_one_state_shows(streaming: Decoder, codes: np.ndarray) -> None:
    _, state = streaming.step(codes[..., :80], streaming.fresh())
    expected, following = streaming.step(codes[..., 80:84], state)
    silent = []
    for name in state:
        damaged, _ = streaming.step(codes[..., 80:84], state | {name: np.zeros_like(state[name])})
        if damaged.shape == expected.shape and np.abs(damaged - expected).max() < 100 * TOLERANCE:
            silent.append(name)
    assert silent == []
    assert {name: value.shape for name, value in following.items()} == {n: v.shape for n, v in state.items()}


def test_the_look_back_of_attention_is_its_window_and_no_less(streaming: Decoder, codes: np.ndarray) -> None:
    """The oldest kept key counts for the next frame, so a context of 25 frames cannot be exact."""
    _, state = streaming.step(codes[..., :80], streaming.fresh())
    expected, _ = streaming.step(codes[..., 80:81], state)
    keys = state["past.0.value"].copy()
    keys[:, :, 0] = 0
    damaged, _ = streaming.step(codes[..., 80:81], state | {"past.0.value": keys})
    assert np.abs(damaged - expected).max() > 0


def test_a_chunked_decode_with_25_frames_of_left_context_is_not_it(
    one_shot: Decoder, codes: np.ndarray, waveform: np.ndarray
) -> None:
    pieces = []
    for begin in range(0, FRAMES, 5):
        context = min(begin, 25)
        piece, _ = one_shot.step(codes[..., begin - context : begin + 5], {})
        pieces.append(piece[..., context * 1920 :])
    joined = np.concatenate(pieces, -1)
    assert waveform.shape[-1] - joined.shape[-1] == 555 * (FRAMES // 5 - 1)


def test_rows_of_a_batch_do_not_mix(reference: Path, one_shot: Decoder, tmp_path: Path) -> None:
    code2wav(reference, tmp_path / "batch", batch=3)
    batched = Decoder(tmp_path / "batch")
    codes = np.random.default_rng(2).integers(0, 2048, (3, 16, 9))
    streamed = np.concatenate(list(batched.stream(codes, [2, 6, 1])), -1)
    np.testing.assert_allclose(one_shot.step(codes, {})[0], streamed, rtol=0, atol=TOLERANCE)
    for row in range(3):
        alone = one_shot.step(codes[row : row + 1], {})[0]
        np.testing.assert_allclose(streamed[row : row + 1], alone, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("seed", range(3))
def test_in_float64_streaming_is_exact_to_rounding(tmp_path: Path, seed: int) -> None:
    """The proof that nothing is approximated: what FP32 leaves is rounding alone. Runs on ONNX's own evaluator."""
    checkpoint = open_checkpoint(reference_checkpoint(tmp_path, config=TINY, seed=seed))
    codes = np.random.default_rng(seed).integers(0, 16, (1, 4, 24))
    plain = ReferenceEvaluator(ir.to_proto(build(checkpoint, streaming=False, dtype="float64")[0]))
    (expected,) = plain.run(None, {"audio_codes": codes})
    assert expected.dtype == np.float64
    model, pairs = build(checkpoint, streaming=True, dtype="float64")
    stepped = ReferenceEvaluator(ir.to_proto(model))
    state = {v.name: np.zeros(v.shape.numpy(), v.dtype.numpy()) for v in model.graph.inputs if v.name in pairs}
    pieces, begin = [], 0
    for size in chunkings(24, 1, seed)[0]:
        outputs = dict(
            zip(
                stepped.output_names,
                stepped.run(None, {"audio_codes": codes[..., begin : begin + size], **state}),
                strict=True,
            )
        )
        state = {source: outputs[target] for source, target in pairs.items()}
        pieces.append(outputs["waveform"])
        begin += size
    np.testing.assert_allclose(np.concatenate(pieces, -1), expected, rtol=0, atol=1e-14)
