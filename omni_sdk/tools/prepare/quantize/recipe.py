"""How to quantize: types of bytes, calibration method, channels as they are or equalized, and which operators compute,
each by measurement."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from onnxruntime.quantization import CalibrationMethod

from omni_sdk.tools.prepare.calibration import Samples
from omni_sdk.tools.prepare.quantize.equalize import equalize
from omni_sdk.tools.prepare.quantize.qdq import calibrate, methods_for, quantize_all
from omni_sdk.tools.prepare.quantize.scheme import Scheme
from omni_sdk.tools.prepare.rules.order import Form

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Recipe:
    """A way to quantize a model, and the model with all its layers quantized so.

    Attributes
    ----------
    floats : pathlib.Path
        The FP32 model that it quantizes: the rewritten one, or that with its channels equalized.
    quantized : pathlib.Path
        The quantized model.
    scheme : Scheme
    method : CalibrationMethod
    form : Form
        By which operators quantized layers are computed.
    equalized : bool
    noise : float
        Relative to the signal's power, all layers quantized.
    seconds : float
        Of one run, all layers quantized.
    """

    floats: Path
    quantized: Path
    scheme: Scheme
    method: CalibrationMethod
    form: Form
    equalized: bool
    noise: float = 0.0
    seconds: float = 0.0

    def __str__(self) -> str:
        channels = ", channels equalized" if self.equalized else ""
        return f"{self.scheme.name}, {self.method.name}{channels}, {self.form.title}"

    def discard(self) -> None:
        """Remove the quantized model's files: another recipe won, and the disk may be small."""
        for path in self.quantized.parent.glob(f"{self.quantized.name}*"):
            path.unlink()


Measure = Callable[[Recipe], Recipe]
"""Gives a recipe its noise and seconds."""


def choose_recipe(
    graph: Path,
    nodes: Sequence[str],
    samples: Samples,
    schemes: Sequence[Scheme],
    forms: Sequence[Form],
    state: Mapping[str, str],
    measure: Measure,
    say: Callable[[str, float], None],
) -> Recipe:
    """Try what there is, all layers quantized.

    Types of bytes, the calibration method and the operators: the least product of noise and time. Equalized channels
    cost no time, so they stay where they leave less noise.

    Parameters
    ----------
    graph : pathlib.Path
        The FP32 model; others are written beside it.
    nodes : sequence of str
        Names of the layers.
    samples : Samples
        What calibrates.
    schemes : sequence of Scheme
        To try.
    forms : sequence of Form
        To try; the first serves for all else.
    state : mapping of str to str
        Carried state, input to output.
    measure : callable
        Gives a recipe its noise and seconds.
    say : callable
        Told what is going on and the fraction done.
    """
    best: Recipe | None = None
    for number, method in enumerate(methods_for(graph, samples.calibrating[0])):
        say(f"calibrate, {method.name}", 0.3 * number)
        ranges = calibrate(graph, samples.calibrating, method)
        for scheme in schemes if best is None else (best.scheme,):
            quantized = graph.with_name(f"quantized-{schemes.index(scheme)}-{method.name}.onnx")
            quantize_all(graph, ranges, scheme, nodes, quantized)
            tried = measure(Recipe(graph, quantized, scheme, method, forms[0], equalized=False))
            best = _better(best, tried, _product)
    assert best is not None, "there is at least one method and one scheme"
    say("equalize channels", 0.7)
    best = _equalized(best, nodes, samples, state, measure)
    say("try other operators", 0.9)
    return min((best, *(measure(dataclasses.replace(best, form=form)) for form in forms[1:])), key=_product)


def _equalized(
    best: Recipe, nodes: Sequence[str], samples: Samples, state: Mapping[str, str], measure: Measure
) -> Recipe:
    """The same with its channels equalized, where that leaves less noise."""
    floats = best.floats.with_name("equalized.onnx")
    if not equalize(best.floats, samples.calibrating, state, floats):
        return best
    quantized = best.floats.with_name("quantized-equalized.onnx")
    ranges = calibrate(floats, samples.calibrating, best.method)
    quantize_all(floats, ranges, best.scheme, nodes, quantized)
    tried = measure(Recipe(floats, quantized, best.scheme, best.method, best.form, equalized=True))
    return _better(best, tried, lambda each: each.noise)


def _product(recipe: Recipe) -> float:
    return recipe.noise * recipe.seconds


def _better(best: Recipe | None, tried: Recipe, score: Callable[[Recipe], float]) -> Recipe:
    log.info("%s: noise %.3g, %.3g s", tried, tried.noise, tried.seconds)
    if best is None or score(tried) < score(best):
        if best is not None:
            best.discard()
        return tried
    tried.discard()
    return best
