"""Models of the prepare suite, built once in a cache folder: reference exports, prepared, quantized in several ways."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
import platformdirs
import vocoders
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, quantize_static

from omni_sdk.bundle import Bundle
from omni_sdk.tools.export import code2wav, reference_checkpoint
from omni_sdk.tools.prepare import prepare
from omni_sdk.tools.prepare.hardware import byte_products
from omni_sdk.tools.prepare.pictures import save_report
from omni_sdk.tools.prepare.quantize.build import build
from omni_sdk.tools.prepare.quantize.qdq import calibrate, quantize_all
from omni_sdk.tools.prepare.quantize.scheme import candidates
from omni_sdk.tools.prepare.quantize.selection import groups_of
from omni_sdk.tools.prepare.quantize.tables import tables_of
from omni_sdk.tools.prepare.rules.order import CONV1D_PASSES, FORMS
from omni_sdk.tools.prepare.timing import race
from omni_sdk.tools.saving import save_bundle, save_model

CALIBRATION_FRAMES = 32
MIN_SNR_DB = 70.0  # what prepare takes for tiles unless it is told


def cache_folder() -> Path:
    """Where the models go: `OMNI_SDK_BENCH_CACHE`, or the user's cache."""
    place = Path(os.environ.get("OMNI_SDK_BENCH_CACHE") or platformdirs.user_cache_path("omni-sdk") / "bench")
    place.mkdir(parents=True, exist_ok=True)
    return place


@dataclass(frozen=True)
class Models:
    """Reference Code2Wav in every state the table asks about, made on first use.

    Parameters
    ----------
    folder : pathlib.Path
        The cache.
    full : bool
        Full size, or small for trying the suite out.
    """

    folder: Path
    full: bool

    def codes(self, frames: int, seed: int = 0) -> dict[str, np.ndarray]:
        """Random codes [1, 16, frames]."""
        return {"audio_codes": np.random.default_rng(seed).integers(0, 2048, (1, 16, frames))}

    def samples(self) -> list[dict[str, np.ndarray]]:
        """What calibrates and judges."""
        return [self.codes(CALIBRATION_FRAMES, seed) for seed in (1, 2, 3)]

    def checkpoint(self, weights: str) -> Path:
        """A seeded checkpoint."""
        return self._made(
            f"checkpoint-{weights}", lambda path: reference_checkpoint(path, full=self.full, weights=weights)
        )

    def exported(self, weights: str, *, streaming: bool = False) -> Path:
        """The graph as the exporter writes it, in standard operators."""
        name = f"{'stream' if streaming else 'shot'}-{weights}"
        bundle = self._made(name, lambda path: code2wav(self.checkpoint(weights), path, streaming=streaming))
        return Bundle.open(bundle).graph_path

    def rewritten(self, weights: str, *, streaming: bool = False) -> Path:
        """FP32, rewritten, channels first: what layers are quantized from."""
        source, skip = self.exported(weights, streaming=streaming).parent, [each.title for each in CONV1D_PASSES]
        bundle = self._made(f"rewritten-{source.name}", lambda path: prepare(source, path, skip=skip, measure=False))
        return Bundle.open(bundle).graph_path

    def direct(self, weights: str, *, streaming: bool = False) -> Path:
        """FP32, channels last, every convolution direct."""
        source = self.exported(weights, streaming=streaming).parent
        bundle = self._made(f"direct-{source.name}", lambda path: prepare(source, path, measure=False))
        return Bundle.open(bundle).graph_path

    def prepared(self, weights: str, *, streaming: bool = False, min_snr_db: float = MIN_SNR_DB) -> Path:
        """FP32 as `prepare` makes it, with the tiles that are fastest here; its report lies beside it."""
        source = self.exported(weights, streaming=streaming).parent
        name = f"tiled-{source.name}" if min_snr_db == MIN_SNR_DB else f"tiled-{min_snr_db:g}-{source.name}"

        def make(path: Path) -> None:
            save_report(prepare(source, path, min_fp32_snr_db=min_snr_db), self.report_of(path))

        return Bundle.open(self._made(name, make)).graph_path

    @staticmethod
    def report_of(bundle: Path) -> Path:
        """Folder of the report on a prepared bundle."""
        return bundle.with_name(f"{bundle.name}-report")

    def vocoder(self, family: str) -> Path:
        """Another vocoder's shape, as exporters write it: `dac` or `bigvgan`."""
        size = {"width": 768, "rates": (8, 8, 4, 2)} if self.full else {}
        return self._made(f"{family}.onnx", lambda path: getattr(vocoders, family)(path, **size))

    def gated(self, weights: str, min_snr_db: float) -> Path:
        """What the gate lets through at a target."""
        source = self.exported(weights).parent
        name = f"gated-{weights}-{min_snr_db:g}"
        made = self._made(
            name,
            lambda path: prepare(source, path, calibration=self.samples(), min_snr_db=min_snr_db, measure=False),
        )
        return Bundle.open(made).graph_path

    def quantized(self, weights: str, layers: str, *, streaming: bool = False) -> Path:
        """INT8 of chosen layers of the prepared model, fused: `all`, tables too, or `decoder`, its convolutions."""
        graph = self.rewritten(weights, streaming=streaming)
        made = self._made(
            f"int8-{layers}-{graph.parent.name}", lambda path: self._quantize(graph, path, layers, streaming=streaming)
        )
        return Bundle.open(made).graph_path

    def plain_int8(self, weights: str) -> Path:
        """What onnxruntime.quantization makes of the export as it is: QDQ, nothing rewritten."""
        graph = self.exported(weights)

        def make(path: Path) -> None:
            path.mkdir()
            quantize_static(
                graph,
                path / "model.onnx",
                _Reader(self.samples()[:2]),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=["Conv", "MatMul"],
                per_channel=True,
                reduce_range=byte_products().saturates,
                use_external_data_format=True,
                extra_options={"MatMulConstBOnly": True},
            )

        return self._made(f"plain-int8-{weights}", make) / "model.onnx"

    def _quantize(self, graph: Path, path: Path, layers: str, *, streaming: bool) -> None:
        scratch = path.with_name(f"{path.name}.work")
        scratch.mkdir()
        feeds = [{**zeros(graph), **sample} for sample in self.samples()[:2]] if streaming else self.samples()[:2]
        floats = scratch / "float.onnx"
        save_model(floats, ir.load(graph))
        names = self._qdq(floats, scratch / "all.onnx", feeds)
        if layers == "decoder":
            convolutions = {node.name for node in ir.load(graph).graph if node.op_type == "Conv"}
            names = [name for name in names if name in convolutions]
        model = self._fastest(scratch / "all.onnx", floats, names, feeds[0])
        save_bundle(path, model, state=Bundle.open(graph.parent).manifest.state)
        for file in scratch.iterdir():
            file.unlink()
        scratch.rmdir()

    @staticmethod
    def _fastest(quantized: Path, floats: Path, names: list[str], feeds: dict[str, np.ndarray]) -> ir.Model:
        """By whichever operators, with or without convolutions to one channel as bytes: as the gate would find."""
        single = {
            node.name
            for node in ir.load(floats).graph
            if node.op_type == "Conv" and node.inputs[1].const_value.shape.numpy()[0] == 1
        }
        without = [name for name in names if name not in single]
        best, tried = floats.with_name("best.onnx"), floats.with_name("tried.onnx")
        fastest = None
        for form, chosen in itertools.product(FORMS, (names, without)):
            model, _ = build(quantized, floats, chosen, floats.parent, passes=form.passes)
            save_model(tried, model)
            if fastest is None or race(best, tried, feeds).ratio < 1:
                fastest = model
                save_model(best, model)
        return fastest

    @staticmethod
    def _qdq(graph: Path, out: Path, feeds: list[dict[str, np.ndarray]]) -> list[str]:
        model = ir.load(graph)
        names = [name for group in groups_of(model) for name in group.nodes]
        tables = [name for group in tables_of(model) for name in group.nodes]
        named = {node.name for node in model.graph}
        assert len(named) == len(model.graph), "every node has a name of its own"
        ranges = calibrate(graph, feeds, CalibrationMethod.MinMax)
        quantize_all(graph, ranges, candidates(byte_products())[0], names, out)
        return [*names, *tables]

    def _made(self, name: str, make: Callable[[Path], object]) -> Path:
        path = self.folder / f"{'full' if self.full else 'small'}-{name}"
        if not path.exists():
            make(path)
        return path


class _Reader(CalibrationDataReader):
    def __init__(self, samples: list[dict[str, np.ndarray]]) -> None:
        self._left = iter(samples)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._left, None)


def zeros(graph: Path) -> dict[str, np.ndarray]:
    """Fresh state for a streaming graph: zeros for every input of a fixed shape."""
    return {
        value.name: np.zeros(value.shape.numpy(), value.dtype.numpy())
        for value in ir.load(graph).graph.inputs
        if value.shape.is_static()
    }


def size_on_disk(graph: Path) -> int:
    """Bytes of a graph and what lies beside it."""
    return sum(path.stat().st_size for path in graph.parent.iterdir() if path.suffix in (".onnx", ".bin", ".data"))
