"""What `omni-sdk evaluate` prints: one function a report."""

from __future__ import annotations

import math

from rich.console import Console
from rich.table import Table

from omni_sdk.cli.text import safe
from omni_sdk.tools.evaluate.drift import DriftReport
from omni_sdk.tools.evaluate.latency import LatencyReport, Percentiles
from omni_sdk.tools.evaluate.listening import AbxReport, MosReport
from omni_sdk.tools.evaluate.mos import SAMPLE_RATE, ClipMos
from omni_sdk.tools.evaluate.mos import MosReport as PredictedReport
from omni_sdk.tools.evaluate.wer import Errors, WerReport
from omni_sdk.tools.statistics import Interval

LONGEST_LIST = 20
"""Failed rows that are shown; the JSON has all."""


def show_drift(console: Console, report: DriftReport) -> None:
    """Distances, repetitions, faults and the verdict."""
    if report.resampled:
        console.print(f"The candidate was resampled to {report.sample_rate} Hz.", style="yellow")
    table = Table("", "SNR dB", "peak error", "LSD dB", "STFT", "cosine", "bits")
    for pair in report.pairs:
        found = pair.drift
        figures = (found.snr_db, found.peak_error, found.log_spectral_distance_db, found.stft_distance, found.cosine)
        name = safe(" ".join(filter(None, (found.case, found.name))))
        table.add_row(name, *map(_figure, figures), "equal" if found.bit_equal else "differ")
    for again in report.repetitions:
        apart = (_figure(again.snr_db), _figure(again.peak_error), "", "", "")
        table.add_row(f"{again.way} × {again.count}", *apart, "equal" if again.bit_equal else "differ")
    console.print(table)
    for fault in report.faults:
        console.print(safe(fault), style="red")
    console.print("[bold green]passes" if report.passed else "[bold red]fails")


def show_wer(console: Console, report: WerReport, sample_rate: int, worst: int) -> None:
    """Rates, the worst utterances, and what could not be scored."""
    table = Table("", "rate", "errors", "substituted", "deleted", "inserted", "reference")
    for name, interval, errors in (("WER", report.wer, report.words), ("CER", report.cer, report.characters)):
        if interval is not None:
            span = _span(interval) if len(report.scores) > 1 else "one utterance: no interval"
            table.add_row(name, f"{errors.rate:.2%} ({span})", *map(str, _counts(errors)))
    if report.wer is None:
        console.print("No utterance could be scored.", style="bold red")
    else:
        console.print(table)
        console.print(f"{len(report.scores)} utterances, RTF {report.rtf:.3f}, rules: {report.language}")
    for rate, count in report.resampled.items():
        console.print(f"{count} recordings were resampled from {rate} to {sample_rate} Hz.", style="yellow")
    for score in report.scores[:worst]:
        if score.words.total:
            console.print(f"{safe(score.id)}: {score.words.total} of {score.words.reference} words wrong", style="bold")
            console.print(safe(f"  said   {score.reference}\n  heard  {score.hypothesis}"))
    for row in report.failures[:LONGEST_LIST]:
        console.print(safe(f"not scored: {row.id}: {row.status} {row.detail}"), style="red")
    if len(report.failures) > LONGEST_LIST:
        console.print(f"and {len(report.failures) - LONGEST_LIST} more", style="red")


def show_mos(console: Console, report: PredictedReport) -> None:
    """One line a file, and the mean."""
    table = Table("file", "SIG", "BAK", "OVRL", "OVRL, every window", "windows", "note")
    for clip in report.clips:
        table.add_row(*_mos_cells(clip), style="" if clip.prediction else "red")
    console.print(table)
    if len(report.clips) > 1 and report.ovrl is not None:
        console.print(f"Mean OVRL {report.ovrl.estimate:.3f} ({_span(report.ovrl, '.3f')})")


def show_scores(console: Console, report: MosReport | AbxReport) -> None:
    """What listeners said, by condition, and who does not count."""
    if isinstance(report, MosReport):
        table = Table("condition", "MOS", "ratings")
        for mos in report.conditions:
            table.add_row(safe(mos.condition), f"{mos.mos.estimate:.2f} ({_span(mos.mos, '.2f')})", str(mos.ratings))
    else:
        table = Table("condition", f"told from {safe(report.reference)}", "answers", "chance of that by guessing")
        for abx in report.conditions:
            share = f"{abx.share_correct.estimate:.1%} ({_span(abx.share_correct)})"
            table.add_row(safe(abx.condition), share, str(abx.answers), f"{abx.p_value:.3g}")
    console.print(table)
    console.print(f"{report.raters} raters count; intervals are drawn over each {report.unit}.")
    for name, reason in report.rejected.items():
        console.print(safe(f"not counted: {name}: {reason}"), style="yellow")


def show_latency(console: Console, report: LatencyReport) -> None:
    """End to end, stage by stage, and how the output would have sounded."""
    pace = "at the audio's own pace" if report.recording.realtime else "as fast as possible"
    if report.source_rate != SAMPLE_RATE:
        console.print(f"The audio was resampled from {report.source_rate} Hz.", style="yellow")
    table = Table("milliseconds", "p50", "p90", "p99", "max", "count", "RTF")
    rows = (("speech end to first audio", report.total), ("  end detected", report.detection),
            ("  answered", report.response))  # fmt: skip
    for name, percentiles in rows:
        table.add_row(name, *_percentiles(percentiles), "")
    for stage in report.stages:
        rtf = f"{stage.rtf:.3f}" if stage.rtf is not None else ""
        table.add_row(f"{safe(stage.name)}, a step", *_percentiles(stage.step), rtf)
        table.add_row(f"{safe(stage.name)}, queued", *_percentiles(stage.queued), "")
    console.print(table)
    if not report.turns:
        console.print("No speech was found that began and ended: nothing was answered.", style="bold red")
    console.print(
        f"{report.turns} turns {pace}: {report.unanswered} unanswered, {report.interrupted} interrupted, "
        f"{report.discarded} begun too soon; "
        f"{report.underruns} underruns, {report.underrun_seconds:.2f} s; {report.cpu_cores:.2f} cores busy"
    )


def _counts(errors: Errors) -> tuple[int, ...]:
    return errors.total, errors.substitutions, errors.deletions, errors.insertions, errors.reference


def _mos_cells(clip: ClipMos) -> tuple[str, ...]:
    path = safe(clip.path)
    note = f"resampled from {clip.source_rate} Hz" if clip.source_rate not in (0, SAMPLE_RATE) else safe(clip.detail)
    if clip.prediction is None:
        return (path, "", "", "", "", "", note)
    mos, lost = clip.prediction.mos, clip.prediction.lost
    scores = [f"{value:.3f}" for value in (mos.sig, mos.bak, mos.ovrl, clip.prediction.every_window.ovrl)]
    windows = (
        f"{clip.prediction.windows}, {lost} lost by the published scorer" if lost else f"{clip.prediction.windows}"
    )
    return (path, *scores, windows, note)


def _percentiles(percentiles: Percentiles | None) -> tuple[str, ...]:
    if percentiles is None:
        return ("", "", "", "", "0")
    figures = (percentiles.p50, percentiles.p90, percentiles.p99, percentiles.max)
    return (*(f"{1000 * seconds:.1f}" for seconds in figures), str(percentiles.count))


def _span(interval: Interval, form: str = ".2%") -> str:
    return f"{interval.level:.0%}: {interval.low:{form}} to {interval.high:{form}}"


def _figure(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if math.isfinite(value) else ("∞" if value > 0 else "-∞")
