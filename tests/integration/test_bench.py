"""The benchmark with real processes: what goes wrong with one contender stays with that one."""

from __future__ import annotations

import _thread
import importlib.util
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from click.testing import CliRunner
from measured_models import WIDTH, chain, ragged

from omni_sdk import InputError, ModelError
from omni_sdk.cli import main
from omni_sdk.tools import report
from omni_sdk.tools.bench import Effort, bench
from omni_sdk.tools.measure.compare import break_even, compare

QUICK = Effort(seconds=0.02, runs=(3, 20), timeout=60.0)
SHAPES = {"x": (4, WIDTH)}


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Workers look for functions in the working directory."""
    monkeypatch.chdir(Path(__file__).parent)
    monkeypatch.setenv("OMNI_SDK_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(chain(tmp_path / "chain.onnx"))


def test_everything_is_measured(model: str) -> None:
    seen: list[tuple[str, int, str]] = []
    found = bench(
        model,
        ["session", "ultra"],
        shapes=SHAPES,
        rounds=2,
        effort=QUICK,
        sample_rate=1000,
        progress=lambda *what: seen.append(what),
    )
    assert not found.failed
    ultra = found["ultra"]
    for run in ultra.runs.values():
        assert len(run.warmup_seconds) == 3
        assert min(run.import_seconds, run.load_seconds, run.first_seconds, run.cpu_seconds, run.paced_cpu_seconds) > 0
        assert 3 <= len(run.latencies) <= 20
        began = dict(run.phases)
        # What the cache holds comes after.
        measured = [size for seconds, size in run.memory if seconds < began["cache"]]
        assert run.peak_bytes >= max(measured) > 10 << 20
        assert run.hit_rate == 1.0
        assert run.hit_seconds is not None
        assert run.audio_seconds == WIDTH / 1000
        assert [phase for phase, _ in run.phases][:5] == ["import", "load", "warmup", "first", "steady"]
    assert ultra.model_bytes == found["session"].model_bytes == Path(model).stat().st_size
    assert found["session"].runs[0].hit_rate is None
    assert ultra.snr_db is not None
    assert ultra.snr_db > 100
    assert any("ORT-format" in remark for remark in ultra.remarks)
    assert ultra.versions["onnxruntime"]
    assert found.shapes == {"x": [4, WIDTH]}
    # One process at a time, in turns, the order turned around in the second round.
    order = list(dict.fromkeys((name, number) for name, number, _ in seen))
    assert order == [("session", 0), ("ultra", 0), ("ultra", 1), ("session", 1)]


def test_what_goes_wrong_stays_in_its_row(model: str) -> None:
    bad = ["killed", "crashing", "leaving", "raising", "talkative"]
    contenders = [
        "session",
        *(f"measured_models:{name}" for name in bad),
        "provider:cuda",
        "nobody:knows",
        "measured_models:sleeper",
    ]
    found = bench(model, contenders, shapes=SHAPES, rounds=1, effort=QUICK)
    said = {row.name.removeprefix("measured_models:"): row.failure for row in found.rows}
    assert "memory" in said["killed"]
    assert "during warmup" in said["killed"]
    assert "crashed with SIGSEGV (during load)" in said["crashing"]
    assert "ended with status 7 (during load)" in said["leaving"]
    assert "ValueError: no such inputs (during warmup)" in said["raising"]
    assert said["talkative"].startswith("ValueError: first and so on")
    assert len(said["talkative"]) < 450
    assert "installed" in said["provider:cuda"]
    assert "No module named 'nobody'" in said["nobody:knows"]
    assert said["session"] == said["sleeper"] == ""
    assert all(bool(row.runs) != bool(row.failure) for row in found.rows)
    assert found.failed


def test_inputs_that_do_not_fit_are_said_in_every_row(model: str) -> None:
    found = bench(model, ["session", "balanced"], inputs={"x": np.ones((1, 3), "f4")}, rounds=1, effort=QUICK)
    assert all("x" in row.failure and "during warmup" in row.failure for row in found.rows)


def test_a_peer_that_hangs_is_given_up(model: str) -> None:
    effort = Effort(seconds=0.02, runs=(3, 20), timeout=3.0)
    found = bench(model, ["measured_models:hanging", "measured_models:sleeper"], shapes=SHAPES, rounds=1, effort=effort)
    assert "took longer than 3 s (during warmup)" in found.rows[0].failure
    assert found.rows[1].failure == ""


def test_a_peer_that_is_given_up_leaves_no_process_behind(model: str) -> None:
    effort = Effort(seconds=0.02, runs=(3, 20), timeout=3.0)
    found = bench(model, ["measured_models:hanging_with_a_child"], shapes=SHAPES, rounds=1, effort=effort)
    assert "took longer than 3 s" in found.rows[0].failure
    child = int(Path(model).with_suffix(".child").read_text())
    deadline = time.monotonic() + 10
    while psutil.pid_exists(child) and psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.heavy
def test_a_known_difference_is_found_and_never_pays(model: str) -> None:
    pair = ["measured_models:sleeper", "measured_models:slow_sleeper"]
    found = bench(model, pair, shapes=SHAPES, rounds=4, effort=QUICK)
    latency = compare(found.rows[0], found.rows[1], "latency")
    assert latency.verdict == "higher"
    assert latency.ratio is not None
    assert 1.3 < latency.ratio.estimate < 2.5
    even = break_even(found.rows[0], found.rows[1])
    assert even is not None
    assert (even.costlier, even.never) == ("measured_models:slow_sleeper", True)
    assert compare(found.rows[0], found.rows[1], "load").verdict == "higher"


def test_ctrl_c_keeps_what_was_measured(model: str) -> None:
    def interrupt(name: str, number: int, phase: str) -> None:
        if (name, number, phase) == ("balanced", 1, "steady"):
            _thread.interrupt_main()

    found = bench(model, ["session", "balanced"], shapes=SHAPES, rounds=50, effort=QUICK, progress=interrupt)
    assert found.interrupted
    assert not found.failed
    assert 0 in found["balanced"].runs
    assert len(found["session"].runs) <= 2
    assert "stopped by the user" in report.to_markdown(found)


def test_other_models_take_part(model: str, tmp_path: Path) -> None:
    other = chain(tmp_path / "other.onnx", factor=1.01)
    found = bench(model, ["balanced", f"{other}@balanced"], shapes=SHAPES, rounds=1, effort=QUICK)
    assert found.rows[1].snr_db is not None
    assert 10 < found.rows[1].snr_db < 60


def test_the_seconds_that_were_asked_for_are_measured(model: str) -> None:
    """Not the 300 inferences of a model that takes microseconds."""
    found = bench(model, ["session"], shapes={"x": (1, WIDTH)}, rounds=1, effort=Effort(seconds=0.5))
    (run,) = found.rows[0].runs.values()
    assert len(run.latencies) > 300
    assert dict(run.phases)["paced"] - dict(run.phases)["steady"] >= 0.5


def test_outputs_that_are_no_tensors_are_measured_and_compared(tmp_path: Path) -> None:
    found = bench(ragged(tmp_path / "ragged.onnx"), ["session", "balanced"], rounds=1, effort=QUICK)
    assert not found.failed
    assert found.rows[1].snr_db == float("inf")


def test_a_hint_stays_on_its_own_line(model: str) -> None:
    found = bench(model, ["session", "openvino"], shapes=SHAPES, rounds=1, effort=QUICK)
    if found["openvino"].failure:
        first, second = found["openvino"].failure.splitlines()
        assert first.endswith("(during import)")
        assert second == "  hint: pip install openvino"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["-o", "r.pdf"], "Expected a report as"),
        (["-o", "/proc/none/r.html"], "a file that can be written"),
        (["--ablation", "-a", "ultra"], "got both"),
        (["--bare", "ultra"], "Expected --ablation"),
        (["--seconds", "nan"], "at seconds"),
        (["--least-runs", "0"], "at runs"),
        (["--rounds", "0"], "at rounds"),
        (["--seed", "-1"], "at seed"),
    ],
)
def test_what_cannot_be_measured_or_written_is_refused_first(model: str, options: list[str], said: str) -> None:
    done = CliRunner().invoke(main, ["bench", model, "-s", f"x=4,{WIDTH}", *options])
    assert done.exit_code == 1, done.output
    assert said in done.output
    assert "round 1" not in done.output


def test_a_model_that_does_not_load_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    with pytest.raises(ModelError, match="cut short, damaged, or no ONNX model"):
        bench(tmp_path / "broken.onnx", ["session"], rounds=1)


def test_shapes_beyond_all_memory_are_named(model: str) -> None:
    with pytest.raises(InputError, match=r"Expected shapes that fit into memory, got \{'x': \[10+, 256\]\}"):
        bench(model, ["session"], shapes={"x": (10**18, WIDTH)}, rounds=1)


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="openvino is not installed")
def test_openvino_as_a_peer(model: str) -> None:
    found = bench(model, ["session", "openvino"], shapes=SHAPES, rounds=1, effort=QUICK)
    assert not found.failed
    assert found["openvino"].snr_db is not None
    assert found["openvino"].snr_db > 80


@pytest.mark.skipif(importlib.util.find_spec("openvino") is not None, reason="openvino is installed")
def test_openvino_that_is_missing_says_so(model: str) -> None:
    found = bench(model, ["session", "openvino"], shapes=SHAPES, rounds=1, effort=QUICK)
    assert "pip install openvino" in found["openvino"].failure


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
def test_pytorch_as_a_peer(model: str) -> None:
    found = bench(model, ["session", "measured_models:torch_chain"], shapes=SHAPES, rounds=1, effort=QUICK)
    assert not found.failed
    assert (found.rows[1].snr_db or 0) > 80


def test_the_command_exits_with_1_when_a_row_failed(model: str, tmp_path: Path) -> None:
    page = tmp_path / "found.html"
    common = ["bench", model, "-s", f"x=4,{WIDTH}", "-r", "1", "--seconds", "0.02", "-a", "session"]
    done = CliRunner().invoke(
        main, [*common, "-a", "nobody:knows", "-o", str(page), "-o", str(page.with_suffix(".json"))]
    )
    assert done.exit_code == 1, done.output
    assert "No module named 'nobody'" in done.output
    assert "No module named" in page.read_text()
    again = CliRunner().invoke(main, ["bench", str(page.with_suffix(".json")), "-o", str(tmp_path / "again.md")])
    assert again.exit_code == 1
    assert "nobody:knows" in (tmp_path / "again.md").read_text()
    assert "round 1 of 1: session" in done.output
    assert CliRunner().invoke(main, common).exit_code == 0


@pytest.mark.heavy
def test_the_ablation_runs_and_flags_what_is_not_real(model: str, tmp_path: Path) -> None:
    settings = tmp_path / "full.toml"
    settings.write_text(
        'strict = false\nallow_spinning = true\n[session_entries]\n"session.qdq_matmulnbits_to_float" = "0"\n'
    )
    found = bench(model, shapes=SHAPES, rounds=1, effort=QUICK, ablation=("balanced", str(settings)))
    assert not found.failed
    assert len(found.rows) == 6
    text = report.to_markdown(found)
    assert "NOT REAL | unknown to the installed ONNX Runtime" in text
    assert "UNCLEAR | too few rounds" in text
