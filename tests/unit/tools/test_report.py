"""Reports: self-contained, complete, every axis with its unit, and readable back."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from bench_rows import benchmark, row
from click.testing import CliRunner

from omni_sdk import InputError, Settings
from omni_sdk.cli import main
from omni_sdk.tools import report
from omni_sdk.tools.measure.contenders import Contender
from omni_sdk.tools.measure.results import Benchmark, Row
from omni_sdk.tools.measure.suites import Suite, Suites
from omni_sdk.tools.measure.tables import seconds

STEADY = [0.010, 0.011, 0.010, 0.012, 0.010, 0.011, 0.010]
EMPTY_SUITES = '{"benchmarks": [], "machine_info": {"cpu": {}, "machine": "x"}, "datetime": ""}'
VOID = {"meta", "circle", "rect", "line", "br"}


@pytest.fixture
def found() -> Benchmark:
    first = row("balanced", STEADY)
    second = row("spinning <fast>", [each * 0.7 for each in STEADY], Settings(allow_spinning=True), load=0.4)
    second.remarks = ("info: allow_spinning: idle worker threads keep their cores busy between calls",)
    third = row("gone", [])
    third.failure = "killed as the kernel does when memory runs out, at 1.2 GiB resident (during warmup)"
    third.snr_db = None
    return benchmark(first, second, third)


@pytest.fixture
def ablated() -> Benchmark:
    bare, full = Settings(), Settings(allow_spinning=True)
    rows = [
        row("full", [each * 0.7 for each in STEADY], full),
        row("bare", STEADY, bare),
        row("full - allow_spinning", STEADY, bare),
        row("bare + allow_spinning", [each * 0.7 for each in STEADY], full),
    ]
    return benchmark(*rows, ablation=("full", "bare"))


class Page(HTMLParser):
    """Checks that tags close in order, and collects the text and the addresses."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.addresses: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_the_page_is_self_contained_and_well_formed(found: Benchmark, ablated: Benchmark) -> None:
    for each in (found, ablated):
        text = report.to_html(each)
        page = Page(text)
        assert page.open == []
        assert page.addresses == []
        assert "<script" not in text
        assert not re.search(r"https?:|@import|url\(", text)
        assert "prefers-color-scheme: dark" in text


def test_names_are_escaped(found: Benchmark) -> None:
    assert "spinning &lt;fast&gt;" in report.to_html(found)
    assert "<fast>" not in report.to_html(found)


def test_every_axis_has_its_unit(found: Benchmark, ablated: Benchmark) -> None:
    titles = re.findall(r'class="axis-title"[^>]*>([^<]*)<', report.to_html(found) + report.to_html(ablated))
    assert len(titles) == 9  # two of memory's in each page, one of each other chart
    assert all(re.search(r"(, (s|ms|µs|MiB|GiB)(, logarithmic)?|, % \(.*\))$", title) for title in titles), titles


def test_nothing_is_drawn_outside(found: Benchmark, ablated: Benchmark) -> None:
    for text in (report.to_html(found), report.to_html(ablated)):
        for chart in re.findall(r"<svg viewBox.*?</svg>", text, re.S):
            width, height = (float(size) for size in re.search(r'"0 -4 ([\d.]+) ([\d.]+)"', chart).groups())  # type: ignore[union-attr]
            across = [float(x) for x in re.findall(r'\b(?:x|x1|x2|cx)="([-\d.]+)"', chart)]
            down = [float(y) for y in re.findall(r'\b(?:y|y1|y2|cy)="([-\d.]+)"', chart)]
            assert 0 <= min(across) <= max(across) <= width
            assert -4 <= min(down) <= max(down) <= height - 4


def test_a_row_that_failed_says_so_everywhere(found: Benchmark) -> None:
    for text in (report.to_html(found), report.to_markdown(found)):
        assert "killed as the kernel does when memory runs out" in text
    assert found.failed


def test_an_interrupted_benchmark_says_so(found: Benchmark) -> None:
    found.interrupted = True
    assert "stopped by the user" in report.to_markdown(found)
    assert "stopped by the user" in report.to_html(found)


def test_the_tables_hold_what_was_measured(found: Benchmark) -> None:
    text = report.to_markdown(found)
    assert "| 0.70 (0.70–0.70) lower |" in text
    assert "| 10.1 ms | 11.9 ms | 12.1 ms |" in text  # p50, p90, p99 of the first
    assert "100%" in text
    assert "makes up for it after" in text
    assert "allow_spinning | False | True" in text
    assert "idle worker threads" in text
    assert "equal" in text
    assert "| balanced | 10 ms, 10 ms |" in text  # each pass of the warm-up


def test_settings_of_one_row_alone_are_told() -> None:
    text = report.to_markdown(
        benchmark(row("mine.toml", STEADY, Settings(allow_spinning=True, intra_op_num_threads=3)))
    )
    assert "| intra_op_num_threads | 3 |" in text
    assert "| allow_spinning | True |" in text
    assert "graph_optimization_level" not in text


def test_the_ablation_has_table_and_chart(ablated: Benchmark) -> None:
    text = report.to_html(ablated)
    assert 'class="KEEP"' in text
    assert "change of steady latency by the lever" in text
    effects = re.findall(r"<td>([^<]*)</td>", text[text.index("<h2>Ablation") :])[2:7]
    assert len(effects) == 5  # latency, first, warm-up, load, memory: each taken away and added, with its interval
    assert all(len(re.findall(r"[\d.]+=? \([\d.]+\u2060–\u2060[\d.]+\)", cell)) == 2 for cell in effects), effects
    assert "full - allow_spinning" not in text  # levers stand in the ablation's own table alone


def test_json_is_strict_and_comes_back(found: Benchmark, tmp_path: Path) -> None:
    path = report.write(found, tmp_path / "deep" / "found.json")
    again = report.load(path)
    assert isinstance(again, Benchmark)
    assert again.to_dict() == found.to_dict()
    assert again["balanced"].snr_db == math.inf
    assert report.to_html(again) == report.to_html(found)


def test_a_report_that_cannot_be_finished_leaves_the_one_that_stood_there(
    found: Benchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = report.write(found, tmp_path / "found.md")
    before = path.read_text()

    def full(self: Path, content: bytes) -> int:
        with self.open("wb") as file:
            file.write(content[:9])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match="Expected to write a file, got No space left on device"):
        report.write(found, path)
    assert path.read_text() == before
    assert list(tmp_path.iterdir()) == [path]


def test_names_that_are_no_text_are_written_as_escapes(found: Benchmark, tmp_path: Path) -> None:
    found.model = "m\udcff.onnx"
    assert r"m\udcff.onnx" in report.write(found, tmp_path / "found.md").read_text()


def test_names_that_are_no_text_are_printed_as_escapes(found: Benchmark, tmp_path: Path) -> None:
    found.model = "m\udcff.onnx"
    done = CliRunner().invoke(main, ["bench", str(report.write(found, tmp_path / "found.json"))])
    assert isinstance(done.exception, SystemExit)
    assert r"m\udcff.onnx" in done.output


def test_a_report_that_fails_does_not_lose_the_others(tmp_path: Path) -> None:
    stats = {"min": 0.001, "median": 0.002, "iqr": 0.0001, "max": 0.004, "rounds": 9}
    suites = {
        "machine_info": {"cpu": {"brand_raw": "A CPU"}},
        "datetime": "2030",
        "benchmarks": [{"name": "a", "group": "g", "stats": stats}],
    }
    (tmp_path / "suites.json").write_text(json.dumps(suites))
    outputs = ["-o", str(tmp_path / "again.json"), "-o", str(tmp_path / "page.html")]
    done = CliRunner().invoke(main, ["bench", str(tmp_path / "suites.json"), *outputs])
    assert done.exit_code == 1
    assert "got .json" in done.output
    assert (tmp_path / "page.html").exists()


@pytest.mark.parametrize(
    ("option", "name"),
    [
        (["-a", "ultra"], "--against"),
        (["--rounds", "7"], "--rounds"),
        (["-s", "x=1"], "--shape"),
        (["--ablation"], "--ablation"),
        (["--seed", "0"], "--seed"),
    ],
)
def test_options_of_measuring_are_refused_beside_a_report(
    found: Benchmark, tmp_path: Path, option: list[str], name: str
) -> None:
    path = report.write(found, tmp_path / "found.json")
    done = CliRunner().invoke(main, ["bench", str(path), *option, "-o", str(tmp_path / "again.md")])
    assert done.exit_code == 1
    assert "Expected a model to measure, got the report" in done.output
    assert f"- at {name}" in done.output
    assert not (tmp_path / "again.md").exists()


def test_lines_break_between_figures_and_within_long_names(found: Benchmark) -> None:
    found.rows[1].contender = replace(found.rows[1].contender, name="folder/model_of_a_kind.onnx@ultra")
    page = report.to_html(found)
    assert "100.0\u00a0MiB" in page
    assert re.search(r"\d\u2060–\u2060\d", page)
    assert "folder/<wbr>model_<wbr>of_<wbr>a_<wbr>kind.<wbr>onnx@<wbr>ultra" in page
    assert "<wbr>" not in report.to_markdown(found)


def test_the_size_of_a_model_is_told_where_it_is_known(found: Benchmark, tmp_path: Path) -> None:
    found.rows[0].model_bytes = 860 << 20
    again = report.load(report.write(found, tmp_path / "found.json"))
    assert isinstance(again, Benchmark)
    assert again.rows[0].model_bytes == 860 << 20
    assert "860.0 MiB" in report.to_markdown(again)
    assert Row.before(Contender("torch", "callable", "no.onnx", function="module:function")).model_bytes is None


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"format": "omni-sdk benchmark", "schema": 99}', '{"benchmarks": [{}]}', EMPTY_SUITES],
)
def test_files_that_are_no_benchmark_are_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"found\.json"):
        report.load(path)


def test_a_benchmark_that_lacks_a_part_is_refused(found: Benchmark, tmp_path: Path) -> None:
    plain = found.to_dict()
    del plain["rows"][0]["runs"]
    path = tmp_path / "found.json"
    path.write_text(json.dumps(plain))
    with pytest.raises(InputError, match=r"found\.json"):
        report.load(path)


def test_unknown_suffixes_are_refused(found: Benchmark, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\.pdf"):
        report.write(found, tmp_path / "found.pdf")


def test_pytest_benchmark_feeds_the_report(tmp_path: Path) -> None:
    stats = {"min": 0.001, "median": 0.002, "iqr": 0.0001, "max": 0.004, "rounds": 9}
    entries = [
        {"name": "test_ours", "group": "call", "stats": stats},
        {"name": "test_baseline", "group": "call", "stats": {**stats, "median": 0.004}},
        {"name": "test_alone", "group": None, "stats": stats},
    ]
    plain = {"machine_info": {"cpu": {"brand_raw": "A CPU"}}, "datetime": "2030", "benchmarks": entries}
    path = tmp_path / "benchmarks.json"
    path.write_text(json.dumps(plain))
    found = report.load(path)
    assert isinstance(found, Suites)
    text = report.to_markdown(found)
    assert text.index("test_ours") < text.index("test_baseline")
    assert "| test_baseline | 1 ms | 4 ms | 100 µs | 4 ms | 9 | 2.00 |" in text
    assert "A CPU" in report.to_html(found)
    with pytest.raises(InputError):
        report.to_json(found)


def test_tests_of_one_name_in_two_files_are_two(tmp_path: Path) -> None:
    stats = {"min": 0.001, "median": 0.002, "iqr": 0.0001, "max": 0.004, "rounds": 9}
    names = ("test_a.py::test_load", "test_b.py::test_load")
    entries = [{"name": "test_load", "fullname": name, "group": None, "stats": stats} for name in names]
    plain = {"machine_info": {"cpu": {}, "machine": "x"}, "datetime": "2030", "benchmarks": entries}
    (tmp_path / "benchmarks.json").write_text(json.dumps(plain))
    text = report.to_markdown(report.load(tmp_path / "benchmarks.json"))
    assert all(f"| {name} |" in text for name in names)


@pytest.mark.parametrize(("value", "text"), [(1.234, "1.23 s"), (0.00123, "1.23 ms"), (4.5e-6, "4.5 µs"), (None, "–")])
def test_seconds_are_told_in_a_fitting_unit(value: float | None, text: str) -> None:
    assert seconds(value) == text


def test_a_busy_machine_is_said_to_be_one(found: Benchmark) -> None:
    quiet = {**found.machine, "usable_cores": 4, "load_average": [0.3, 0.2, 0.1]}
    found.machine = quiet
    assert "busy machine" not in report.to_html(found)
    found.machine = {**quiet, "load_average": [3.2, 0.2, 0.1]}
    for text in (report.to_html(found), report.to_markdown(found)):
        assert "load average 3.2 on 4 cores" in text


@pytest.mark.parametrize(
    "change",
    [
        lambda plain: plain.update(machine=[]),
        lambda plain: plain["machine"].pop("load_average"),
        lambda plain: plain.update(ablation=["a", "b"]),
        lambda plain: plain.update(model=7),
        lambda plain: plain.update(rows=[]),
        lambda plain: plain["rows"][0]["runs"]["0"].update(latencies=[]),
        lambda plain: plain["rows"][0]["runs"]["0"].update(latencies=["x"]),
    ],
)
def test_a_benchmark_that_was_altered_is_refused(
    found: Benchmark, tmp_path: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    plain = json.loads(report.to_json(found))
    change(plain)
    path = tmp_path / "altered.json"
    path.write_text(json.dumps(plain))
    with pytest.raises(InputError, match="a whole benchmark"):
        report.load(path)


def test_a_median_of_zero_has_no_ratio() -> None:
    stats = dict.fromkeys(("min", "median", "iqr", "max", "rounds"), 0.0)
    assert Suite("g", {"a": stats}).table().rows[0][-1] == "–"
