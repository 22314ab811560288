"""`omni-sdk doctor`: what holds this device back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from omni_sdk.cli.findings import print_findings
from omni_sdk.errors import InputError

if TYPE_CHECKING:
    from omni_sdk.settings import Settings


@click.command()
@click.argument("model", required=False, type=click.Path(exists=True, path_type=Path))
@click.option("--settings", metavar="PRESET|FILE", help="Settings to look at too; default: balanced.")
def command(model: Path | None, settings: str | None) -> None:
    """Say what holds this device back, and the remedy; with MODEL, what of it does not suit the device.

    The exit status is 1 where something is an error.
    """
    from omni_sdk.errors import SettingsError
    from omni_sdk.settings_check import Finding
    from omni_sdk.tools.doctor import examine

    chosen, found = None, []
    try:
        chosen = _settings(settings, model)
    except SettingsError as error:
        if settings != "tuned":
            raise
        # Without a profile of this device there is still the device.
        found.append(Finding("warning", "tuned", str(error).partition("\n")[0], error.hint or ""))
    found += examine(model, chosen)
    console = Console()
    print_findings(console, found)
    if not found:
        console.print("[green]nothing to say[/]: the device, ONNX Runtime and the settings are in order")
    raise SystemExit(1 if any(finding.level == "error" for finding in found) else 0)


def _settings(name: str | None, model: Path | None) -> Settings | None:
    from omni_sdk import profiles
    from omni_sdk.settings import Settings

    if name is None:
        return None
    if name == "tuned":
        if model is None:
            raise InputError("Expected the model that was tuned, got none - at --settings tuned")
        return profiles.settings_for(str(model))
    if not name.endswith(".toml"):
        return Settings.from_dict({"preset": name})
    if not Path(name).is_file():
        raise InputError(f"Expected a settings file, got no such file - at {name}")
    return Settings.from_file(name)
