"""`omni-sdk synth`: codes in, WAV out, streamed as it is made."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from omni_sdk.tools.synth import CHUNK, FIRST_CHUNK, Synthesis, Timing, audio_of, read_codes
from omni_sdk.tools.wav import Sink, player, wav_file

DEMO_OUT = Path("omni-demo")

console = Console(highlight=False, stderr=True)


@click.command()
@click.argument("model", required=False, type=click.Path(path_type=Path))
@click.argument("codes", required=False, type=click.Path(path_type=Path, allow_dash=True))
@click.option("--out", "-o", type=click.Path(path_type=Path), help="The WAV file; with --demo, a folder.")
@click.option("--play", metavar="COMMAND", help="Play it meanwhile, such as 'aplay -q -'; it gets WAV through a pipe.")
@click.option("--first-chunk", type=click.IntRange(min=1), default=FIRST_CHUNK, show_default=True,
              help="Frames of the first step; each later one doubles.")  # fmt: skip
@click.option("--chunk", type=click.IntRange(min=1), default=CHUNK, show_default=True, help="Most frames of a step.")
@click.option("--demo", "is_demo", is_flag=True, help="Make a small reference model and codes, and show what it does.")
@click.option("--seed", type=click.IntRange(min=0), help="Seed of the demo's weights and codes; 0 where left out.")
def command(
    model: Path | None, codes: Path | None, out: Path | None, play: str | None, first_chunk: int, chunk: int,
    is_demo: bool, seed: int | None,
) -> None:  # fmt: skip
    """Decode CODES (.npy or .npz, or - for standard input) with the bundle MODEL, and write or play the audio.

    The first samples come after one small step; the file grows as the audio is made.
    """
    if is_demo:
        if model is not None or play is not None:
            raise click.UsageError("Expected --demo without MODEL, CODES and --play, got some of them.")
        _demo(out or DEMO_OUT, seed or 0, first_chunk, chunk)
        return
    if seed is not None:
        raise click.UsageError("Expected --seed with --demo, got it alone.")
    if model is None:
        raise click.UsageError("Expected MODEL and CODES, or --demo, got neither.")
    if codes is None:
        raise click.UsageError(f"Expected CODES beside MODEL, got {model} alone.")
    if out is None and play is None:
        raise click.UsageError("Expected --out or --play, got neither: nothing would be heard.")
    _synth(model, codes, out, play, first_chunk, chunk)


def _synth(path: Path, codes_path: Path, out: Path | None, play: str | None, first_chunk: int, chunk: int) -> None:
    from omni_sdk.model import load

    audio = audio_of(path)
    with load(path) as model:
        spec = next(spec for spec in model.inputs if spec.name == audio.input)
        source = sys.stdin.buffer if str(codes_path) == "-" else codes_path
        codes = read_codes(source, spec.shape[1] if isinstance(spec.shape[1], int) else None)
        synthesis = Synthesis(model, audio, codes, first_chunk=first_chunk, chunk=chunk)
        with console.status("warming up"):
            model.warmup({audio.input: (*codes.shape[:2], min(first_chunk, chunk, codes.shape[2]))})
        with ExitStack() as stack:
            sinks: list[Sink] = []
            if out is not None:
                sinks.append(stack.enter_context(wav_file(out, audio.sample_rate, synthesis.samples)))
            if play is not None:
                sinks.append(stack.enter_context(player(play, audio.sample_rate, synthesis.samples)))
            _write(synthesis, sinks)
    if out is not None:
        console.print(f"[bold]{escape(str(out))}[/]")
    _show(synthesis.timing)


def _write(synthesis: Synthesis, sinks: list[Sink]) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("decoding", total=synthesis.samples)
        for piece in synthesis:
            for sink in sinks:
                sink.write(piece)
            bar.advance(task, piece.size)


def _show(timing: Timing) -> None:
    console.print(
        f"{timing.audio_seconds:.2f} s of audio in {timing.seconds:.2f} s, RTF {timing.rtf:.3f}:"
        f" {timing.frames} frames in {timing.steps} steps"
    )
    stalled = timing.stalled_seconds
    console.print(
        f"first audio after {timing.first_audio_seconds * 1000:.1f} ms; played from there on, it "
        + (f"would have waited {stalled * 1000:.0f} ms for more" if stalled else "never waits for more")
    )


def _demo(out: Path, seed: int, first_chunk: int, chunk: int) -> None:
    from omni_sdk.tools.demo import demo

    with console.status("") as status:
        found = demo(out, seed=seed, first_chunk=first_chunk, chunk=chunk, progress=status.update)
    for path, what in (
        (found.bundle, "the model: small, with seeded random weights, so what it says is noise"),
        (found.codes, "codes"),
        (found.wav, "the audio"),
        (found.picture, "its waveform"),
    ):
        if path is not None:
            console.print(f"[bold]{escape(str(path))}[/]: {what}")
    _show(found.timing)
    verdict = "[green]equals[/]" if found.is_exact else "[red]differs from[/]"
    console.print(f"the stream {verdict} the one-shot decode: {found.difference:.1e} at most between two samples")
    if found.picture is None:
        console.print("pip install matplotlib for a picture of the waveform")
    sys.exit(0 if found.is_exact else 1)
