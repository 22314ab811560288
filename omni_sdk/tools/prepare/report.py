"""What prepare did and what it measured."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from omni_sdk.strict import JSON
from omni_sdk.tools.prepare.ledger import Firing, Refusal


@dataclass(frozen=True, slots=True)
class Parity:
    """FP32 rewrites against the original, over all trials."""

    trials: int
    smallest: Mapping[str, int]  # sizes of the named dimensions in the smallest trial
    worst_relative: float
    snr_db: float  # of the worst output


@dataclass(frozen=True, slots=True)
class Speed:
    """Seconds of one run of the original under ORT's defaults and of the prepared model, and their ratio."""

    shape: Mapping[str, str]  # of each input, such as 1x16x128
    original_seconds: float
    prepared_seconds: float
    ratio: float


@dataclass(frozen=True, slots=True)
class Point:
    """One point of the frontier: how many groups are quantized, how good and how fast that is."""

    groups: tuple[str, ...]
    snr_db: float
    log_spectral_db: float | None
    multi_resolution_stft: float | None
    seconds: float
    ratio: float  # against FP32 prepared
    chosen: bool = False


@dataclass(frozen=True, slots=True)
class Bargain:
    """What quantizing one group of layers, or a table, costs and brings."""

    group: str  # operator and shape of weights
    layers: int
    snr_db: float  # of the model with this group alone quantized
    saved_seconds: float  # among all others quantized
    price: float  # noise power for a second saved, for a table for a byte; infinite where nothing is saved
    saved_bytes: int = 0  # of a table


@dataclass(frozen=True, slots=True)
class Layers:
    """`omni::Conv1d` layers of one shape: their tile, why it is that, and what it costs and saves."""

    group: str  # shape of weights and dilation
    layers: tuple[str, ...]  # names of nodes
    tile: int  # 1 is direct
    reason: str
    direct_seconds: tuple[float, ...]  # of all layers together at each declared size; empty where nothing was timed
    seconds: tuple[float, ...]  # as chosen
    layer_snr_db: float  # of the worst layer alone, against float64
    alone_snr_db: float | None  # of the model with this group alone in its fastest tile, where that was measured


@dataclass(frozen=True, slots=True)
class Tiling:
    """Tiles of the FP32 model's layers, chosen by time and held to a budget of noise."""

    step_frames: tuple[int, ...]  # declared sizes that were timed
    min_snr_db: float
    snr_db: float  # of the worst output over all trials, against the original
    groups: tuple[Layers, ...]
    channels_first_ratios: tuple[float, ...] = ()  # time against the model channels first, at each declared size
    is_kept: bool = True  # False where channels first is faster here, so that the bundle has none of this

    def __str__(self) -> str:
        tiled = sum(len(each.layers) for each in self.groups if each.tile > 1)
        held = sum(each.reason.endswith("budget") for each in self.groups)
        sentence = f"Conv1d: {tiled} of {sum(len(each.layers) for each in self.groups)} layers in tiles"
        if self.snr_db < self.min_snr_db:
            sentence += f"; even direct they reach only {self.snr_db:.1f} of the {self.min_snr_db:g} dB asked for"
        else:
            sentence += f", {self.snr_db:.1f} dB against the original"
        sentence += f"; {held} groups held back by the budget of {self.min_snr_db:g} dB" if held else ""
        for number, frames in enumerate(self.step_frames):
            direct = sum(each.direct_seconds[number] for each in self.groups)
            ratio = sum(each.seconds[number] for each in self.groups) / direct if direct else 1.0
            sentence += f"; {ratio:.2f} x the direct time at {frames}"
        for frames, ratio in zip(self.step_frames, self.channels_first_ratios, strict=False):
            sentence += f"; {ratio:.2f} x the time of channels first at {frames}"
        sentence += "" if self.is_kept else "; so the model stays channels first, without any of these"
        return f"{sentence}."


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of `prepare`.

    Attributes
    ----------
    source, bundle : str
        Paths of the model and of the bundle made from it.
    nodes_before, nodes_after : int
        Of the main graph.
    fired : tuple of Firing
    refused : tuple of Refusal
    parity : Parity
    tiling : Tiling or None
        Tiles of the FP32 model's convolutions; None where the model has none that can be tiled.
    speed : Speed or None
        None where timing was turned off.
    quantization : str
        What became of INT8, in a sentence.
    frontier : tuple of Point
        Quality against speed, from FP32 on; empty where nothing was quantized.
    bargains : tuple of Bargain
        The groups of layers, with what each costs and brings.
    bytes_before, bytes_after : int
        Of graph and weights on disk.
    seconds : float
        That preparing took.
    """

    source: str
    bundle: str
    target: str
    nodes_before: int
    nodes_after: int
    fired: tuple[Firing, ...]
    refused: tuple[Refusal, ...]
    parity: Parity
    tiling: Tiling | None
    speed: Speed | None
    quantization: str
    frontier: tuple[Point, ...]
    bargains: tuple[Bargain, ...]
    bytes_before: int
    bytes_after: int
    seconds: float

    def rules(self) -> dict[str, int]:
        """How often each rule fired."""
        counts: dict[str, int] = {}
        for firing in self.fired:
            counts[firing.rule] = counts.get(firing.rule, 0) + 1
        return counts

    def to_dict(self) -> dict[str, JSON]:
        """Everything as JSON values; infinities as null, since JSON has none."""
        return {name: _json(value) for name, value in dataclasses.asdict(self).items()}

    def __str__(self) -> str:
        lines = [f"{self.source} -> {self.bundle}", f"  nodes {self.nodes_before} -> {self.nodes_after}"]
        lines += [f"  {rule}: {count}" for rule, count in self.rules().items()]
        lines.append(f"  parity {self.parity.worst_relative:.1e} relative over {self.parity.trials} shapes")
        if self.tiling is not None:
            lines.append(f"  {self.tiling}")
        if self.speed is not None:
            lines.append(f"  {self.speed.prepared_seconds:.3f} s, {self.speed.ratio:.2f} x of the original")
        lines.append(f"  {self.quantization}")
        return "\n".join(lines)


def _json(value: Any) -> JSON:
    if isinstance(value, Mapping):
        return {str(key): _json(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    plain: JSON = value
    return plain
