"""Calibration and the fully quantized model, by onnxruntime.quantization."""

from __future__ import annotations

import contextlib
import copy
import io
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod
from onnxruntime.quantization.calibrate import MinMaxCalibrater, PercentileCalibrater, TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from omni_sdk.errors import ModelError
from omni_sdk.session import explained
from omni_sdk.tools.prepare.calibration import calibrating_place, sample_runs
from omni_sdk.tools.prepare.feeds import Feeds
from omni_sdk.tools.prepare.quantize.protos import fill_again, hollow_out, load_only
from omni_sdk.tools.prepare.quantize.scheme import Scheme
from omni_sdk.tools.prepare.sessions import open_session
from omni_sdk.tools.prepare.symbols import Symbols

QUANTIZABLE = ("Conv", "MatMul")
PERCENTILE = 99.99
HISTOGRAM_BINS = 2048
EXTERNAL_BYTES = 1024

INFERRED = ("onnx.infer", "onnxruntime.quant")
"""By this metadata entry the quantizer knows that types are declared; it would write and read the whole model else."""

METHODS = (CalibrationMethod.MinMax, CalibrationMethod.Percentile)
HISTOGRAM_BYTES = 512 << 20
"""Histograms need every activation of a sample at once; beyond this, smallest and largest values must do."""


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """Feeds, one after another, as the calibrators take them."""

    def __init__(self, samples: Sequence[Feeds]) -> None:
        self._left: Iterator[Feeds] = iter(samples)

    def get_next(self) -> Feeds | None:
        return next(self._left, None)


def calibrate(graph: Path, samples: Sequence[Feeds], method: CalibrationMethod) -> TensorsData:
    """Ranges of the activations before and after every quantizable node.

    Parameters
    ----------
    graph : pathlib.Path
        The FP32 model; what calibration needs on disk stands beside it for as long.
    samples : sequence of Feeds
        What calibrates.
    method : CalibrationMethod
        Smallest and largest values, or percentiles of a histogram.

    Returns
    -------
    TensorsData

    Raises
    ------
    InputError
        Where the model does not run on a sample.
    """
    augmented = graph.with_name("augmented.onnx")
    with tempfile.TemporaryDirectory(dir=graph.parent) as scratch:
        hollow = Path(scratch) / "hollow.onnx"
        weights = hollow_out(graph, hollow)
        calibrator = _calibrator(hollow, method, augmented)
        calibrator.augment_graph()
        calibrator.model = None  # it stands on disk now
    try:
        fill_again(augmented, weights)
        calibrator.infer_session = open_session(augmented, optimize=False)
        with contextlib.redirect_stdout(io.StringIO()):  # the calibrators print what they do
            for index, sample in enumerate(samples):
                with sample_runs(calibrating_place(index)):
                    _collect(calibrator, sample)
            ranges: TensorsData = calibrator.compute_data()
    finally:
        augmented.unlink(missing_ok=True)
    return ranges


def _collect(calibrator: Any, sample: Feeds) -> None:
    try:
        calibrator.collect_data(_Reader([sample]))
    except (MemoryError, OSError):
        raise
    except Exception as error:  # ONNX Runtime raises of many kinds
        raise ModelError(explained(error)[0]) from error


def _calibrator(graph: Path, method: CalibrationMethod, augmented: Path) -> Any:
    options: dict[str, Any] = {"augmented_model_path": str(augmented)}
    if method is CalibrationMethod.MinMax:
        return MinMaxCalibrater(graph, QUANTIZABLE, **options)
    return PercentileCalibrater(graph, QUANTIZABLE, num_bins=HISTOGRAM_BINS, percentile=PERCENTILE, **options)


def methods_for(graph: Path, sample: Feeds) -> tuple[CalibrationMethod, ...]:
    """Calibration methods whose memory fits, for samples of this size."""
    model = ir.load(graph)
    symbols, sizes = Symbols(model), {}
    for value in model.graph.inputs:
        for size, known in zip(symbols.shape(value) or (), sample[str(value.name)].shape, strict=False):
            sizes.update(dict.fromkeys(size.free_symbols, known))
    elements = sum(
        int(np.prod([int(size.subs(sizes)) for size in symbols.shape(value) or ()]))
        for node in model.graph
        if node.op_type in QUANTIZABLE
        for value in (node.inputs[0], node.outputs[0])
        if all(size.subs(sizes).is_Integer for size in symbols.shape(value) or ())
    )
    return METHODS if elements * np.dtype(np.float32).itemsize <= HISTOGRAM_BYTES else METHODS[:1]


def quantize_all(graph: Path, ranges: TensorsData, scheme: Scheme, nodes: Sequence[str], out: Path) -> None:
    """Write the model with every one of `nodes` between dequantize and quantize, weights per output channel.

    Parameters
    ----------
    graph : pathlib.Path
        The FP32 model.
    ranges : TensorsData
        From `calibrate`.
    scheme : Scheme
        Types of bytes.
    nodes : sequence of str
        Names of the nodes.
    out : pathlib.Path
        The `.onnx` file to write, beside `graph`; quantized weights go beside it, what stays in float is not copied.
    """
    model = load_only(graph, nodes)
    entry = model.metadata_props.add()
    entry.key, entry.value = INFERRED
    quantizer = QDQQuantizer(
        model,
        per_channel=True,
        reduce_range=scheme.reduce_range,
        weight_qType=scheme.weight,
        activation_qType=scheme.activation,
        tensors_range=copy.copy(ranges),
        nodes_to_quantize=list(nodes),
        nodes_to_exclude=[],
        op_types_to_quantize=list(QUANTIZABLE),
        extra_options={"MatMulConstBOnly": True, "WeightSymmetric": True},
    )
    quantized = quantizer.quantize_model()
    onnx.save_model(
        quantized,
        str(out),
        save_as_external_data=True,
        location=f"{out.name}.data",
        size_threshold=EXTERNAL_BYTES,
    )
