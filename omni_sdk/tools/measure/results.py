"""What a benchmark found, as values that JSON holds: machine, rows, runs."""

from __future__ import annotations

import dataclasses
import math
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psutil

from omni_sdk import cpu, memory
from omni_sdk import session as sessions
from omni_sdk.errors import InputError, OmniError
from omni_sdk.source import Source
from omni_sdk.stats import Latency
from omni_sdk.tools.measure.contenders import Contender
from omni_sdk.tools.measure.process import Outcome

FORMAT = "omni-sdk benchmark"
SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Run:
    """One process of one contender. Seconds and bytes; faults per steady inference.

    Attributes
    ----------
    latencies : tuple of float
        Of steady inferences: each one, or where there were thousands an even selection.
    cpu_seconds : float
        Processor time per steady inference, all threads together.
    paced_cpu_seconds : float
        The same where inferences come with pauses between them, as in a conversation: what spins shows here.
    audio_seconds : float or None
        Of audio that one inference makes.
    hit_seconds, hit_rate
        Of repeats of one request, where there is a result cache.
    memory : tuple of (float, int)
        Seconds since the process began, resident bytes.
    phases : tuple of (str, float)
        What it was at, from when on.
    """

    import_seconds: float
    load_seconds: float
    warmup_seconds: tuple[float, ...]
    first_seconds: float
    latencies: tuple[float, ...]
    cpu_seconds: float
    paced_cpu_seconds: float
    minor_faults: float
    major_faults: float
    peak_bytes: int
    audio_seconds: float | None = None
    hit_seconds: tuple[float, ...] | None = None
    hit_rate: float | None = None
    memory: tuple[tuple[float, int], ...] = ()
    phases: tuple[tuple[str, float], ...] = ()

    @property
    def warmup_total(self) -> float:
        """Seconds of all passes."""
        return sum(self.warmup_seconds)

    @property
    def cold_start(self) -> float:
        """Seconds from nothing to the first result: imports, load, warm-up, first inference."""
        return self.import_seconds + self.load_seconds + self.warmup_total + self.first_seconds

    @property
    def p50(self) -> float:
        """Median steady latency, one that was measured: by the same rule as every other percentile here."""
        return Latency.of(self.latencies).p50

    @classmethod
    def of(cls, outcome: Outcome, *, sample_rate: int | None, output: str | None) -> Run:
        """From what a worker said."""
        said, count = outcome.events, outcome.events["steady"]["count"]
        samples = said["first"]["samples"]
        made = samples.get(output) if output else next(iter(samples.values()), None)
        cached = said.get("cached")
        return cls(
            import_seconds=said["imported"]["seconds"],
            load_seconds=said["loaded"]["seconds"],
            warmup_seconds=tuple(said["warmed"]["passes"]),
            first_seconds=said["first"]["seconds"],
            latencies=tuple(said["steady"]["latencies"]),
            cpu_seconds=said["steady"]["cpu_seconds"] / count,
            paced_cpu_seconds=said["paced"]["cpu_seconds"] / said["paced"]["count"],
            minor_faults=said["steady"]["minor_faults"] / count,
            major_faults=said["steady"]["major_faults"] / count,
            peak_bytes=said["paced"]["peak_bytes"],
            audio_seconds=made / sample_rate if sample_rate and made else None,
            hit_seconds=tuple(cached["latencies"]) if cached else None,
            hit_rate=cached["rate"] if cached else None,
            memory=tuple(outcome.memory),
            phases=tuple(outcome.phases),
        )


@dataclass(slots=True)
class Row:
    """One contender with all of its runs.

    Attributes
    ----------
    failure : str
        Why it was not, or not fully, measured; empty when it was.
    runs : dict of int to Run
        By the number of the round; rounds that failed are missing.
    model_bytes : int or None
        Of the model's files; None where it is no ONNX model, or cannot be read.
    snr_db : float or None
        Of its outputs against the first row's; None where there is nothing to compare, infinite where they are equal.
    """

    contender: Contender
    failure: str = ""
    runs: dict[int, Run] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    model_bytes: int | None = None
    snr_db: float | None = None

    @classmethod
    def before(cls, contender: Contender) -> Row:
        """The row of a contender that nothing was measured of yet."""
        try:
            size = Source(contender.model).size
        except OmniError:  # told by whoever loads it
            size = None
        return cls(contender, failure=contender.problem, model_bytes=size)

    @property
    def name(self) -> str:
        """The contender's."""
        return self.contender.name

    @property
    def latency(self) -> Latency:
        """Percentiles over the steady inferences of every round, in seconds."""
        return Latency.of(second for run in self.runs.values() for second in run.latencies)

    def median(self, figure: str) -> float | None:
        """Median over the rounds of one of `Run`'s figures; None where there is none."""
        values = [value for run in self.runs.values() if (value := getattr(run, figure)) is not None]
        return statistics.median(values) if values else None


@dataclass(slots=True)
class Benchmark:
    """Everything a report needs.

    Attributes
    ----------
    model : str
    machine : mapping of str to JSON
    shapes : mapping of str to list of int
        What was fed.
    rows : list of Row
        The first is what the others are compared with.
    command, when : str
        The command line, and the time in UTC at which it began.
    ablation : (str, str) or None
        Names of the full and the bare contender, where the other rows are levers taken away and added.
    interrupted : bool
        Whether the user stopped it early.
    """

    model: str
    machine: Mapping[str, Any]
    shapes: Mapping[str, Sequence[int]]
    rows: list[Row]
    command: str = ""
    when: str = ""
    ablation: tuple[str, str] | None = None
    interrupted: bool = False

    @property
    def failed(self) -> bool:
        """Whether any row has a failure."""
        return any(row.failure for row in self.rows)

    def __getitem__(self, name: str) -> Row:
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(name)

    def to_dict(self) -> dict[str, Any]:
        """As plain values; infinite figures as text, since JSON has none."""
        plain = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "rows"}
        return {"format": FORMAT, "schema": SCHEMA, **plain, "rows": [_row_to_dict(row) for row in self.rows]}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Benchmark:
        """The way back.

        Raises
        ------
        InputError
            When it is no benchmark of this schema.
        """
        if plain.get("format") != FORMAT or plain.get("schema") != SCHEMA:
            raise InputError(f"Expected a benchmark of schema {SCHEMA}, got something else - at its JSON")
        values = {f.name: plain[f.name] for f in dataclasses.fields(cls)}
        values["rows"] = [_row_from_dict(row) for row in plain["rows"]]
        values["ablation"] = tuple(plain["ablation"]) if plain["ablation"] else None
        texts = [values[name] for name in ("model", "command", "when")]
        if not values["rows"] or not all(isinstance(text, str) for text in texts):
            raise InputError("Expected rows, and a model, command and time as text, got others - at its JSON")
        return cls(**values)


def machine() -> dict[str, Any]:
    """What this device is, in the words of a report."""
    here, device = cpu.describe(cpu.affinity()), memory.device()
    return {
        "cpu": here.name,
        "instructions": list(here.useful),
        "usable_cores": cpu.usable_cores(),
        "logical_processors": psutil.cpu_count(),
        "cpu_quota": cpu.quota(),
        "memory_bytes": device.total,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "onnxruntime": sessions.ort_version(),
        "load_average": list(psutil.getloadavg()),
    }


def _row_to_dict(row: Row) -> dict[str, Any]:
    return {
        "contender": row.contender.to_dict(),
        "failure": row.failure,
        "remarks": list(row.remarks),
        "versions": dict(row.versions),
        "model_bytes": row.model_bytes,
        "snr_db": None if row.snr_db is None else str(row.snr_db),
        "runs": {number: dataclasses.asdict(run) for number, run in row.runs.items()},
    }


def _row_from_dict(plain: Mapping[str, Any]) -> Row:
    return Row(
        Contender.from_dict(plain["contender"]),
        failure=plain["failure"],
        remarks=tuple(plain["remarks"]),
        versions=plain["versions"],
        model_bytes=plain.get("model_bytes"),
        snr_db=None if plain["snr_db"] is None else float(plain["snr_db"]),
        runs={int(number): _run_from_dict(run) for number, run in plain["runs"].items()},
    )


def _run_from_dict(plain: Mapping[str, Any]) -> Run:
    run = Run(**{name: _tuples(value) for name, value in plain.items()})
    if not run.latencies or not all(math.isfinite(seconds) and seconds >= 0.0 for seconds in run.latencies):
        raise InputError("Expected latencies of each run in seconds, got none or others - at its JSON")
    return run


def _tuples(value: Any) -> Any:
    return tuple(_tuples(each) for each in value) if isinstance(value, list) else value
