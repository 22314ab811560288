"""`omni-sdk bench`: the comparison benchmark and its reports."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource
from rich.console import Console
from rich.table import Table as RichTable

from omni_sdk.cli.parameters import shapes_option, values_option
from omni_sdk.cli.progress import racing
from omni_sdk.cli.text import safe
from omni_sdk.errors import InputError, OmniError

if TYPE_CHECKING:
    from omni_sdk.tools.measure.tables import Table

WIDTH_OF_FILES = 160
"""Columns where the output is no terminal."""

REPORTING = ("model", "outputs", "help")
"""What the command takes beside a report that is made again."""

STYLES = {
    "lower": "green", "KEEP": "bold green", "higher": "red", "DROP": "bold red", "OPTIONAL": "bold yellow",
    "NOT REAL": "bold yellow", "tie": "dim", "unclear": "dim", "NO EFFECT": "dim", "UNCLEAR": "dim",
}  # fmt: skip


@click.command()
@click.argument("model", type=click.Path(exists=True, path_type=Path))
@click.option("--against", "-a", multiple=True, metavar="CONTENDER",
              help="A preset, tuned, a settings file (.toml), session, openvino, provider:NAME, module:function, "
              "another model, or MODEL@ before any of these. Repeat it; the others are compared with the first. "
              "Default: baseline, ultra, balanced, session.")  # fmt: skip
@shapes_option("--shape", "-s", "shapes", help="NAME=1,16,128 of a made-up input.")
@values_option("--value", "values", help="NAME=16000 of a made-up input.")
@click.option("--inputs", "-i", multiple=True, metavar="FILE|FUNCTION",
              help="Inputs from an .npz file or from module:function; repeat it where one lacks some.")  # fmt: skip
@click.option("--rounds", "-r", default=7, show_default=True, help="Processes of each contender; each round is a pair.")
@click.option("--seconds", default=1.0, show_default=True, help="Of steady inferences in each process, at least.")
@click.option("--least-runs", default=3, show_default=True, help="Steady inferences in each process, at least.")
@click.option("--timeout", default=900.0, show_default=True, help="Seconds after which a process is given up.")
@click.option("--ablation", is_flag=True, help="Measure every lever between two settings instead of contenders.")
@click.option("--bare", help="Of the ablation: what levers are added to.  [default: baseline]")
@click.option("--full", help="Of the ablation: what levers are taken from.  [default: ultra]")
@click.option("--sample-rate", type=click.IntRange(min=1), help="Hz of the output, for RTF; a bundle knows its own.")
@click.option("--seed", default=0, show_default=True, help="Of made-up inputs.")
@click.option("--output", "-o", "outputs", multiple=True, type=click.Path(dir_okay=False, path_type=Path),
              help="Write the report: .html, .md or .json. Repeat it for several.")  # fmt: skip
def command(model: Path, outputs: tuple[Path, ...], **options: Any) -> None:
    """Compare ways to run MODEL side by side, in processes of their own, in turns.

    MODEL may also be a .json that this command or pytest-benchmark wrote: then its report is made again, and
    --output is the only option.
    """
    from omni_sdk.tools import report
    from omni_sdk.tools.measure.results import Benchmark
    from omni_sdk.tools.measure.tables import failures, tables

    console = Console() if sys.stdout.isatty() else Console(width=WIDTH_OF_FILES)
    is_report = model.suffix == ".json"
    if is_report:
        _check_alone(model)
    _check_ablation(**options)
    for path in outputs:
        report.check(path)
    found = report.load(model) if is_report else _measure(model, console, **options)
    listed = tables(found) if isinstance(found, Benchmark) else [group.table() for group in found.groups]
    for table in listed:
        console.print(_drawn(table))
    failed = [path for path in outputs if not _is_written(found, path, console)]
    if isinstance(found, Benchmark):
        for name, why in failures(found):
            console.print(f"[bold red]{safe(name)}[/]: {safe(why)}")
        if found.interrupted:
            console.print("[bold yellow]interrupted[/]: what was measured until then stands above")
        raise SystemExit(130 if found.interrupted else 1 if found.failed or failed else 0)
    raise SystemExit(1 if failed else 0)


def _is_written(found: Any, path: Path, console: Console) -> bool:
    """Write one report; why it cannot be is said, and the others are written all the same."""
    from omni_sdk.tools import report

    try:
        console.print(f"wrote {safe(report.write(found, path))}")
    except OmniError as error:
        click.echo(f"Error: {error}", err=True)
        return False
    return True


def _check_alone(model: Path) -> None:
    """Options that say how to measure have no effect on what was measured already."""
    ctx = click.get_current_context()
    for parameter in ctx.command.get_params(ctx):
        is_given = ctx.get_parameter_source(parameter.name or "") is not ParameterSource.DEFAULT
        if is_given and parameter.name not in REPORTING:
            raise InputError(
                f"Expected a model to measure, got the report {model} - at {parameter.opts[0]}",
                hint="a report is made again from what was measured; only --output applies",
            )


def _measure(model: Path, console: Console, **options: Any) -> Any:
    from omni_sdk.tools.bench import Effort, bench
    from omni_sdk.tools.measure.contenders import DEFAULT

    ablation = (options["bare"] or "baseline", options["full"] or "ultra") if options["ablation"] else None
    with racing(console, options["rounds"]) as progress:
        return bench(
            model,
            options["against"] or DEFAULT,
            inputs=options["inputs"] or None,
            shapes=options["shapes"],
            values=options["values"],
            rounds=options["rounds"],
            effort=Effort(options["seconds"], (options["least_runs"], None), options["timeout"]),
            ablation=ablation,
            sample_rate=options["sample_rate"],
            seed=options["seed"],
            progress=progress,
        )


def _check_ablation(**options: Any) -> None:
    """Options that belong to another kind of comparison would have no effect, and say nothing of it."""
    if options["ablation"] and options["against"]:
        raise InputError(
            "Expected contenders or an ablation, got both - at --against and --ablation",
            hint="an ablation has contenders of its own, made from --bare and --full",
        )
    for name in ("bare", "full"):
        if options[name] is not None and not options["ablation"]:
            raise InputError(f"Expected --ablation beside it, got none - at --{name}")


def _drawn(table: Table) -> RichTable:
    drawn = RichTable(
        title=safe(table.title),
        title_justify="left",
        title_style="bold",
        caption=safe(table.note) or None,
        caption_justify="left",
        header_style="dim",
        show_edge=False,
        pad_edge=False,
    )
    for index, column in enumerate(table.columns):
        drawn.add_column(safe(column), style="bold" if index == 0 else "", overflow="fold")
    for row in table.rows:
        drawn.add_row(*(_styled(cell) for cell in row))
    return drawn


def _styled(cell: str) -> str:
    style = next((style for word, style in STYLES.items() if cell == word or cell.endswith(f") {word}")), "")
    return f"[{style}]{safe(cell)}[/]" if style else safe(cell)
