"""The report's tables, as text: the same for HTML and Markdown."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from omni_sdk import memory
from omni_sdk.settings import Settings
from omni_sdk.stats import Latency
from omni_sdk.tools.measure.ablation import Effect, effects
from omni_sdk.tools.measure.compare import METRICS, Comparison, break_even, compare
from omni_sdk.tools.measure.results import Benchmark, Row

NONE = "–"


@dataclass(frozen=True, slots=True)
class Table:
    """A titled table of text; `note` stands below it, `summary` above."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def tables(found: Benchmark) -> list[Table]:
    """Every table that the benchmark has something for, in the order of reading."""
    made = [_speed(found), _warm_up(found), _cost(found), *_ratios(found), *_ablation(found), *_break_even(found)]
    made += [_remarks(found), _settings(found), _machine(found)]
    return [table for table in made if table.rows]


def seconds(value: float | None) -> str:
    """`0.00123` as `1.23 ms`."""
    if value is None or math.isnan(value):
        return NONE
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value / 1e-6:.3g} µs"


def _bytes(value: float | None) -> str:
    return NONE if value is None else memory.human(value)


def _number(value: float | None, digits: int = 3) -> str:
    if value is None or math.isnan(value):
        return NONE
    return f"{value:.{digits}g}" if abs(value) < 1000 else f"{value:,.0f}"


def _speed(found: Benchmark) -> Table:
    columns = (
        "contender",
        "load",
        "warm-up",
        "passes",
        "first",
        "p50",
        "p90",
        "p99",
        "per second",
        "RTF",
        "cold start",
    )
    return Table(
        "Speed",
        columns,
        tuple(_speed_row(row) for row in found.rows if not _is_lever(row, found)),
        "Medians over the rounds; percentiles over every steady inference. Cold start is the process's start with its"
        " imports (ONNX Runtime's among them, whoever runs), load, warm-up and first inference together."
        " RTF: compute seconds per second of audio.",
    )


def _speed_row(row: Row) -> tuple[str, ...]:
    if not row.runs:
        return (row.name, *[NONE] * 10)
    latency = row.latency
    audio = row.median("audio_seconds")
    return (
        row.name,
        seconds(row.median("load_seconds")),
        seconds(row.median("warmup_total")),
        _passes(row),
        seconds(row.median("first_seconds")),
        *(seconds(value) for value in (latency.p50, latency.p90, latency.p99)),
        _number(1.0 / latency.p50),
        _number(latency.p50 / audio if audio else None),
        seconds(row.median("cold_start")),
    )


def _passes(row: Row) -> str:
    counts = sorted({len(run.warmup_seconds) for run in row.runs.values()})
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


def _warm_up(found: Benchmark) -> Table:
    rows = [row for row in found.rows if row.runs and not _is_lever(row, found)]
    return Table(
        "Warm-up, pass by pass",
        ("contender", "seconds of each pass"),
        tuple((row.name, ", ".join(map(seconds, _each_pass(row)))) for row in rows),
        "Medians over the rounds that came so far.",
    )


def _each_pass(row: Row) -> list[float]:
    passes = [run.warmup_seconds for run in row.runs.values()]
    most = max(map(len, passes))
    return [statistics.median(each[number] for each in passes if len(each) > number) for number in range(most)]


def _cost(found: Benchmark) -> Table:
    columns = ("contender", "model", "peak memory", "CPU / inference", "CPU / paced inference", "minor faults",
               "major faults", "cache hit", "hit rate", "SNR to first row")  # fmt: skip
    return Table(
        "Cost",
        columns,
        tuple(_cost_row(row) for row in found.rows if not _is_lever(row, found)),
        "Model: its files. CPU is processor time of all threads. Paced inferences have pauses of 30 ms between them: a"
        " thread pool that spins shows there. Faults are per steady inference. A cache hit is a repeat of one request.",
    )


def _cost_row(row: Row) -> tuple[str, ...]:
    if not row.runs:
        return (row.name, *[NONE] * 9)
    hits = [second for run in row.runs.values() for second in run.hit_seconds or ()]
    rate = row.median("hit_rate")
    return (
        row.name,
        _bytes(row.model_bytes),
        _bytes(row.median("peak_bytes")),
        seconds(row.median("cpu_seconds")),
        seconds(row.median("paced_cpu_seconds")),
        _number(row.median("minor_faults")),
        _number(row.median("major_faults")),
        seconds(Latency.of(hits).p50) if hits else "off",
        "off" if rate is None else f"{rate:.0%}",
        snr(row.snr_db),
    )


def snr(value: float | None) -> str:
    """Decibels, or `equal`."""
    if value is None:
        return NONE
    return "equal" if value == math.inf else "not comparable" if value == -math.inf else f"{value:.1f} dB"


def _ratios(found: Benchmark) -> list[Table]:
    if len(found.rows) < 2 or found.ablation is not None:
        return []
    reference = found.rows[0]
    rows = [(row.name, *(ratio(compare(reference, row, metric)) for metric in METRICS)) for row in found.rows[1:]]
    return [
        Table(
            f"Ratios to {reference.name}",
            ("contender", *(metric.label for metric in METRICS.values())),
            tuple(rows),
            "Geometric mean over the rounds, each round one pair, with its 95 % bootstrap interval,"
            " widened for few rounds; below 1 is less"
            f" than {reference.name}. A tie: the interval holds 1, or the difference is below 2 %.",
        )
    ]


def ratio(comparison: Comparison) -> str:
    """`0.83 (0.80–0.86) lower`."""
    if comparison.ratio is None:
        return NONE
    if not comparison.ratio.known:
        return f"{comparison.ratio.estimate:.2f} (one round) {comparison.verdict}"
    low, high = comparison.ratio.low, comparison.ratio.high
    return f"{comparison.ratio.estimate:.2f} ({low:.2f}–{high:.2f}) {comparison.verdict}"


def _ablation(found: Benchmark) -> list[Table]:
    if found.ablation is None:
        return []
    full, bare = found.ablation
    rows = [_ablation_row(effect) for effect in effects(found)]
    columns = ("lever", "from, to", "latency", "first", "warm-up", "load", "memory", "recommendation", "why")
    note = (
        f"In each cell: {full} with the lever over {full} without it, then {bare} with the lever alone over {bare},"
        " with 99 % intervals. Below 1 the lever gains; = is a tie, ? too few rounds to say."
    )
    return [Table("Ablation", columns, tuple(rows), note)]


def _ablation_row(effect: Effect) -> tuple[str, ...]:
    cells = [
        f"{_short(effect.removed[metric])}, {_short(effect.added[metric])}"
        for metric in ("latency", "first", "warmup", "load", "memory")
    ]
    change = f"{_plain(effect.lever.before)} → {_plain(effect.lever.after)}"
    return (effect.lever.name, change, *cells, effect.recommendation, effect.reason)


def _short(comparison: Comparison) -> str:
    if comparison.ratio is None:
        return NONE
    mark = {"tie": "=", "unclear": "?"}.get(comparison.verdict, "")
    if not comparison.ratio.known:
        return f"{comparison.ratio.estimate:.2f}{mark}"
    return f"{comparison.ratio.estimate:.2f}{mark} ({comparison.ratio.low:.2f}–{comparison.ratio.high:.2f})"


def _plain(value: object) -> str:
    return "unset" if value is None else str(value)


def _break_even(found: Benchmark) -> list[Table]:
    if found.ablation is not None:
        pairs = [(found[found.ablation[1]], found[found.ablation[0]])]
    else:
        pairs = [(found.rows[0], row) for row in found.rows[1:]]
    rows = [(f"{one.name} and {two.name}", str(even)) for one, two in pairs if (even := break_even(one, two))]
    return [
        Table(
            "Break-even of a costlier start",
            ("pair", "finding"),
            tuple(rows),
            "Inferences after which the extra seconds of the costlier cold start are made up for, with the 95 % range.",
        )
    ]


def _remarks(found: Benchmark) -> Table:
    rows: dict[str, list[str]] = {}
    for row in found.rows:
        if _is_lever(row, found):
            continue  # says what the full or the bare one says
        for remark in row.remarks:
            rows.setdefault(remark, []).append(row.name)
    listed = tuple((", ".join(names), remark) for remark, names in rows.items())
    return Table("What the settings really do", ("contender", "finding"), listed)


def _settings(found: Benchmark) -> Table:
    rows = [row for row in found.rows if row.contender.settings is not None and not _is_lever(row, found)]
    plain = {row.name: row.contender.settings.to_dict() for row in rows if row.contender.settings is not None}
    fields = dict.fromkeys(field for values in plain.values() for field in values)
    every = [Settings().to_dict(), *plain.values()]
    differing = [field for field in fields if len({str(values.get(field)) for values in every}) > 1]
    table = tuple((field, *(_value(values.get(field)) for values in plain.values())) for field in differing)
    return Table("Settings", ("setting", *plain), table, "What is everywhere as in balanced is left out.")


def _is_lever(row: Row, found: Benchmark) -> bool:
    return found.ablation is not None and row.name not in found.ablation


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{key}={each}" for key, each in value.items()) or NONE
    return NONE if value is None else str(value)


def _machine(found: Benchmark) -> Table:
    here = found.machine
    versions = {name: version for row in found.rows for name, version in row.versions.items()}
    rows = (
        ("processor", str(here["cpu"])),
        ("instructions", ", ".join(here["instructions"]) or NONE),
        ("cores", f"{here['usable_cores']} usable of {here['logical_processors']} logical processors"),
        ("quota", "none" if here["cpu_quota"] is None else f"{here['cpu_quota']:g} processors"),
        ("memory", memory.human(here["memory_bytes"])),
        ("load average at the start", " ".join(f"{load:.2f}" for load in here["load_average"])),
        ("system", f"{here['system']}, Python {here['python']}"),
        ("versions", ", ".join(f"{name} {version}" for name, version in versions.items()) or NONE),
        ("model", found.model),
        ("inputs", "; ".join(f"{name} {list(shape)}" for name, shape in found.shapes.items())),
        ("rounds", str(max((len(row.runs) for row in found.rows), default=0))),
        ("measured", found.when),
        ("command", found.command),
    )
    return Table("Machine, versions, command", ("what", "which"), rows)


def failures(found: Benchmark) -> Sequence[tuple[str, str]]:
    """Names and reasons of the rows that were not, or not fully, measured."""
    return [(row.name, row.failure) for row in found.rows if row.failure]
