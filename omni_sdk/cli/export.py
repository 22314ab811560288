"""`omni-sdk export`: ONNX models from checkpoints."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from omni_sdk.cli.export_triton import triton

REFERENCE_OUT = "code2wav-reference"
"""Where `--reference` writes when it is told no place."""

console = Console(highlight=False)


@click.group()
def command() -> None:
    """Build ONNX models from checkpoints, without PyTorch, and model repositories from bundles."""


command.add_command(triton)


@command.command()
@click.argument("places", nargs=-1, metavar="[CHECKPOINT] [OUT]")
@click.option("--streaming/--one-shot", default=True, show_default=True, help="With carried state, or without.")
@click.option("--batch", type=click.IntRange(min=1), help="A fixed size of the batch.")
@click.option("--revision", help="Branch, tag or commit on the hub.")
@click.option("--offline", is_flag=True, help="Take hub files from the local cache only.")
@click.option("--reference", is_flag=True, help="Make the checkpoint first, with seeded weights.")
@click.option("--full", is_flag=True, help="Qwen3-Omni's own sizes for it (216 million parameters), not small ones.")
@click.option("--seed", type=click.IntRange(min=0), help="Seed of its weights; 0 where left out.")
def code2wav(
    places: tuple[str, ...], streaming: bool, batch: int | None, revision: str | None, offline: bool, reference: bool,
    full: bool, seed: int | None,
) -> None:  # fmt: skip
    """Code2Wav from CHECKPOINT, a folder in Hugging Face layout or a hub id, to the bundle OUT.

    With --reference, CHECKPOINT is a folder to write; with OUT alone the checkpoint is not kept, and OUT is
    code2wav-reference where it is left out too.
    """
    if not reference:
        if full or seed is not None:
            raise click.UsageError("Expected --full and --seed with --reference, got them alone.")
        if len(places) != 2:
            raise click.UsageError(f"Expected CHECKPOINT and OUT, got {len(places)} arguments.")
        _export(places[0], places[1], streaming, batch, revision, offline)
        return
    if len(places) > 2:
        raise click.UsageError(f"Expected at most CHECKPOINT and OUT, got {len(places)} arguments.")
    *folder, out = places or (REFERENCE_OUT,)
    with _reference(folder, full, seed or 0) as checkpoint:
        _export(checkpoint, out, streaming, batch, None, True)


@contextmanager
def _reference(folder: list[str], full: bool, seed: int) -> Iterator[Path]:
    """A reference checkpoint in the folder given, else in one that goes again."""
    from omni_sdk.tools.export import reference_checkpoint

    with tempfile.TemporaryDirectory() as temporary:
        size = "full" if full else "small"
        place = Path(folder[0]) if folder else Path(temporary, f"reference-{size}-seed-{seed}")
        with console.status(f"making the weights of seed {seed}"):
            reference_checkpoint(place, full=full, seed=seed)
        yield place


def _export(
    checkpoint: str | Path, out: str, streaming: bool, batch: int | None, revision: str | None, offline: bool
) -> None:
    from omni_sdk.bundle import Bundle
    from omni_sdk.tools import export

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("reading the checkpoint", total=None)
        export.code2wav(
            checkpoint,
            out,
            streaming=streaming,
            batch=batch,
            revision=revision,
            local_files_only=offline,
            progress=lambda done, total: bar.update(task, description="weights", completed=done, total=total),
        )
    manifest = Bundle.open(out).manifest
    assert manifest.audio is not None
    size = sum(entry.bytes for entry in manifest.files) / 2**20
    form = f"streaming, {len(manifest.state)} states" if manifest.state else "one-shot"
    console.print(f"[bold]{escape(out)}[/]: Code2Wav, {form}, {size:,.1f} MiB")
    console.print(
        f"{manifest.provenance['quantizers']} quantizers of {manifest.provenance['codebook_size']} codes;"
        f" {manifest.audio.hop} samples a frame at {manifest.audio.sample_rate} Hz,"
        f" {manifest.audio.first_chunk_deficit} fewer in the first chunk"
    )
