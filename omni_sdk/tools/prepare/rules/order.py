"""The passes, in the order in which they run. This is the only place that knows the order.

Folding comes first, since every rule reads constants; bounds next, since slices become no-ops or trims through them;
`Pad` and `Slice` are folded before `ConvTranspose` is taken apart, which needs its final padding; activations are
recognised once their parameters are constants.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
from onnx_ir.passes import common
from onnxscript.rewriter import RewriteRuleSet

from omni_sdk.tools.prepare.ledger import Ledger
from omni_sdk.tools.prepare.rules import (
    channels_last,
    constant_folding,
    conv1d_epilogue,
    conv1d_past,
    float_between,
    sink_transposes,
)
from omni_sdk.tools.prepare.rules.add_snake import AddSnake
from omni_sdk.tools.prepare.rules.base import Rule
from omni_sdk.tools.prepare.rules.conv1d import ConvAsConv1d
from omni_sdk.tools.prepare.rules.conv_transpose import ConvTransposeAsConv
from omni_sdk.tools.prepare.rules.identities import remove_identities
from omni_sdk.tools.prepare.rules.matmul_as_conv1d import MatMulAsConv1d
from omni_sdk.tools.prepare.rules.no_ops import NO_OPS
from omni_sdk.tools.prepare.rules.pad_into_conv import PadIntoConv
from omni_sdk.tools.prepare.rules.quantized_add_snake import QuantizedAddSnake
from omni_sdk.tools.prepare.rules.quantized_conv1d import QuantizedConv, QuantizedMatMul
from omni_sdk.tools.prepare.rules.quantized_shuffle_snake import QuantizedShuffleSnake
from omni_sdk.tools.prepare.rules.quantized_snake import QuantizedSnake
from omni_sdk.tools.prepare.rules.rms_norm import RMSNorm
from omni_sdk.tools.prepare.rules.scale_into_matmul import ScaleIntoMatMul
from omni_sdk.tools.prepare.rules.shuffle_snake import ShuffleSnake
from omni_sdk.tools.prepare.rules.slice_into_conv_transpose import SliceIntoConvTranspose
from omni_sdk.tools.prepare.rules.snake import Snake
from omni_sdk.tools.prepare.rules.static_bounds import StaticReshape, StaticSlice
from omni_sdk.tools.prepare.symbols import Symbols


@dataclass(frozen=True, slots=True)
class Pass:
    """A named step: either a set of rules tried at every node, or a function over the model."""

    title: str
    rules: tuple[type[Rule[Any]], ...] = ()
    function: Callable[[ir.Model, Ledger], None] | None = None
    needs_operators: bool = False  # writes operators of the domain `omni`
    needs_onnxruntime: bool = False  # writes operators that only ONNX Runtime has

    def __call__(self, model: ir.Model, ledger: Ledger) -> None:
        """Rewrite `model` in place, noting what happened in `ledger`."""
        if self.function is not None:
            self.function(model, ledger)
        if self.rules:
            symbols = Symbols(model)
            RewriteRuleSet([rule.bind(ledger, symbols) for rule in self.rules]).apply_to_model(model)
            remove_identities(model)
            common.TopologicalSortPass()(model)


PASSES = (
    Pass(constant_folding.TITLE, function=constant_folding.fold),
    Pass("static-bounds", (StaticSlice, StaticReshape)),
    Pass("no-ops", NO_OPS),
    Pass("pad-into-conv", (PadIntoConv,)),
    Pass("slice-into-conv-transpose", (SliceIntoConvTranspose,)),
    Pass("conv-transpose-as-conv", (ConvTransposeAsConv,)),
    Pass("scale-into-matmul", (ScaleIntoMatMul,)),
    Pass("rms-norm", (RMSNorm,), needs_onnxruntime=True),
    Pass("snake", (Snake,), needs_operators=True),
    Pass("shuffle-snake", (ShuffleSnake,), needs_operators=True),
    Pass("add-snake", (AddSnake,), needs_operators=True),
    Pass("last-folding", function=constant_folding.fold),
)

CONV1D_PASSES = (
    Pass("conv1d", (ConvAsConv1d,), needs_operators=True),
    Pass(conv1d_past.TITLE, function=conv1d_past.take_past, needs_operators=True),
    Pass("matmul-as-conv1d", (MatMulAsConv1d,), needs_operators=True),
    Pass(sink_transposes.TITLE, function=sink_transposes.sink_transposes, needs_operators=True),
    Pass(conv1d_epilogue.TITLE, function=conv1d_epilogue.fuse_epilogues, needs_operators=True),
)
"""Run on the FP32 model after `PASSES`: channels last from end to end, every layer direct."""

QUANTIZED_PASSES = (
    Pass("quantized-shuffle-snake", (QuantizedShuffleSnake,), needs_operators=True),
    Pass("quantized-add-snake", (QuantizedAddSnake,), needs_operators=True),
    Pass("quantized-snake", (QuantizedSnake,), needs_operators=True),
    Pass(channels_last.TITLE, function=channels_last.to_channels_last, needs_operators=True),
)
"""Run on the model with quantized layers, after `PASSES`."""

QCONV1D_PASSES = (
    Pass("quantized-conv1d", (QuantizedConv, QuantizedMatMul), needs_operators=True),
    Pass(float_between.TITLE, function=float_between.float_between, needs_operators=True),
    *CONV1D_PASSES,
)
"""Run in their place where they make the better model."""


@dataclass(frozen=True, slots=True)
class Form:
    """A way to compute quantized layers: by which operators, and the passes that write them."""

    title: str
    passes: tuple[Pass, ...]


STANDARD = Form("QDQ", ())
FORMS = (Form("QLinearConv", QUANTIZED_PASSES), Form("omni::QConv1d", QCONV1D_PASSES))
"""Which of them makes the better model is measured, on the device."""


def forms(*, operators: bool, skip: frozenset[str] = frozenset()) -> tuple[Form, ...]:
    """The ways there are for a target that has, or has not, the `omni` operators, without passes to leave out.

    Layers in float are `omni::Conv1d` in the second, so that it is none where that is left out.
    """
    if not operators:
        return (STANDARD,)
    kept = [Form(form.title, tuple(each for each in form.passes if each.title not in skip)) for form in FORMS]
    return tuple(kept if skip.isdisjoint(("quantized-conv1d", "conv1d")) else kept[:1])


def passes(*, operators: bool, onnxruntime: bool = True) -> tuple[Pass, ...]:
    """The passes for a target that has (or has not) the `omni` operators, and ONNX Runtime's own."""
    return tuple(
        each
        for each in PASSES
        if (operators or not each.needs_operators) and (onnxruntime or not each.needs_onnxruntime)
    )
