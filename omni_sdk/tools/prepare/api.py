"""`prepare`: from an exported model to a bundle for this device."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir

from omni_sdk.bundle import Bundle
from omni_sdk.tools.prepare.arguments import (
    can_use_operators,
    check_calibration,
    check_fixed,
    check_quality,
    check_room,
    check_run,
    check_target,
    make_parent,
    room_on_disk,
)
from omni_sdk.tools.prepare.calibration import Calibration, read_calibration
from omni_sdk.tools.prepare.facts import Facts
from omni_sdk.tools.prepare.feeds import InputSpec, specs_of
from omni_sdk.tools.prepare.fixing import fixed
from omni_sdk.tools.prepare.hardware import byte_products
from omni_sdk.tools.prepare.parity import Trial, make_trials
from omni_sdk.tools.prepare.quantize.gate import Chosen, Gate
from omni_sdk.tools.prepare.quantize.quality import Judge
from omni_sdk.tools.prepare.quantize.scheme import candidates
from omni_sdk.tools.prepare.report import Report, Speed
from omni_sdk.tools.prepare.rewriting import Progress, Rewritten, rewrite
from omni_sdk.tools.prepare.rules.order import CONV1D_PASSES, Pass, forms, passes
from omni_sdk.tools.prepare.source import SourceModel
from omni_sdk.tools.prepare.tiles.choice import Chooser, Tiled
from omni_sdk.tools.prepare.tiles.clock import steps_of
from omni_sdk.tools.prepare.tiles.layout import faster_layout
from omni_sdk.tools.prepare.timing import race
from omni_sdk.tools.saving import save_bundle

STEP_FRAMES = (128, 4)
"""Sizes that a model is run at where nothing else is declared: in one go, and in steps of a stream."""


def prepare(
    model: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    calibration: Calibration | None = None,
    min_snr_db: float = 30.0,
    min_fp32_snr_db: float = 70.0,
    step_frames: Sequence[int] = STEP_FRAMES,
    quantize: bool | None = None,
    target: str = "cpu",
    fix: Mapping[str, Any] | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    skip: Sequence[str] = (),
    measure: bool = True,
    threads: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Report:
    """Rewrite, fuse and, where it pays, quantize a model into a bundle for this device.

    The source is read and never written. On an error or an interrupt nothing is left at `out`, and a bundle that stood
    there stands as it was.

    Parameters
    ----------
    model : str or os.PathLike
        An `.onnx` file or a bundle.
    out : str or os.PathLike
        The bundle's folder; a bundle that stands there is replaced.
    calibration : path, callable or iterable, optional
        Typical inputs: a folder of `.npz` files (arrays by input name, a sample each), a callable that gives
        samples, or the samples. Parity and speed are judged on them too.
    min_snr_db : float, default 30
        Least signal-to-noise ratio of the quantized model against the original, in dB, on held-out samples; 0 quantizes
        everything that gets faster by it.
    min_fp32_snr_db : float, default 70
        Least signal-to-noise ratio of the FP32 model against the original, in dB: what convolutions computed by
        Winograd tiles may cost. All other rewrites are held to 1e-4 of the largest magnitude.
    step_frames : sequence of int, default (128, 4)
        Sizes of the model's named dimensions (but the batch) that it will be run at; layers are timed at these.
    quantize : bool, optional
        Whether to quantize at all; by default where calibration is given.
    target : "cpu" or "openvino", default "cpu"
        "openvino" keeps to standard operators, which other engines understand.
    fix : mapping of str to array-like, optional
        Inputs that are the same at every call: they become constants, and what hangs on them alone goes away.
    shapes : mapping of str to sequence of int, optional
        Shapes of inputs that never change.
    skip : sequence of str, optional
        Titles of passes to leave out.
    measure : bool, default True
        Time layers to choose their tiles by, and the prepared model against the original. Without, every convolution
        stays direct. INT8, where it is asked for, is timed either way: it is kept only where it is faster.
    threads : int, optional
        Of ONNX Runtime; by default the physical cores that this process may really use, as `load` takes.
    seed : int, default 0
        Of made-up inputs.
    progress : callable, optional
        Called with what is going on and the fraction done.

    Returns
    -------
    Report

    Raises
    ------
    ModelError
        The model is none, does not run, or a rewrite changed what it computes.
    InputError
        A fixed input or shape does not fit; calibration inputs do not fit, are not finite, or make outputs that no
        quality can be measured on.
    SettingsError
        An argument has a value it cannot take.
    BundleError
        Something else stands at `out`, or the disk has no room.
    """
    start = time.perf_counter()
    quantizing = calibration is not None if quantize is None else quantize
    check_target(target, skip)
    check_quality(min_snr_db, min_fp32_snr_db, step_frames)
    check_run(threads, seed)
    check_fixed(fix, shapes)
    check_calibration(quantizing, calibration)
    say = progress or _silent
    source = SourceModel.open(model)
    say("read", 0.0)
    source.check()
    place = Path(out)
    nodes_before, bytes_before = len(source.read().graph), source.bytes
    check_room(place, bytes_before)
    with (
        room_on_disk(place),
        tempfile.TemporaryDirectory(prefix=f".{place.name}.", dir=make_parent(place)) as scratch,
    ):
        source = fixed(source, fix or {}, shapes or {}, Path(scratch), seed)
        specs = specs_of(source.read())
        samples = read_calibration(calibration, specs, source.state) if calibration is not None else None
        say("run the original", 0.05)
        trials = make_trials(
            source.path, specs, given=samples.held_out[:1] if samples else (), seed=seed, frames=step_frames
        )
        operators = can_use_operators(target)
        work = _Work(source, specs, trials, Path(scratch), tuple(skip), operators, threads, seed)
        rewritten = work.rewritten(onnxruntime=target == "cpu", say=_part(say, 0.1, 0.2))
        frames = step_frames if measure else ()
        rows, tiled = work.tiled(rewritten, min_fp32_snr_db, frames, _part(say, 0.2, 0.45))
        is_tiled = tiled.tiling is not None and tiled.tiling.is_kept
        int8 = Chosen(None, "INT8 was not asked for.")
        if quantizing and samples is not None:
            gate = Gate(
                graph=rewritten.graph,
                rival=tiled.graph,
                samples=samples,
                judge=Judge.of(source.path, samples.held_out, source.state),
                schemes=candidates(byte_products()),
                state=source.state,
                forms=forms(operators=operators, skip=frozenset(skip)),
                threads=threads,
                say=_part(say, 0.45, 0.85),
            )
            int8 = gate.run(min_snr_db)
        say("measure", 0.85)
        final = int8.graph or tiled.graph
        speed = work.speed(final) if measure else None
        say("write", 0.95)
        facts = Facts(
            trials=trials,
            differences=rows.differences,
            ledgers=[
                rewritten.ledger,
                *([int8.ledger] if int8.graph else [rows.ledger] if rows is not rewritten else []),
            ],
            tiling=tiled.tiling if int8.graph is None and is_tiled else None,
            speed=speed,
            samples=samples,
            int8=int8,
        )
        finished = ir.load(final)
        nodes_after = len(finished.graph)
        save_bundle(
            place,
            finished,
            state=source.state,
            audio=source.audio,
            quality=facts.quality(),
            provenance={**source.provenance, "prepared": facts.preparation()},
        )
        del finished
    say("done", 1.0)
    return Report(
        source=str(model),
        bundle=str(out),
        target=target,
        nodes_before=nodes_before,
        nodes_after=nodes_after,
        fired=tuple(firing for ledger in facts.ledgers for firing in ledger.fired),
        refused=tuple(refusal for ledger in facts.ledgers for refusal in ledger.refused),
        parity=facts.parity(),
        tiling=tiled.tiling,
        speed=speed,
        quantization=int8.summary,
        frontier=int8.frontier,
        bargains=int8.bargains,
        bytes_before=bytes_before,
        bytes_after=sum(entry.bytes for entry in Bundle.open(place).manifest.files),
        seconds=time.perf_counter() - start,
    )


def _silent(what: str, done: float) -> None:
    """What `progress` is where the caller gave none."""


def _part(say: Progress, start: float, end: float) -> Progress:
    """Progress of a part of the whole."""
    return lambda what, done: say(what, start + (end - start) * done)


@dataclass(frozen=True, slots=True)
class _Work:
    """What every step works on."""

    source: SourceModel
    specs: Sequence[InputSpec]
    trials: Sequence[Trial]
    folder: Path
    skip: tuple[str, ...]
    operators: bool
    threads: int | None
    seed: int

    def rewritten(self, *, onnxruntime: bool, say: Progress) -> Rewritten:
        """The model after the rules that keep its layout; layers are quantized from it."""
        chosen = self._kept(passes(operators=self.operators, onnxruntime=onnxruntime))
        return rewrite(self.source.read, chosen, self.trials, self.folder / "rewritten.onnx", say)

    def tiled(
        self, before: Rewritten, min_snr_db: float, step_frames: Sequence[int], say: Progress
    ) -> tuple[Rewritten, Tiled]:
        """The model channels last with every convolution direct, and with tiles; nothing new without the operators."""
        chosen = self._kept(CONV1D_PASSES)
        if not self.operators or not chosen:
            return before, Tiled(before.graph, None)
        rows = rewrite(
            lambda: ir.load(before.graph),
            chosen,
            self.trials,
            self.folder / "direct.onnx",
            _part(say, 0.0, 0.2),
            settled=True,
        )
        steps = steps_of(rows.graph, self.specs, step_frames, self.seed) if rows.ledger.fired and step_frames else []
        chooser = Chooser(rows.graph, self.trials, steps, self.threads, _part(say, 0.2, 1.0))
        tiled = faster_layout(before.graph, chooser.run(min_snr_db), steps, self.threads)
        return (before if tiled.graph == before.graph else rows), tiled

    def speed(self, final: Path) -> Speed:
        """Original against final on the largest trial."""
        trial = max(self.trials, key=lambda each: sum(array.nbytes for array in each.expected.values()))
        pace = race(self.source.path, final, trial.feeds, self.threads)
        state = self.source.state
        shapes = {name: "x".join(map(str, array.shape)) for name, array in trial.feeds.items() if name not in state}
        return Speed(shapes, pace.before, pace.after, pace.ratio)

    def _kept(self, each: Sequence[Pass]) -> list[Pass]:
        return [one for one in each if one.title not in self.skip]
