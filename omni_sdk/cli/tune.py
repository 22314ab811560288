"""`omni-sdk tune`: measures settings on this device and keeps the winner."""

from __future__ import annotations

import logging
import math
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from omni_sdk.cli.parameters import shapes_option, values_option
from omni_sdk.cli.progress import racing
from omni_sdk.cli.text import safe

GOALS = ("latency", "cold-start", "memory", "cpu")


@click.command()
@click.argument("model", type=click.Path(exists=True, path_type=Path))
@click.option("--goal", type=click.Choice(GOALS), default="latency", show_default=True, help="What to make small.")
@shapes_option("--shape", "-s", "shapes", help="NAME=1,16,128 of a made-up input.")
@values_option("--value", "values", help="NAME=16000 of a made-up input.")
@click.option("--inputs", "-i", multiple=True, metavar="FILE|FUNCTION",
              help="Inputs from an .npz file or from module:function; repeat it where one lacks some.")  # fmt: skip
@click.option("--max-memory", metavar="SIZE", help="Peak memory that the winner may have: '2 GiB', '60%'.")
@click.option("--max-threads", type=int, help="Threads that the winner may have.")
@click.option("--tolerance", default=1e-3, show_default=True, help="Largest difference of outputs, of their peak.")
@click.option("--rounds", default=7, show_default=True, help="Most pairs of the last comparison.")
@click.option("--seconds", default=1.0, show_default=True, help="Of steady inferences in each process, at least.")
@click.option("--dry-run", is_flag=True, help="Measure, and keep nothing.")
def command(
    model: Path, goal: Any, seconds: float, dry_run: bool, shapes: Any, values: Any, inputs: Any, **options: Any
) -> None:
    """Find settings that suit MODEL on this device; load(MODEL, "tuned") then takes them."""
    from omni_sdk.tools.bench import Effort
    from omni_sdk.tools.tune import tune

    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    console = Console()
    with racing(console, None) as progress:
        found = tune(
            model,
            goal,
            inputs=inputs or None,
            shapes=shapes,
            values=values,
            effort=Effort(seconds=seconds),
            keep=not dry_run,
            progress=progress,
            **options,
        )
    console.print(_candidates(found))
    console.print(safe(found), style="bold")
    if found.profile is not None:
        console.print(f"kept at {safe(found.profile)}")
    if found.interrupted:
        raise SystemExit(130)


def _candidates(found: Any) -> Table:
    table = Table(show_edge=False, pad_edge=False, header_style="dim", title="Candidates", title_justify="left")
    table.add_column("settings", style="bold", overflow="fold")
    table.add_column(f"to {safe(found.reference)}", justify="right")
    table.add_column("", overflow="fold")
    for name, score in sorted(found.scores.items(), key=lambda item: item[1]):
        table.add_row(
            safe(name),
            "refused" if name in found.refused else f"{score:.3f}" if math.isfinite(score) else "not measured",
            safe(found.refused.get(name, "")),
        )
    return table
