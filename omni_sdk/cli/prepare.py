"""`omni-sdk prepare MODEL OUT`: rewrite, fuse and quantize a model into a bundle for this device."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from omni_sdk.cli.parameters import shapes_option, values_option
from omni_sdk.tools.prepare import Report, prepare
from omni_sdk.tools.prepare.api import STEP_FRAMES
from omni_sdk.tools.prepare.pictures import COLUMNS, LAYER_COLUMNS, cells, check_folder, layer_cells, save_report
from omni_sdk.tools.prepare.report import Tiling


@click.command(short_help="Rewrite, fuse and quantize a model into a bundle for this device.")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--calibration", type=click.Path(path_type=Path), help="Folder of .npz files with typical inputs.")
@click.option(
    "--min-snr-db", type=float, default=30.0, show_default=True, help="Least SNR of INT8; 0: all that is faster."
)
@click.option(
    "--min-fp32-snr-db",
    type=float,
    default=70.0,
    show_default=True,
    help="Least SNR of FP32: what Winograd tiles may cost.",
)
@click.option(
    "--step-frames",
    multiple=True,
    type=int,
    default=STEP_FRAMES,
    show_default=True,
    help="A size that the model will be run at, to choose tiles by; may be given several times.",
)
@click.option("--quantize/--no-quantize", default=None, help="By default: where calibration is given.")
@click.option(
    "--target", type=click.Choice(["cpu", "openvino"]), default="cpu", show_default=True, help="What will run it."
)
@values_option("--fix", help="NAME=VALUE: an input that is always the same becomes a constant.")
@shapes_option("--shape", "shapes", help="NAME=1,16,128: a shape that never changes.")
@click.option("--skip", multiple=True, metavar="PASS", help="Leave a pass out; may be given several times.")
@click.option("--threads", type=int, help="Of ONNX Runtime while measuring.")
@click.option(
    "--no-measure",
    is_flag=True,
    help="Time neither tiles nor the original. With calibration INT8 is still timed: it is kept where it is faster.",
)
@click.option("--explain", is_flag=True, help="List every node where a rule fired or refused, and why.")
@click.option(
    "--report", "report_folder", type=click.Path(path_type=Path), help="Folder for the report and its picture."
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def command(
    model: Path,
    out: Path,
    calibration: Path | None,
    min_snr_db: float,
    min_fp32_snr_db: float,
    step_frames: tuple[int, ...],
    quantize: bool | None,
    target: str,
    fix: dict[str, Any],
    shapes: dict[str, tuple[int, ...]],
    skip: tuple[str, ...],
    threads: int | None,
    no_measure: bool,
    explain: bool,
    report_folder: Path | None,
    as_json: bool,
) -> None:
    """Turn MODEL (an .onnx file or a bundle) into the bundle OUT, as fast as this device allows.

    The outputs of the rewritten model are compared with the original's on several shapes; a bundle is written only if
    they agree.
    """
    if report_folder is not None:
        check_folder(report_folder)
    console = Console(stderr=as_json)
    with Progress(
        TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=console, transient=True
    ) as bar:
        task = bar.add_task("prepare", total=1.0)
        report = prepare(
            model,
            out,
            calibration=calibration,
            min_snr_db=min_snr_db,
            min_fp32_snr_db=min_fp32_snr_db,
            step_frames=step_frames,
            quantize=quantize,
            target=target,
            fix=fix,
            shapes=shapes,
            skip=skip,
            measure=not no_measure,
            threads=threads,
            progress=lambda what, done: bar.update(task, description=what, completed=done),
        )
    if report_folder is not None:
        save_report(report, report_folder)
    if as_json:
        click.echo(json.dumps(report.to_dict(), indent=1))
        return
    _show(console, report, explain=explain)


def _show(console: Console, report: Report, *, explain: bool) -> None:
    console.print(f"[bold]{report.bundle}[/bold]  {report.bytes_before / 1e6:.1f} -> {report.bytes_after / 1e6:.1f} MB")
    rules = Table("rule", "fired", title=f"{report.nodes_before} -> {report.nodes_after} nodes", title_justify="left")
    for rule, count in report.rules().items():
        rules.add_row(rule, str(count))
    console.print(rules)
    parity = report.parity
    console.print(f"parity: {parity.worst_relative:.1e} relative, {parity.snr_db:.0f} dB, over {parity.trials} shapes")
    if report.tiling is not None:
        console.print(_layers(report.tiling))
        console.print(str(report.tiling))
    if report.speed is not None:
        speed = report.speed
        console.print(f"speed: {speed.original_seconds:.4g} -> {speed.prepared_seconds:.4g} s, {speed.ratio:.2f} x")
    console.print(report.quantization)
    if report.frontier:
        console.print(_frontier(report))
    if explain:
        _explain(console, report)


def _layers(tiling: Tiling) -> Table:
    sizes = " / ".join(map(str, tiling.step_frames))
    table = Table(*LAYER_COLUMNS, title=f"layers, timed at {sizes}" if sizes else "layers", title_justify="left")
    for group in tiling.groups:
        table.add_row(*layer_cells(group))
    return table


def _frontier(report: Report) -> Table:
    table = Table(*COLUMNS, title="frontier", title_justify="left")
    for point in report.frontier:
        table.add_row(*cells(point))
    return table


def _explain(console: Console, report: Report) -> None:
    fired = Table("rule", "node", title="fired", title_justify="left")
    for firing in report.fired:
        fired.add_row(firing.rule, firing.node)
    console.print(fired)
    refused = Table("rule", "node", "reason", title="refused", title_justify="left")
    for refusal in report.refused:
        refused.add_row(refusal.rule, refusal.node, refusal.reason)
    console.print(refused)
