"""`omni-sdk inspect`: what a model is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from omni_sdk.cli.findings import print_findings
from omni_sdk.cli.text import safe

if TYPE_CHECKING:
    from omni_sdk.specs import TensorSpec
    from omni_sdk.tools.inspect import Inspection


@click.command()
@click.argument("model", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--operators",
    type=click.IntRange(min=0),
    default=20,
    show_default=True,
    help="How many operators to list, the commonest first.",
)
def command(model: Path, operators: int) -> None:
    """Say what MODEL is: inputs, outputs, operators, weights, state, findings."""
    from omni_sdk.tools.inspect import inspect

    found, console = inspect(model), Console()
    console.print(_summary(found))
    console.print(_operators(found, operators))
    print_findings(console, found.findings)


def _summary(found: Inspection) -> Table:
    from omni_sdk.memory import human

    table = Table(show_header=False, show_edge=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    opsets = ", ".join(f"{domain or 'onnx'} {version}" for domain, version in found.opsets.items())
    rows = [
        ("file", f"{found.path} ({found.producer or 'unknown producer'}, IR {found.ir_version})"),
        ("opsets", opsets),
    ]
    rows += [("input", _described(spec, found)) for spec in found.inputs]
    rows += [("output", _described(spec, found)) for spec in found.outputs]
    for kind, count in found.parameters.items():
        rows.append(("weights", f"{count:,} {kind}, {human(found.parameter_bytes[kind])}"))
    rows.append(("weights lie", found.weights))
    pairs = ", ".join(f"{before} <- {after}" for before, after in found.state.items())
    rows.append(("state", f"{pairs} (from the {found.state_from})" if pairs else "none found"))
    for name, value in rows:
        table.add_row(name, safe(value))
    return table


def _described(spec: TensorSpec, found: Inspection) -> str:
    return f"{spec.name}: {spec.type_name} of unknown rank" if spec.name in found.unranked else str(spec)


def _operators(found: Inspection, most: int) -> Table:
    table = Table(show_edge=False, pad_edge=False, header_style="dim")
    table.add_column("operator", style="bold")
    table.add_column("nodes", justify="right")
    for name, count in list(found.operators.items())[:most]:
        table.add_row(safe(name), str(count))
    if len(found.operators) > most:
        table.add_row(f"{len(found.operators) - most} others", str(sum(list(found.operators.values())[most:])))
    return table
