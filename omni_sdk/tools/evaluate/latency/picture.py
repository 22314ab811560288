"""A timeline of a run: what was said, what each stage did, what was heard; and each turn from the speaker's end on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omni_sdk.tools.evaluate.extras import require
from omni_sdk.tools.evaluate.latency.record import Turn
from omni_sdk.tools.evaluate.latency.report import LatencyReport
from omni_sdk.tools.evaluate.output import check_picture

SPEECH, DETECTION, PLAYBACK, UNDERRUN = "#8a949e", "#e0b040", "#3a9d5d", "#d0342c"
STAGES = ("#0b6fc2", "#7a4fb5", "#c2570b", "#0b9aa8", "#b5487a")
TURNS_AT_MOST = 40
AFTER_FIRST = 0.25
"""Seconds shown beyond the slowest first audio."""


def draw_timeline(report: LatencyReport, path: str | Path, *, goal_seconds: float | None = None) -> Path:
    """Draw a run.

    Parameters
    ----------
    report : LatencyReport
        From `measure_latency`.
    path : str or Path
        PNG, SVG or PDF, by its suffix.
    goal_seconds : float, optional
        A line at this latency.

    Returns
    -------
    Path
        The file.
    """
    path = check_picture(path)
    turns = report.recording.turns[:TURNS_AT_MOST]
    names = [stage.name for stage in report.stages[1:]]
    colors = {name: STAGES[position % len(STAGES)] for position, name in enumerate(names)}
    figure = require("matplotlib.figure").Figure(figsize=(12, 4.5 + 0.26 * len(turns)), layout="constrained")
    overview, detail = figure.subplots(2, 1, height_ratios=(2.4 + 0.3 * len(names), 1.2 + 0.26 * len(turns)))
    _draw_overview(overview, report, names, colors)
    _draw_turns(detail, report, turns, colors)
    if goal_seconds is not None:
        detail.axvline(
            1000 * goal_seconds, color=UNDERRUN, linewidth=1, linestyle="--", label=f"{1000 * goal_seconds:g} ms"
        )
    detail.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), fontsize=8, ncols=8, frameon=False)
    figure.suptitle(_headline(report), fontsize=11)
    figure.savefig(path, dpi=120)
    return path


def _headline(report: LatencyReport) -> str:
    if report.total is None:
        return "No turn was answered"
    p50, p90, p99 = (f"{1000 * value:.0f}" for value in (report.total.p50, report.total.p90, report.total.p99))
    return (
        f"Speech end to first audio: p50 {p50}, p90 {p90}, p99 {p99} ms; "
        f"{report.underruns} underruns; {report.cpu_cores:.2f} cores busy"
    )


def _draw_overview(axis: Any, report: LatencyReport, names: list[str], colors: dict[str, str]) -> None:
    rows = ["heard", *reversed(names), "said"]
    height = {name: position for position, name in enumerate(rows)}
    for turn in report.recording.turns:
        _bar(axis, height["said"], turn.began, turn.ended, SPEECH)
        for span in turn.spans:
            _bar(axis, height[span.stage], span.began, span.ended, colors[span.stage])
        playback = report.playback(turn)
        if playback:
            _bar(axis, height["heard"], playback.began, playback.ended, PLAYBACK)
            for gap in playback.underruns:
                _bar(axis, height["heard"], gap.at, gap.at + gap.seconds, UNDERRUN)
    axis.set_yticks(range(len(rows)), rows)
    last = max((span.ended for turn in report.recording.turns for span in turn.spans), default=0.0)
    axis.set_xlim(0, max(report.recording.seconds, last, 1e-3))
    axis.set_xlabel("seconds")


def _draw_turns(axis: Any, report: LatencyReport, turns: tuple[Turn, ...], colors: dict[str, str]) -> None:
    labels = {"voice activity": DETECTION, **colors, "first audio": PLAYBACK}
    for label, color in labels.items():
        axis.barh([0], [0], color=color, label=label)
    for row, turn in enumerate(turns):
        _bar(axis, row + 0.24, 0.0, 1000 * ((turn.detected or turn.ended) - turn.ended), DETECTION, height=0.3)
        for span in turn.spans:
            begin, end = 1000 * (span.began - turn.ended), 1000 * (span.ended - turn.ended)
            _bar(axis, row - 0.16, begin, end, colors[span.stage], height=0.42)
        playback = report.playback(turn)
        if playback:
            axis.plot(
                [1000 * (playback.began - turn.ended)],
                [row],
                "o",
                color=PLAYBACK,
                markersize=5,
                markeredgecolor="white",
            )
    slowest = report.total.max if report.total else 0.5
    axis.set_xlim(0, 1000 * (slowest + AFTER_FIRST))
    axis.set_ylim(len(turns) - 0.4, -0.6)
    of = len(report.recording.turns)
    axis.set_ylabel("turn" if len(turns) == of else f"turn (the first {len(turns)} of {of})")
    axis.set_xlabel("milliseconds after the speaker's end")


def _bar(axis: Any, row: float, begin: float, end: float, color: str, height: float = 0.62) -> None:
    axis.barh([row], [end - begin], left=[begin], height=height, color=color, edgecolor="white", linewidth=0.3)
