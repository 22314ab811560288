"""The gate: layers become INT8 from the best bargain on, as far as the target allows, and only where it is faster here.

A bargain is little harm for much time. Harm is the noise that a group of layers adds when it alone is quantized, on
held-out samples; the time is what it saves among all the others quantized, since a quantized layer between float ones
pays for conversions that it does not pay between quantized ones. Noise of groups adds up, nearly; the frontier is
measured, point by point, not computed.

Tables of embeddings save bytes and no time. They come last: each becomes bytes where the target still holds and the
model is no slower for it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import onnx_ir as ir

from omni_sdk.tools.prepare.calibration import Samples
from omni_sdk.tools.prepare.ledger import Ledger
from omni_sdk.tools.prepare.quantize.build import build
from omni_sdk.tools.prepare.quantize.packed import PackedWeights
from omni_sdk.tools.prepare.quantize.quality import Judge, Quality
from omni_sdk.tools.prepare.quantize.recipe import Recipe, choose_recipe
from omni_sdk.tools.prepare.quantize.scheme import Scheme
from omni_sdk.tools.prepare.quantize.selection import Group, groups_of
from omni_sdk.tools.prepare.quantize.tables import tables_of
from omni_sdk.tools.prepare.report import Bargain, Point
from omni_sdk.tools.prepare.rules.order import Form
from omni_sdk.tools.prepare.timing import fastest_seconds, race
from omni_sdk.tools.saving import save_graph

WORTH = 0.995
"""A selection counts as faster where it takes at most this fraction of the time."""

TRIES = 3
"""So many of the fastest selections meet FP32 in turns; where none of them is faster, FP32 stays."""

NO_SLOWER = 1.02
"""A table becomes bytes where the model then takes at most this multiple of the time: less is no more than noise."""

PER_CHANNEL_OPSET = 13
"""From which on `DequantizeLinear` takes a scale for each channel."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The outcome of the gate.

    Attributes
    ----------
    graph : pathlib.Path or None
        The quantized model; None where FP32 stays.
    summary : str
        What was decided and why, in a sentence.
    """

    graph: Path | None
    summary: str
    frontier: tuple[Point, ...] = ()
    bargains: tuple[Bargain, ...] = ()
    ledger: Ledger = field(default_factory=Ledger)
    scheme: str = ""
    method: str = ""
    equalized: bool = False


@dataclass(slots=True)
class Gate:
    """Builds and measures selections of one FP32 model.

    Parameters
    ----------
    graph : pathlib.Path
        The rewritten FP32 model; selections are written beside it.
    rival : pathlib.Path
        The fastest FP32 model there is, which selections must beat.
    samples : Samples
        What calibrates; the held-out part is in `judge`.
    judge : Judge
        What judges.
    schemes : sequence of Scheme
        To try.
    state : mapping of str to str
        Carried state, input to output.
    forms : sequence of Form
        Operators that may compute quantized layers.
    threads : int or None
        Of the timed sessions.
    say : callable
        Told what is going on and the fraction done.
    """

    graph: Path
    rival: Path
    samples: Samples
    judge: Judge
    schemes: Sequence[Scheme]
    state: Mapping[str, str]
    forms: Sequence[Form]
    threads: int | None
    say: Callable[[str, float], None]
    recipe: Recipe | None = field(init=False, default=None)
    built: Path = field(init=False)
    _packed: dict[Path, PackedWeights] = field(init=False, default_factory=dict)  # by the quantized model

    def __post_init__(self) -> None:
        self.built = self.graph.with_name("selected.onnx")

    def run(self, min_snr_db: float) -> Chosen:
        """Decide which layers and tables are INT8.

        Parameters
        ----------
        min_snr_db : float
            The target on held-out samples; 0 asks for all that is faster.

        Returns
        -------
        Chosen
        """
        model = ir.load(self.graph)
        layers, tables, opset = groups_of(model), tables_of(model), model.opset_imports[""]
        del model
        if opset < PER_CHANNEL_OPSET:
            return Chosen(None, f"INT8: weights per channel need opset {PER_CHANNEL_OPSET}, the model has {opset}.")
        if not layers and not tables:
            return Chosen(
                None, "INT8: nothing to quantize, the model has no convolution or product with constant weights."
            )
        frontier, bargains = self._layers(layers)
        frontier, best = self._raced(frontier, layers, min_snr_db)
        if not best.groups:
            self.recipe = None
        more, table_bargains = self._tables(best, layers, tables, min_snr_db)
        frontier, bargains = [*frontier, *more], [*bargains, *table_bargains]
        best = next((point for point in reversed(more) if point.chosen), best)
        frontier = [dataclasses.replace(point, chosen=point is best) for point in frontier]
        summary = self._summary(best, layers, tables, min_snr_db)
        if not best.groups:
            return Chosen(None, summary, tuple(frontier), tuple(bargains))
        ledger, recipe = self._build(nodes_of(best.groups, [*layers, *tables]), self.built), self.recipe
        chosen = Chosen(self.built, summary, tuple(frontier), tuple(bargains), ledger)
        if recipe is None:
            return chosen
        return dataclasses.replace(
            chosen, scheme=recipe.scheme.name, method=recipe.method.name, equalized=recipe.equalized
        )

    def _layers(self, groups: Sequence[Group]) -> tuple[list[Point], list[Bargain]]:
        """The frontier of the layers, from FP32 on, and what each group costs and brings."""
        float_seconds = self._seconds(self.rival)
        points = [Point((), math.inf, None, None, float_seconds, 1.0)]
        if not groups:
            return points, []
        everything = [name for group in groups for name in group.nodes]
        self.recipe = choose_recipe(
            self.graph,
            everything,
            self.samples,
            self.schemes,
            self.forms,
            self.state,
            lambda recipe: self._measured(recipe, everything),
            lambda what, done: self.say(what, 0.2 * done),
        )
        bargains = self._bargains(groups, everything, self.recipe.seconds)
        order = [each for each in sorted(bargains, key=lambda each: each.price) if each.saved_seconds > 0]
        return [*points, *self._frontier(order, groups, float_seconds)], bargains

    def _measured(self, recipe: Recipe, everything: Sequence[str]) -> Recipe:
        self.recipe = recipe
        self._build(everything, self.built)
        return dataclasses.replace(
            recipe, noise=noise(self.judge.quality(self.built)), seconds=self._seconds(self.built)
        )

    def _bargains(self, groups: Sequence[Group], everything: Sequence[str], all_seconds: float) -> list[Bargain]:
        bargains = []
        for number, group in enumerate(groups):
            self.say(f"sensitivity of {group.name}", 0.2 + 0.4 * number / len(groups))
            self._build(group.nodes, self.built)
            quality = self.judge.quality(self.built)
            self._build([name for name in everything if name not in group.nodes], self.built)
            saved = self._seconds(self.built) - all_seconds
            price = noise(quality) / saved if saved > 0 else math.inf
            bargains.append(Bargain(group.name, len(group.nodes), quality.snr_db, saved, price))
        return bargains

    def _frontier(self, order: Sequence[Bargain], groups: Sequence[Group], float_seconds: float) -> list[Point]:
        points = []
        for count in range(1, len(order) + 1):
            self.say(f"frontier, {count} of {len(order)} groups", 0.6 + 0.35 * count / len(order))
            names = tuple(each.group for each in order[:count])
            self._build(nodes_of(names, groups), self.built)
            quality, seconds = self.judge.quality(self.built), self._seconds(self.built)
            points.append(_point(names, quality, seconds, seconds / float_seconds))
        return points

    def _raced(
        self, frontier: Sequence[Point], layers: Sequence[Group], min_snr_db: float
    ) -> tuple[list[Point], Point]:
        """The frontier, and of it the fastest point that is good enough and faster than FP32; else the FP32 one.

        Points were timed minutes apart, so they only tell which to try: what was tried has its times from turns.
        """
        points = list(frontier)
        allowed = [point for point in points[1:] if min_snr_db == 0 or point.snr_db >= min_snr_db]
        for point in sorted(allowed, key=lambda point: point.seconds)[:TRIES]:
            self.say(f"{len(point.groups)} groups against FP32", 0.95)
            self._build(nodes_of(point.groups, layers), self.built)
            pace = race(self.rival, self.built, self.judge.samples[0], self.threads)
            raced = dataclasses.replace(point, seconds=pace.after, ratio=pace.ratio)
            points[points.index(point)] = raced
            if pace.ratio <= WORTH:
                return points, raced
        return points, points[0]

    def _tables(
        self, best: Point, layers: Sequence[Group], tables: Sequence[Group], min_snr_db: float
    ) -> tuple[list[Point], list[Bargain]]:
        """Tables as bytes beside the layers chosen, the least noise for a byte first; those kept are marked chosen."""
        points: list[Point] = []
        bargains = [self._table_bargain(table) for table in tables]
        for each in sorted(bargains, key=lambda each: each.price):
            self.say(f"{each.group} as bytes", 0.97)
            names, before = (*best.groups, each.group), self.built.with_name("before.onnx")
            self._build(nodes_of(best.groups, [*layers, *tables]), before)
            self._build(nodes_of(names, [*layers, *tables]), self.built)
            quality, pace = (
                self.judge.quality(self.built),
                race(before, self.built, self.judge.samples[0], self.threads),
            )
            point = _point(names, quality, best.seconds * pace.ratio, best.ratio * pace.ratio)
            kept = pace.ratio <= NO_SLOWER and (min_snr_db == 0 or point.snr_db >= min_snr_db)
            points.append(dataclasses.replace(point, chosen=kept))
            best = point if kept else best
        return points, bargains

    def _table_bargain(self, table: Group) -> Bargain:
        """A table alone, all layers in float."""
        self.say(f"sensitivity of {table.name}", 0.95)
        recipe, self.recipe = self.recipe, None
        self._build(table.nodes, self.built)
        self.recipe = recipe
        quality = self.judge.quality(self.built)
        price = noise(quality) / table.saved_bytes
        return Bargain(table.name, len(table.nodes), quality.snr_db, 0.0, price, table.saved_bytes)

    def _summary(self, best: Point, layers: Sequence[Group], tables: Sequence[Group], min_snr_db: float) -> str:
        chosen = [table for table in tables if table.name in best.groups]
        kept = f"; {len(chosen)} of {len(tables)} tables are bytes" if tables else ""
        if self.recipe is None:
            reason = (
                "no selection is faster here" if min_snr_db == 0 else f"none that is faster reaches {min_snr_db:g} dB"
            )
            quality = f", {best.snr_db:.1f} dB" if chosen else ""
            return f"INT8: all layers stay FP32, {reason}{kept}{quality}."
        return (
            f"INT8: {len(best.groups) - len(chosen)} of {len(layers)} groups ({self.recipe}){kept}, "
            f"{best.snr_db:.1f} dB, {best.ratio:.2f} x the time of FP32; the others stay FP32."
        )

    def _build(self, nodes: Collection[str], out: Path) -> Ledger:
        """Write the model with `nodes` quantized; with layers of none, it is the fastest FP32 model."""
        recipe = self.recipe
        if recipe is None:
            model, ledger = build(None, self.rival, nodes, out.parent)
        else:
            model, ledger = build(recipe.quantized, recipe.floats, nodes, out.parent, passes=recipe.form.passes)
            self._packed_by(recipe).put(model)
        save_graph(out, model)
        return ledger

    def _packed_by(self, recipe: Recipe) -> PackedWeights:
        """Equalized weights are others than those of the FP32 model."""
        if recipe.quantized not in self._packed:
            self._packed[recipe.quantized] = PackedWeights(recipe.quantized, None if recipe.equalized else self.rival)
        return self._packed[recipe.quantized]

    def _seconds(self, graph: Path) -> float:
        return fastest_seconds(graph, self.judge.samples[0], self.threads)


def nodes_of(names: Collection[str], groups: Sequence[Group]) -> list[str]:
    """Nodes of the named groups."""
    return [node for group in groups if group.name in names for node in group.nodes]


def _point(names: tuple[str, ...], quality: Quality, seconds: float, ratio: float) -> Point:
    return Point(names, quality.snr_db, quality.log_spectral_db, quality.multi_resolution_stft, seconds, ratio)


def noise(quality: Quality) -> float:
    """Noise power relative to the signal's."""
    return float(10 ** (-quality.snr_db / 10))
