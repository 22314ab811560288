"""A table of figures, measured and asked for, written as JSON and Markdown as it grows."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Row:
    """One figure: a ratio or share, whether more or less is asked for, and what was found."""

    figure: str
    measured: float
    goal: float
    at_most: bool
    note: str = ""

    @property
    def met(self) -> bool:
        return self.measured <= self.goal if self.at_most else self.measured >= self.goal


@dataclass
class Table:
    """Rows of one run.

    Parameters
    ----------
    folder : pathlib.Path
        For `NAME.json` and `NAME.md`, rewritten with every row.
    machine : str
        What it ran on.
    name : str
        Of the two files.
    """

    folder: Path
    machine: str
    name: str = "prepare"
    rows: list[Row] = field(default_factory=list)

    def add(self, row: Row) -> Row:
        """Take a row in and write the table."""
        self.rows.append(row)
        document = {"machine": self.machine, "rows": [{**asdict(row), "met": row.met} for row in self.rows]}
        (self.folder / f"{self.name}.json").write_text(json.dumps(document, indent=1) + "\n")
        (self.folder / f"{self.name}.md").write_text(self.markdown())
        return row

    def markdown(self) -> str:
        """The table as Markdown."""
        lines = [f"Measured on {self.machine}.", "", "| figure | measured | goal | met | |", "|---|---|---|---|---|"]
        for row in self.rows:
            goal = f"{'at most' if row.at_most else 'at least'} {row.goal:g}"
            lines.append(f"| {row.figure} | {row.measured:.3f} | {goal} | {'yes' if row.met else 'no'} | {row.note} |")
        return "\n".join(lines) + "\n"


def describe_machine(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """CPU name, count, and instructions that matter here."""
    from omni_sdk import cpu
    from omni_sdk.tools.prepare.hardware import byte_products

    text = cpuinfo.read_text() if cpuinfo.is_file() else ""
    name = next(
        (line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")),
        platform.machine(),
    )
    flags = byte_products(cpuinfo).flags
    return f"{cpu.usable_cores()} cores of {name}, {', '.join(flags) if flags else 'no dot product of bytes (VNNI)'}"
