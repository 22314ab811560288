"""`omni-sdk doctor`: what holds this device back."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from omni_sdk.cli.findings import print_findings


@click.command()
@click.argument("model", required=False, type=click.Path(exists=True, path_type=Path))
@click.option("--settings", metavar="PRESET|FILE", help="Settings to look at too; default: balanced.")
def command(model: Path | None, settings: str | None) -> None:
    """Say what holds this device back, and the remedy; with MODEL, what of it does not suit the device.

    The exit status is 1 where something is an error.
    """
    from omni_sdk.settings import Settings
    from omni_sdk.tools.doctor import examine

    chosen = None
    if settings is not None:
        is_file = settings.endswith(".toml")
        chosen = Settings.from_file(settings) if is_file else Settings.from_dict({"preset": settings})
    console, found = Console(), examine(model, chosen)
    print_findings(console, found)
    if not found:
        console.print("[green]nothing to say[/]: the device, ONNX Runtime and the settings are in order")
    raise SystemExit(1 if any(finding.level == "error" for finding in found) else 0)
