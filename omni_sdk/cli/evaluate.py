"""`omni-sdk evaluate`: drift, word error rate, predicted MOS, listening tests, end-to-end latency."""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import click
from rich.console import Console

from omni_sdk.cli import evaluate_tables as tables
from omni_sdk.cli.progress import counting
from omni_sdk.cli.text import safe
from omni_sdk.errors import InputError
from omni_sdk.tools.evaluate.output import check_picture, check_writable, write_json
from omni_sdk.tools.evaluate.wer import Row

console = Console(highlight=False)


def _early(check: Callable[[Path], Path]) -> Callable[..., Path | None]:
    """A file that cannot be written is refused before anything is measured for it."""
    return lambda ctx, param, path: None if path is None else check(path)


def _number(ctx: click.Context, param: click.Parameter, value: float | None) -> float | None:
    """No limit is NaN: nothing would be beyond it."""
    if value is not None and math.isnan(value):
        raise InputError(f"Expected a number, got nan - at {param.opts[0]}")
    return value


Limit = functools.partial(click.option, type=float, callback=_number)
Json = click.option("--json", "json_path", type=click.Path(path_type=Path), callback=_early(check_writable),
                    help="Write every figure to this file.")  # fmt: skip
Picture = click.option("--picture", type=click.Path(path_type=Path), callback=_early(check_picture),
                       help="Draw to this PNG, SVG or PDF.")  # fmt: skip
Rate = click.IntRange(min=1)


@click.group()
def command() -> None:
    """Quality and latency from real measurements: of your models, on your data."""


@command.command()
@click.argument("reference", type=click.Path(exists=True))
@click.argument("candidate", type=click.Path(exists=True))
@click.option("--inputs", multiple=True, type=click.Path(), help=".npz (or .npy) of inputs; one a case, repeatable.")
@click.option("--waveform", "waveforms", multiple=True, help="Output that is a waveform, where no bundle says so.")
@click.option(
    "--sample-rate", type=Rate, default=24_000, show_default=True, help="Hz of waveforms, where no bundle says it."
)
@click.option("--repeats", type=click.IntRange(min=0), default=3, show_default=True,
              help="Runs, loads and processes; 0 skips determinism.")  # fmt: skip
@Limit("--min-snr", help="Least signal-to-noise ratio in dB.")
@Limit("--max-lsd", help="Most log-spectral distance in dB.")
@Limit("--max-stft", help="Most multi-resolution STFT distance.")
@Limit("--max-peak", help="Most peak error.")
@Limit("--max-gain-error", help="Most that a fitted gain may differ from 1.")
@click.option("--range", "value_range", type=(float, float), help="Within which waveforms have to stay.")
@Json
@Picture
def drift(
    reference: str, candidate: str, inputs: tuple[str, ...], waveforms: tuple[str, ...], sample_rate: int,
    repeats: int, json_path: Path | None, picture: Path | None, **limits: Any,
) -> None:  # fmt: skip
    """How far CANDIDATE is from REFERENCE: two models on the same inputs, or two recordings.

    Exit status 1 where a limit is passed or the candidate does not repeat itself.
    """
    from omni_sdk.tools.evaluate import drift as drifting

    fields = {"min_snr": "snr_db", "max_lsd": "log_spectral_distance_db", "max_stft": "stft_distance",
              "max_peak": "peak_error", "max_gain_error": "gain_error", "value_range": "value_range"}  # fmt: skip
    given = {fields[name]: value for name, value in limits.items() if value is not None}
    cases = {name: drifting.read_case(path, reference) for name, path in _case_names(inputs).items()}
    report = drifting.drift(
        reference, candidate, cases, limits=drifting.Limits(**given), waveforms=waveforms, sample_rate=sample_rate,
        repeats=repeats,
    )  # fmt: skip
    tables.show_drift(console, report)
    _save(report, json_path)
    if picture:
        console.print(f"Picture: {safe(drifting.draw_drift(report, picture))}")
    sys.exit(0 if report.passed else 1)


@command.command()
@click.option("--dataset", required=True, type=click.Path(), help="Common Voice folder, or a .jsonl of audio and text.")
@click.option("--transcribe", "function", required=True, help="module:function(samples, sample_rate) -> text.")
@click.option("--split", default="test", show_default=True, help="Which table of a Common Voice folder.")
@click.option("--language", type=click.Choice(["es", "en", "plain"]), default="plain", show_default=True)
@click.option("--sample-rate", type=Rate, default=16_000, show_default=True, help="Hz that the transcriber wants.")
@click.option("--limit", type=click.IntRange(min=1), help="Only the first so many utterances.")
@click.option("--run", "run_path", type=click.Path(path_type=Path), default=Path("wer-run.jsonl"), show_default=True,
              help="Rows as they come; the same run goes on from here.")  # fmt: skip
@click.option("--retry", is_flag=True, help="Make failed rows again.")
@click.option("--worst", type=click.IntRange(min=0), default=5, show_default=True, help="Utterances to show.")
@Limit("--max-wer", help="Exit status 1 above this rate.")
@Json
def wer(
    dataset: str, function: str, split: str, language: str, sample_rate: int, limit: int | None, run_path: Path,
    retry: bool, worst: int, max_wer: float | None, json_path: Path | None,
) -> None:  # fmt: skip
    """Word and character error rate of a transcriber on a dataset.

    Exit status 1 where an utterance could not be transcribed, or --max-wer is passed.
    """
    from omni_sdk.tools.evaluate.callables import load_callable
    from omni_sdk.tools.evaluate.dataset import read_dataset
    from omni_sdk.tools.evaluate.journal import Journal
    from omni_sdk.tools.evaluate.wer import score, transcribe

    utterances = read_dataset(dataset, split=split)[:limit]
    transcriber = load_callable(function, folder=Path.cwd())
    header = {"kind": "wer", "dataset": str(Path(dataset).resolve()), "split": split, "transcribe": function,
              "sample_rate": sample_rate}  # fmt: skip
    with Journal(run_path, header) as journal, counting(console, "transcribed", len(utterances)) as advance:
        if journal.rows:
            console.print(f"Going on after {len(journal.rows)} rows in {safe(run_path)}.")

        def on_row(row: Row) -> None:
            advance()

        rows = transcribe(utterances, transcriber, journal, sample_rate=sample_rate, retry=retry, on_row=on_row)
    report = score(rows, language=language, sample_rate=sample_rate)
    tables.show_wer(console, report, sample_rate, worst)
    _save(report, json_path)
    if report.broken or report.wer is None or (max_wer is not None and report.wer.estimate > max_wer):
        sys.exit(1)


@command.command()
@click.argument("files", nargs=-1, required=True, type=click.Path())
@click.option("--model", required=True, type=click.Path(exists=True), help="The DNSMOS P.835 model.")
@click.option("--run", "run_path", type=click.Path(path_type=Path), default=Path("mos-run.jsonl"), show_default=True,
              help="Scores as they come; the same run goes on from here.")  # fmt: skip
@Json
def mos(files: tuple[str, ...], model: str, run_path: Path, json_path: Path | None) -> None:
    """Predicted mean opinion scores (DNSMOS P.835) of recordings; folders are searched for them.

    Exit status 1 where a file could not be scored.
    """
    from omni_sdk.tools.evaluate.audio import find_audio
    from omni_sdk.tools.evaluate.mos import predict_mos

    found = [path for name in files for path in find_audio(name)]
    with counting(console, "scored", len(found)) as advance:
        report = predict_mos(found, model, journal=run_path, on_clip=lambda clip: advance())
    tables.show_mos(console, report)
    _save(report, json_path)
    if report.interrupted:
        console.print(
            f"interrupted: what was scored until then stands above, and in {safe(run_path)}", style="bold yellow"
        )
        sys.exit(130)
    if any(clip.prediction is None for clip in report.clips):
        sys.exit(1)


@command.command("listening-test")
@click.argument("folder", type=click.Path())
@click.option("--output", type=click.Path(path_type=Path), default=Path("listening-test.html"), show_default=True)
@click.option("--kind", type=click.Choice(["mos", "abx"]), default="mos", show_default=True)
@click.option("--reference", help="Condition to compare with; default: the folder named reference, else the first.")
@click.option("--title", default="Listening test", show_default=True, help="Shown to raters.")
@click.option("--seed", type=int, help="For the same page again.")
@click.option("--score", "results", is_flag=True, help="FOLDER holds raters' answers: score them with --key.")
@click.option("--key", type=click.Path(exists=True), help="The .key.json that was written with the page.")
@Json
def listening_test(
    folder: str, output: Path, kind: str, reference: str | None, title: str, seed: int | None, results: bool,
    key: str | None, json_path: Path | None,
) -> None:  # fmt: skip
    """Write a blind listening test of FOLDER/<condition>/<item>.wav, or score what raters sent back."""
    from omni_sdk.tools.evaluate.listening import score_results, write_page

    if not results:
        for given, option in ((key, "--key"), (json_path, "--json")):
            if given is not None:
                raise InputError(f"Expected --score beside it, got none - at {option}")
        test = write_page(folder, output, kind=kind, reference=reference, title=title, seed=seed)
        console.print(
            f"{safe(test.page)}: {test.trials} trials, {test.bytes / 1e6:.1f} MB, at {test.loudness_lufs:.1f} LUFS"
        )
        console.print(f"{safe(test.key)}: keep this one to yourself")
        return
    if key is None:
        raise InputError("Expected the key of the test, got none - at --key")
    report = score_results(sorted(Path(folder).glob("*.json")), key)
    tables.show_scores(console, report)
    _save(report, json_path)


@command.command()
@click.argument("pipeline", type=click.Path(exists=True))
@click.option("--audio", required=True, type=click.Path(), help="Recorded speech.")
@click.option("--model", "models", multiple=True, metavar="STAGE=PATH", help="Another model; voice is voice activity.")
@click.option("--fast", is_flag=True, help="As fast as possible, not at the audio's own pace.")
@Limit(
    "--goal-ms", help="Exit status 1 where p99 exceeds this, the output stands still, or a turn waits longer in vain."
)
@Json
@Picture
def latency(
    pipeline: str, audio: str, models: tuple[str, ...], fast: bool, goal_ms: float | None, json_path: Path | None,
    picture: Path | None,
) -> None:  # fmt: skip
    """From the end of speech to the first audio out, through the stages of PIPELINE, a TOML file."""
    from omni_sdk.tools.evaluate.latency import draw_timeline, measure_latency, read_pipeline

    if wrong := [entry for entry in models if "=" not in entry]:
        raise InputError(f"Expected STAGE=PATH, got {wrong[0]} - at --model")
    sys.path.insert(0, str(Path.cwd()))
    config = read_pipeline(pipeline, models=dict(entry.split("=", 1) for entry in models))
    report = measure_latency(config, audio, realtime=not fast)
    tables.show_latency(console, report)
    _save(report, json_path)
    goal = goal_ms / 1000 if goal_ms is not None else None
    if picture:
        console.print(f"Picture: {safe(draw_timeline(report, picture, goal_seconds=goal))}")
    if not report.meets(goal):
        sys.exit(1)


class _Report(Protocol):
    def to_dict(self) -> dict[str, Any]: ...


def _save(report: _Report, path: Path | None) -> None:
    if path is not None:
        console.print(f"Figures: {safe(write_json(path, report.to_dict()))}")


def _case_names(paths: tuple[str, ...]) -> dict[str, str]:
    """What each file of inputs is called: nothing where it is alone, else its name, with its folders where need be."""
    if len(set(paths)) < len(paths):
        raise InputError(f"Expected each file once, got {max(paths, key=paths.count)} again - at --inputs")
    if len(paths) == 1:
        return {"": paths[0]}
    stems = [Path(path).stem for path in paths]
    return {stem if stems.count(stem) == 1 else path: path for stem, path in zip(stems, paths, strict=True)}
