"""`omni-sdk export triton`: a bundle as a model of a Triton model repository."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape

from omni_sdk.cli.parameters import shapes_option

console = Console(highlight=False)


@click.command()
@click.argument("bundle", type=click.Path(exists=True, path_type=Path))
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--name", help="Of the model; default: the bundle's folder.")
@shapes_option("--warmup", help="A shape to run before the model is ready; not for one with state.")
@click.option("--threads", default=1, show_default=True, type=click.IntRange(min=1), help="Of each instance.")
@click.option(
    "--instances", default=1, show_default=True, type=click.IntRange(min=1), help="Copies that run at a time."
)
@click.option("--sequences", default=8, show_default=True, type=click.IntRange(min=1), help="Streams of each instance.")
@click.option("--repository", help="Where DIR will stand on the server; custom operators are named by it.")
def triton(
    bundle: Path, folder: Path, name: str | None, warmup: dict[str, tuple[int, ...]], threads: int, instances: int,
    sequences: int, repository: str | None,
) -> None:  # fmt: skip
    """BUNDLE as a model of the Triton model repository DIR, with its configuration."""
    from omni_sdk.bundle import Bundle
    from omni_sdk.source import Source
    from omni_sdk.tools.scale import export_triton

    place = export_triton(
        bundle,
        folder,
        name=name,
        warmup=warmup or None,
        threads=threads,
        instances=instances,
        sequences=sequences,
        repository=repository,
    )
    states = len(Bundle.open(bundle).manifest.state)
    cached = "not cached: the model draws at random" if Source(bundle).is_random else "cached"
    form = f"sequences with {states} states" if states else f"single requests, responses {cached}"
    console.print(f"[bold]{escape(str(place))}[/]: {form}", soft_wrap=True)
