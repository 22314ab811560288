"""How findings are printed."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console

from omni_sdk.cli.text import safe
from omni_sdk.settings_check import Finding

STYLES = {"error": "bold red", "warning": "bold yellow", "info": "cyan"}


def print_findings(console: Console, findings: Iterable[Finding]) -> None:
    """One paragraph a finding, its remedy on a line of its own."""
    for finding in findings:
        level = f"[{STYLES[finding.level]}]{finding.level}[/]"
        text = f"{level} [bold]{safe(finding.setting)}[/]: {safe(finding.message)}"
        console.print(text, soft_wrap=True)
        if finding.hint:
            console.print(f"    [dim]{safe(finding.hint)}[/]", soft_wrap=True)
