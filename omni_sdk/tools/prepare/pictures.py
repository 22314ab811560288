"""The report on disk: JSON for programs, Markdown for people, and the frontier as a picture."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

from omni_sdk.errors import InputError
from omni_sdk.tools.prepare.report import Layers, Point, Report

COLUMNS = ("INT8 groups", "last added", "SNR, dB", "log-spectral, dB", "MR-STFT", "seconds", "x FP32", "")

LAYER_COLUMNS = ("layers", "count", "tile", "ms", "x direct", "alone, dB", "why")


def check_folder(folder: str | os.PathLike[str]) -> None:
    """Make sure that `save_report` can write to a folder, as far as can be told without making it.

    Raises
    ------
    InputError
        When something else bears the name, or nothing may be written there.
    """
    place = Path(folder).absolute()
    nearest = next(each for each in (place, *place.parents) if os.path.lexists(each))
    if not nearest.is_dir():
        raise InputError(f"Expected a folder for the report, got something else: {nearest} - at {folder}")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise InputError(f"Expected a folder for the report, got one that cannot be written: {nearest} - at {folder}")


def save_report(report: Report, folder: str | os.PathLike[str]) -> None:
    """Write `report.json`, `report.md` and, where there is a frontier, `frontier.png`.

    Parameters
    ----------
    report : Report
        What `prepare` returned.
    folder : str or os.PathLike
        Made if need be; files in it are replaced.

    Raises
    ------
    InputError
        When they cannot be written.
    """
    place = Path(folder)
    try:
        place.mkdir(parents=True, exist_ok=True)
        (place / "report.json").write_text(json.dumps(report.to_dict(), indent=1) + "\n")
        (place / "report.md").write_text(markdown(report))
        if report.frontier:
            draw_frontier(report, place / "frontier.png")
    except OSError as error:
        raise InputError(f"Expected to write a report, got {error.strerror or error} - at {place}") from error


def markdown(report: Report) -> str:
    """The report as Markdown."""
    lines = [f"# {report.source} -> {report.bundle}", "", f"Nodes: {report.nodes_before} -> {report.nodes_after}.", ""]
    lines += ["| rule | fired |", "|---|---|", *(f"| {rule} | {count} |" for rule, count in report.rules().items()), ""]
    parity = report.parity
    lines.append(
        f"Parity: {parity.worst_relative:.1e} relative over {parity.trials} shapes, smallest {dict(parity.smallest)}."
    )
    if report.speed is not None:
        speed = report.speed
        lines.append(f"Speed: {speed.original_seconds:.4g} s -> {speed.prepared_seconds:.4g} s, {speed.ratio:.2f} x.")
    if report.tiling is not None:
        lines += ["", str(report.tiling), "", _row(LAYER_COLUMNS), _row(["---"] * len(LAYER_COLUMNS))]
        lines += [_row(layer_cells(each)) for each in report.tiling.groups]
    lines += ["", report.quantization, ""]
    if report.frontier:
        lines += [_row(COLUMNS), _row(["---"] * len(COLUMNS))]
        lines += [_row(cells(point)) for point in report.frontier]
        lines += ["", "| group | layers | SNR alone, dB | saves, s | saves, MB |", "|---|---|---|---|---|"]
        lines += [
            f"| {each.group} | {each.layers} | {each.snr_db:.1f} | {each.saved_seconds:.4g} "
            f"| {each.saved_bytes / 1e6:.4g} |"
            for each in report.bargains
        ]
    if report.refused:
        lines += ["", "Refused:", *(f"- {refusal.rule}: {refusal.reason}" for refusal in report.refused)]
    return "\n".join(lines) + "\n"


def cells(point: Point) -> list[str]:
    """A point of the frontier as the cells of a table's row."""
    return [
        str(len(point.groups)),
        point.groups[-1] if point.groups else "(FP32)",
        f"{point.snr_db:.1f}" if point.groups else "",
        "" if point.log_spectral_db is None else f"{point.log_spectral_db:.2f}",
        "" if point.multi_resolution_stft is None else f"{point.multi_resolution_stft:.3f}",
        f"{point.seconds:.4g}",
        f"{point.ratio:.2f}",
        "kept" if point.chosen else "",
    ]


def layer_cells(group: Layers) -> list[str]:
    """A group of `Conv1d` layers as the cells of a table's row; one time for each declared size."""
    ratios = [
        f"{seconds / direct:.2f}" if direct else ""
        for seconds, direct in zip(group.seconds, group.direct_seconds, strict=True)
    ]
    return [
        group.group.removeprefix("Conv1d "),
        str(len(group.layers)),
        str(group.tile),
        " / ".join(f"{1e3 * each:.3g}" for each in group.seconds),
        " / ".join(ratios),
        f"{group.layer_snr_db:.0f}" if math.isfinite(group.layer_snr_db) else "",
        group.reason,
    ]


def draw_frontier(report: Report, path: Path) -> None:
    """Quality against speed: one dot for each point that was measured, the kept one marked."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    quantized = [point for point in report.frontier if math.isfinite(point.snr_db)]
    axes.plot([point.ratio for point in quantized], [point.snr_db for point in quantized], "o-", color="#3b6ea5")
    for count, point in enumerate(quantized, start=1):
        axes.annotate(str(count), (point.ratio, point.snr_db), xytext=(4, 4), textcoords="offset points", fontsize=7)
    for point in quantized:
        if point.chosen:
            axes.plot(point.ratio, point.snr_db, "o", markersize=13, markerfacecolor="none", markeredgecolor="#c0392b")
    axes.axvline(1.0, color="#888888", linewidth=0.8, linestyle="--")
    axes.set(xlabel="time against FP32 prepared", ylabel="SNR on held-out samples, dB", title="INT8, group by group")
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def _row(texts: list[str] | tuple[str, ...]) -> str:
    return f"| {' | '.join(texts)} |"
