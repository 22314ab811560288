"""The tile of every group of layers: what is fastest on this device, within a budget of noise.

Every tile's model is run once at each declared size, and each group takes the tile that is fastest there. Where the
model so made is less exact than asked for, the noise of each group alone is measured, and the budget is spent where
it buys most: groups step back to smaller tiles, the least time lost for noise saved first, until the whole, measured
again, is exact enough.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import onnx_ir as ir

from omni_sdk.tools.prepare.parity import Trial, compare
from omni_sdk.tools.prepare.report import Layers, Tiling
from omni_sdk.tools.prepare.tiles.clock import Step, seconds_of_layers
from omni_sdk.tools.prepare.tiles.exactness import layer_snr_db
from omni_sdk.tools.prepare.tiles.layers import Group, groups_of, retile
from omni_sdk.tools.prepare.winograd import TILES

log = logging.getLogger(__name__)

WORTH = 0.97
"""A tile counts as faster where it takes less than this fraction of the best smaller one's time: its weights are larger
and it is less exact."""

ATTEMPTS = 6
"""Times that a selection within the predicted budget is measured before all layers go back to direct."""

Times = Mapping[int, Mapping[str, Sequence[float]]]
"""Seconds of each group at each declared size, by tile and the group's name."""


@dataclass(frozen=True, slots=True)
class Tiled:
    """The outcome: a model, and what was decided."""

    graph: Path
    tiling: Tiling | None  # None where the model has no such layer


@dataclass(slots=True)
class Chooser:
    """Builds and measures tilings of one model whose layers are all direct.

    Parameters
    ----------
    direct : pathlib.Path
        The model; others are written beside it.
    trials : sequence of Trial
        Feeds with the original's outputs, which judge.
    steps : sequence of Step
        Feeds of the declared sizes, which are timed; without any, every layer stays direct.
    threads : int or None
        Of the timed sessions.
    say : callable
        Told what is going on and the fraction done.
    """

    direct: Path
    trials: Sequence[Trial]
    steps: Sequence[Step]
    threads: int | None
    say: Callable[[str, float], None]
    built: Path = field(init=False)
    groups: list[Group] = field(init=False)

    def __post_init__(self) -> None:
        self.built = self.direct.with_name("tiled.onnx")
        self.groups = groups_of(ir.load(self.direct))

    def run(self, min_snr_db: float) -> Tiled:
        """Choose a tile for every group.

        Parameters
        ----------
        min_snr_db : float
            Least signal-to-noise ratio of any output of the whole model against the original's, in dB.

        Returns
        -------
        Tiled
        """
        if not self.groups:
            return Tiled(self.direct, None)
        times = self._times()
        fastest = {group.name: self._fastest(group, times) for group in self.groups}
        chosen, reached, noises = dict(fastest), self._measured(fastest), dict[str, float]()
        if reached < min_snr_db:
            noises = self._noises(fastest)
            chosen, reached = self._within(min_snr_db, fastest, noises, times)
        self._build(chosen)
        rows = [self._row(group, chosen[group.name], fastest[group.name], noises, times) for group in self.groups]
        sizes = tuple(step.frames for step in self.steps)
        return Tiled(self.built, Tiling(sizes, min_snr_db, reached, tuple(rows)))

    def _build(self, tiles: Mapping[str, int]) -> None:
        retile(self.direct, {layer: tiles[group.name] for group in self.groups for layer in group.layers}, self.built)

    def _measured(self, tiles: Mapping[str, int]) -> float:
        """The worst signal-to-noise ratio over trials and outputs."""
        self._build(tiles)
        reached = min(difference.snr_db for difference in compare(self.built, self.trials))
        log.info("%s: %.1f dB", tiles, reached)
        return reached

    def _times(self) -> Times:
        times: dict[int, dict[str, list[float]]] = {}
        for number, tile in enumerate(TILES if self.steps else ()):
            self.say(f"time layers in tiles of {tile}", 0.4 * number / len(TILES))
            self._build({group.name: tile if tile in group.tiles else 1 for group in self.groups})
            taken = [seconds_of_layers(self.built, step, self.threads) for step in self.steps]
            times[tile] = {
                group.name: [sum(seconds.get(layer, 0.0) for layer in group.layers) for seconds in taken]
                for group in self.groups
            }
        return times

    def _cost(self, group: Group, tile: int, times: Times) -> float:
        """Time of a group as a fraction of all direct layers', summed over the declared sizes."""
        whole: list[float] = [sum(each) for each in zip(*times[1].values(), strict=True)]
        return sum(seconds / total for seconds, total in zip(times[tile][group.name], whole, strict=True) if total > 0)

    def _fastest(self, group: Group, times: Times) -> int:
        fastest = 1
        for tile in group.tiles if times else ():
            if self._cost(group, tile, times) < WORTH * self._cost(group, fastest, times):
                fastest = tile
        return fastest

    def _noises(self, fastest: Mapping[str, int]) -> dict[str, float]:
        """Noise power, relative to the signal's, of the model with one group alone in its fastest tile."""
        tiled = [group for group in self.groups if fastest[group.name] > 1]
        noises = {}
        for number, group in enumerate(tiled):
            self.say(f"noise of {group.name}", 0.4 + 0.4 * number / len(tiled))
            alone = {each.name: fastest[group.name] if each is group else 1 for each in self.groups}
            noises[group.name] = power(self._measured(alone))
        return noises

    def _within(
        self, min_snr_db: float, fastest: Mapping[str, int], noises: Mapping[str, float], times: Times
    ) -> tuple[dict[str, int], float]:
        """Step groups back until the noise, as predicted and then as measured, is within the budget."""
        predicted = {group.name: self._by_tile(group, fastest[group.name], noises) for group in self.groups}
        budget = power(min_snr_db)
        for attempt in range(ATTEMPTS):
            self.say("spend the budget", 0.8 + 0.2 * attempt / ATTEMPTS)
            chosen = self._spent(budget, fastest, predicted, times)
            reached = self._measured(chosen)
            if reached >= min_snr_db:
                return chosen, reached
            budget *= 0.8 * power(min_snr_db) / power(reached)
        direct = dict.fromkeys(fastest, 1)
        return direct, self._measured(direct)

    def _by_tile(self, group: Group, fastest: int, noises: Mapping[str, float]) -> dict[int, float]:
        """Noise of a group in each tile up to its fastest: as measured, and in proportion to the layer's own."""
        if fastest == 1:
            return {1: 0.0}
        own = {tile: self._own_noise(group, tile) for tile in group.tiles if tile <= fastest}
        known = 0.0 < own[fastest] < math.inf
        return {1: 0.0} | {
            tile: noises[group.name] * (each / own[fastest] if known else 1.0) for tile, each in own.items()
        }

    def _own_noise(self, group: Group, tile: int) -> float:
        self._build({each.name: tile if each is group else 1 for each in self.groups})
        return power(layer_snr_db(self.direct, self.built, group.layers[0]))

    def _spent(
        self, budget: float, fastest: Mapping[str, int], predicted: Mapping[str, Mapping[int, float]], times: Times
    ) -> dict[str, int]:
        """The fastest tiles, stepped back where least time is lost for noise saved, until noises sum to the budget."""
        chosen, groups = dict(fastest), {group.name: group for group in self.groups}
        while sum(predicted[name][tile] for name, tile in chosen.items()) > budget:
            moves = [
                (self._price(groups[name], chosen[name], tile, predicted[name], times), name, tile)
                for name in chosen
                for tile in predicted[name]
                if predicted[name][tile] < predicted[name][chosen[name]]
            ]
            _, name, tile = min(moves)
            chosen[name] = tile
        return chosen

    def _price(self, group: Group, now: int, then: int, predicted: Mapping[int, float], times: Times) -> float:
        """Time lost for noise saved by a step back."""
        lost = self._cost(group, then, times) - self._cost(group, now, times)
        return lost / (predicted[now] - predicted[then])

    def _row(self, group: Group, tile: int, fastest: int, noises: Mapping[str, float], times: Times) -> Layers:
        own = min((layer_snr_db(self.direct, self.built, layer) for layer in group.layers), default=math.inf)
        return Layers(
            group=group.name,
            layers=group.layers,
            tile=tile,
            reason=_reason(group, tile, fastest, bool(times)),
            direct_seconds=tuple(times[1][group.name]) if times else (),
            seconds=tuple(times[tile][group.name]) if times else (),
            layer_snr_db=own,
            alone_snr_db=-10 * math.log10(noises[group.name]) if noises.get(group.name) else None,
        )


def _reason(group: Group, tile: int, fastest: int, timed: bool) -> str:
    if group.kernel == 1:
        return "a product; there is nothing to tile"
    if not timed:
        return "direct: nothing was timed"
    if fastest == 1:
        return "direct: no tile is faster here"
    if tile == fastest:
        return "fastest here"
    return f"a tile of {fastest} is faster but misses the budget"


def power(snr_db: float) -> float:
    """Noise power relative to the signal's."""
    return 0.0 if snr_db == math.inf else math.inf if snr_db == -math.inf else float(10 ** (-snr_db / 10))
