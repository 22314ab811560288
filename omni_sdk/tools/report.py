"""The report of a benchmark: a self-contained HTML page, Markdown, JSON."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path

from omni_sdk.errors import InputError, OmniError
from omni_sdk.tools.evaluate.output import check_writable, escape_surrogates, write_files
from omni_sdk.tools.measure import charts
from omni_sdk.tools.measure.results import FORMAT, Benchmark
from omni_sdk.tools.measure.suites import Suites
from omni_sdk.tools.measure.tables import Table, failures, tables

__all__ = ["check", "load", "to_html", "to_json", "to_markdown", "write"]

WORDS = ("lower", "higher", "tie", "unclear", "KEEP", "OPTIONAL", "DROP", "NO EFFECT", "NOT REAL", "UNCLEAR")
"""Verdicts and recommendations, which the page colours."""

UNITS = "B|KiB|MiB|GiB|s|ms|µs|dB"

LONG = 24
"""Characters of a word from which on a line may break within it, behind one of `BREAKS`."""

BREAKS = re.compile(r"([_./@=])(?=\w)")

SUFFIXES = (".html", ".md", ".json")

BUSY = 0.5
"""Load average per usable core from which on others disturb what is measured."""

BUSY_WORDS = (
    "load average {:.1f} on {} cores when it began: wall-clock figures waited for others;"
    " ratios suffer less, processor seconds least"
)

CHARTS = {
    "Speed": charts.latency_chart,
    "Cost": charts.memory_chart,
    "Ablation": charts.ablation_chart,
    "Break-even of a costlier start": charts.cold_start_chart,
}
"""The chart that stands below each table."""


def load(path: str | os.PathLike[str]) -> Benchmark | Suites:
    """Read a benchmark that `write` kept as JSON, or what pytest-benchmark wrote with `--benchmark-json`.

    Raises
    ------
    InputError
        When the file cannot be read, or is neither.
    """
    try:
        plain = json.loads(Path(path).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"Expected a benchmark as JSON, got {error} - at {path}") from error
    if not isinstance(plain, dict) or not ("benchmarks" in plain or plain.get("format") == FORMAT):
        raise InputError(f"Expected a benchmark as JSON, got something else - at {path}")
    try:
        if "benchmarks" in plain:
            return Suites.from_dict(plain)
        found = Benchmark.from_dict(plain)
        to_html(found)  # whole is what a report can be made of: each figure is looked at there
        return found
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, AssertionError, OmniError) as error:
        raise InputError(f"Expected a whole benchmark, got one that is not ({error}) - at {path}") from error


def check(path: str | os.PathLike[str]) -> Path:
    """Make sure that `write` will be able to write a report, before anything is measured for it.

    Raises
    ------
    InputError
        For a suffix that names no kind of report, or a file that cannot be written.
    """
    place = Path(path)
    if place.suffix not in SUFFIXES:
        raise InputError(
            f"Expected a report as {', '.join(SUFFIXES)}, got {place.suffix or 'no suffix'!r} - at {place}"
        )
    return check_writable(place)


def write(found: Benchmark | Suites, path: str | os.PathLike[str]) -> Path:
    """Write a report; the suffix decides which: `.html`, `.md` or `.json`. What stood there is replaced in one step.

    Raises
    ------
    InputError
        For another suffix, or a file that cannot be written.
    """
    place = check(path)
    makers = dict(zip(SUFFIXES, (to_html, to_markdown, to_json), strict=True))
    write_files({place: escape_surrogates(makers[place.suffix](found))})
    return place


def to_json(found: Benchmark | Suites) -> str:
    """Everything measured, for `load` and for other programs.

    Raises
    ------
    InputError
        For pytest-benchmark's files, which are JSON already.
    """
    if isinstance(found, Suites):
        raise InputError("Expected a report as .html or .md, got .json - at pytest-benchmark's own JSON")
    return json.dumps(found.to_dict(), indent=1, allow_nan=False) + "\n"


def to_markdown(found: Benchmark | Suites) -> str:
    """Tables alone, for a repository or an issue."""
    title, lead, alerts, listed = _content(found)
    parts = [f"# {title}", lead, *(f"**{name}**: {' '.join(why.split())}" for name, why in alerts)]
    for table in listed:
        parts += [f"## {table.title}", _markdown_table(table), *([table.note] if table.note else [])]
    return "\n\n".join(parts) + "\n"


def to_html(found: Benchmark | Suites) -> str:
    """One page without a network: styles inside, charts as SVG; follows the reader's light or dark scheme."""
    title, lead, alerts, listed = _content(found)
    style = files("omni_sdk.tools.measure").joinpath("page.css").read_text(encoding="utf-8")
    body = [f"<h1>{escape(title)}</h1>", f'<p class="lead">{escape(lead)}</p>']
    body += [f'<div class="alert"><b>{escape(name)}</b>: {escape(why)}</div>' for name, why in alerts]
    for table in listed:
        body.append(_html_table(table))
        if isinstance(found, Benchmark) and table.title in CHARTS:
            body.append(CHARTS[table.title](found))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{style}</style></head>\n"
        f"<body><main>{chr(10).join(body)}</main></body></html>\n"
    )


def _content(found: Benchmark | Suites) -> tuple[str, str, Sequence[tuple[str, str]], list[Table]]:
    """Title, lead, alerts and tables."""
    if isinstance(found, Suites):
        return "Benchmark suites", f"{found.machine}, {found.when}", (), [group.table() for group in found.groups]
    shapes = "; ".join(f"{name} {list(shape)}" for name, shape in found.shapes.items())
    alerts = list(failures(found))
    if found.interrupted:
        alerts.insert(0, ("Interrupted", "stopped by the user; what was measured until then stands here"))
    here = found.machine
    if here["load_average"][0] > BUSY * here["usable_cores"]:
        alerts.append(("A busy machine", BUSY_WORDS.format(here["load_average"][0], here["usable_cores"])))
    lead = f"{shapes} · {here['cpu']}, {here['usable_cores']} cores · {found.when}"
    return f"Benchmark of {Path(found.model).name}", lead, alerts, tables(found)


def _markdown_table(table: Table) -> str:
    lines = [table.columns, tuple("---" for _ in table.columns), *table.rows]
    return "\n".join(
        "| " + " | ".join(" ".join(cell.replace("|", "\\|").split()) for cell in line) + " |" for line in lines
    )


def _html_table(table: Table) -> str:
    head = "".join(f"<th>{_lines(column)}</th>" for column in table.columns)
    rows = "".join(f"<tr>{''.join(_cell(cell) for cell in row)}</tr>" for row in table.rows)
    wide = ' class="wide"' if len(table.columns) <= 2 else ' class="reasons"' if "why" in table.columns else ""
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    return (
        f'<h2>{escape(table.title)}</h2><div class="scroll"><table{wide}><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>{note}"
    )


def _cell(text: str) -> str:
    word = next((word for word in WORDS if text == word or text.endswith(f") {word}")), None)
    style = f' class="{word.replace(" ", "-")}"' if word else ""
    return f"<td{style}>{_lines(text)}</td>"


def _lines(text: str) -> str:
    """Text whose lines break between words: not within a figure with its unit or an interval, and within long names."""
    kept = re.sub(r"(?<=\d)–(?=\d)", "\u2060–\u2060", re.sub(rf"(?<=\d) (?=({UNITS})\b)", "\u00a0", text))
    words = (escape(word) if len(word) < LONG else BREAKS.sub(r"\1<wbr>", escape(word)) for word in kept.split(" "))
    return " ".join(words)
