"""`omni-sdk smoke`: the on-device smoke test, the same as `python -m omni_sdk.smoke`."""

from __future__ import annotations

import click


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": ["-h", "--help"]})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(arguments: tuple[str, ...]) -> None:
    """Check on this device that omni-sdk works; ARGUMENTS go to omni_sdk.smoke."""
    from omni_sdk import smoke

    raise SystemExit(smoke.main(list(arguments)))
