"""The commands end to end: what they print, write, and leave as exit status."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

click_testing = pytest.importorskip("click.testing")
pytest.importorskip("jiwer")
onnx = pytest.importorskip("onnx")

from omni_sdk.cli import main  # noqa: E402

WriteAudio = Callable[..., Path]
Voice = Callable[..., npt.NDArray[np.float32]]


def invoke(*arguments: object) -> tuple[int, str]:
    result = click_testing.CliRunner().invoke(main, ["evaluate", *map(str, arguments)], env={"COLUMNS": "200"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a transcriber that knows its recordings by their lengths."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", sys.path.copy())
    monkeypatch.delitem(sys.modules, "my_asr", raising=False)
    path = tmp_path / "my_asr.py"
    path.write_text(
        "WORDS = {16000: 'hola', 8000: 'tengo tres gatos'}\n"
        "def transcribe(samples, sample_rate):\n    return WORDS[samples.size]\n"
    )
    return path


@pytest.fixture
def common_voice(write_audio: WriteAudio, voice: Voice, tmp_path: Path) -> Path:
    write_audio("cv/clips/a.mp3", voice(1.0, 48_000), 48_000)
    write_audio("cv/clips/b.wav", voice(0.5))
    (tmp_path / "cv/clips/c.mp3").write_bytes(b"no mp3")
    table = "path\tsentence\na.mp3\t¡Hola!\nb.wav\tTengo 2 gatos\nc.mp3\tnada\nb.wav\t\n"
    (tmp_path / "cv/test.tsv").write_text(table, encoding="utf-8")
    return tmp_path / "cv"


def test_wer_of_a_common_voice_folder(module: Path, common_voice: Path, tmp_path: Path) -> None:
    common = ("wer", "--dataset", common_voice, "--transcribe", "my_asr:transcribe", "--language", "es")
    status, output = invoke(*common, "--json", "r.json")
    assert status == 1, output  # one recording cannot be read
    assert "25.00%" in output
    assert "1 recordings were resampled from 48000 to 16000 Hz" in output
    assert "not scored: c.mp3: unreadable audio" in output
    assert "not scored: b.wav #2: empty reference" in output
    assert "tengo dos gatos" in output
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["words"] == {"substitutions": 1, "deletions": 0, "insertions": 0, "reference": 4}
    assert invoke(*common, "--max-wer", "0.2")[0] == 1
    assert "Going on after 4 rows" in invoke(*common)[1]
    status, output = invoke(*common, "--sample-rate", "8000")
    assert status == 1
    assert "sample_rate: 16000, now 8000" in output


def test_wer_goes_on_after_the_process_was_killed(module: Path, write_audio: WriteAudio, tmp_path: Path) -> None:
    lines = [{"audio": f"{n}.wav", "text": "hola"} for n in range(4)]
    for line in lines:
        write_audio(str(line["audio"]))
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, lines)))
    module.write_text(
        "import pathlib, time\n"
        "def transcribe(samples, sample_rate):\n"
        "    calls = pathlib.Path('calls'); calls.write_text((calls.read_text() if calls.exists() else '') + 'x')\n"
        "    if len(calls.read_text()) == 3: time.sleep(60)\n"
        "    return 'hola'\n"
    )
    arguments = ["evaluate", "wer", "--dataset", "m.jsonl", "--transcribe", "my_asr:transcribe"]
    command = [sys.executable, "-c", "from omni_sdk.cli import main; main()", *arguments]
    killed = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not (tmp_path / "calls").exists() or len((tmp_path / "calls").read_text()) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    killed.kill()
    killed.wait()
    status, output = invoke(*arguments[1:])
    assert status == 0, output
    assert "Going on after 2 rows" in output
    assert "4 utterances" in output
    assert (tmp_path / "calls").read_text() == "x" * 5


def test_wer_without_a_scored_row_fails(module: Path, tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text('{"audio": "none.wav", "text": "hola"}')
    status, output = invoke("wer", "--dataset", "m.jsonl", "--transcribe", "my_asr:transcribe")
    assert status == 1
    assert "No utterance could be scored" in output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("wer", "--dataset", "absent", "--transcribe", "my_asr:transcribe"), "Error: Expected a Common Voice folder"),
        (("wer", "--dataset", "cv", "--transcribe", "my_asr"), "module:function"),
        (("wer", "--dataset", "cv", "--transcribe", "my_asr:nothing"), "Expected a function"),
        (("listening-test", "absent"), "Expected a folder of conditions"),
        (("listening-test", "cv", "--score"), "Expected the key"),
        (("latency", "my_asr.py", "--audio", "a.wav"), "Expected a pipeline in TOML"),
        (("latency", "my_asr.py", "--audio", "a.wav", "--model", "x"), "STAGE=PATH"),
    ],
)
def test_what_goes_wrong_is_one_sentence(
    module: Path, common_voice: Path, arguments: tuple[str, ...], said: str
) -> None:
    status, output = invoke(*arguments)
    assert status == 1
    assert said in output
    assert "Traceback" not in output


def test_drift_of_recordings(write_audio: WriteAudio, voice: Voice, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    speech = voice(0.5)
    one, same, louder = (write_audio(f"{n}.wav", g * speech) for n, g in (("a", 1), ("b", 1), ("c", 1.01)))
    assert invoke("drift", one, same)[0] == 0
    status, output = invoke("drift", one, louder, "--json", tmp_path / "d.json", "--picture", tmp_path / "d.png")
    assert status == 1
    assert "gain: 1.0100 (+1.00 %)" in output
    assert json.loads((tmp_path / "d.json").read_text())["passed"] is False
    assert (tmp_path / "d.png").stat().st_size > 10_000
    assert invoke("drift", one, louder, "--max-gain-error", 0.02)[0] == 0


def test_a_listening_test_there_and_back(write_audio: WriteAudio, voice: Voice, tmp_path: Path) -> None:
    for condition in ("reference", "other"):
        write_audio(f"clips/{condition}/a.wav", voice(0.3))
    page = tmp_path / "out" / "t.html"
    status, output = invoke("listening-test", tmp_path / "clips", "--output", page, "--seed", 1)
    assert status == 0
    assert "5 trials" in output
    key = json.loads((tmp_path / "out" / "t.key.json").read_text())
    answers = [
        {"trial": t, "clip": e["clips"][0], "rating": 1 if key["clips"][e["clips"][0]]["condition"] == "anchor" else 4}
        for t, e in key["trials"].items()
    ]
    (tmp_path / "answers").mkdir()
    result = {"format": 1, "test": key["test"], "rater": "r", "answers": answers}
    (tmp_path / "answers" / "r.json").write_text(json.dumps(result))
    (tmp_path / "answers" / "x.json").write_text("{}")
    status, output = invoke(
        "listening-test", tmp_path / "answers", "--score", "--key", tmp_path / "out" / "t.key.json", "--json",
        tmp_path / "s.json",
    )  # fmt: skip
    assert status == 0, output
    assert "4.00 (95%: 1.00 to 5.00)" in output  # of one rating, nobody knows the spread
    assert "not counted: x.json" in output
    assert json.loads((tmp_path / "s.json").read_text())["raters"] == 1


def test_cases_of_one_name_in_two_folders_are_two(tmp_path: Path) -> None:
    onnx.save(onnx.parser.parse_model(ROUND), tmp_path / "m.onnx")
    for folder, level in (("a", 0.1), ("b", 0.2)):
        (tmp_path / folder).mkdir()
        np.savez(tmp_path / folder / "c.npz", x=np.full(4, level, "f4"))
    cases = [str(tmp_path / folder / "c.npz") for folder in ("a", "b")]
    report = tmp_path / "d.json"
    common = ("drift", tmp_path / "m.onnx", tmp_path / "m.onnx", "--repeats", 0)
    assert invoke(*common, "--inputs", cases[0], "--inputs", cases[1], "--json", report)[0] == 0
    assert [output["case"] for output in json.loads(report.read_text())["outputs"]] == cases
    assert "each file once" in invoke(*common, "--inputs", cases[0], "--inputs", cases[0])[1]


ROUND = """<ir_version: 8, opset_import: ["" : 17]> g (float[4] x) => (float[4] y) { y = Identity(x) }"""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("drift", "cv", "cv", "--picture", "p.xyz"), "a picture as"),
        (("drift", "cv", "cv", "--json", "/proc/none/x.json"), "a file that can be written"),
        (("drift", "cv", "cv", "--repeats", "-1"), "Invalid value for '--repeats'"),
        (("wer", "--dataset", "cv", "--transcribe", "my_asr:transcribe", "--run", "."), "a file that can be written"),
        (("wer", "--dataset", "cv", "--transcribe", "my_asr:transcribe", "--sample-rate", "-5"), "Invalid value"),
        (("wer", "--dataset", "cv", "--transcribe", "my_asr:transcribe", "--worst", "-1"), "Invalid value"),
        (("wer", "--dataset", "cv", "--transcribe", "my_asr:transcribe", "--max-wer", "nan"), "got nan - at --max-wer"),
        (("drift", "cv", "cv", "--min-snr", "nan"), "got nan - at --min-snr"),
        (("drift", "cv", "cv", "--range", "-1", "nan"), "got nan - at Limits.value_range"),
        (("latency", "my_asr.py", "--audio", "a.wav", "--goal-ms", "nan"), "got nan - at --goal-ms"),
        (("mos", "empty", "--model", "my_asr.py"), "Expected audio files"),
        (("listening-test", "cv", "--output", "."), "a file that can be written"),
        (("listening-test", "cv", "--json", "x.json"), "Expected --score beside it, got none - at --json"),
        (("listening-test", "cv", "--key", "my_asr.py"), "Expected --score beside it, got none - at --key"),
    ],
)
def test_what_cannot_be_done_is_refused_before_it_begins(
    module: Path, common_voice: Path, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    (tmp_path / "empty").mkdir()
    status, output = invoke(*arguments)
    assert status in (1, 2)
    assert said in output
    assert "Traceback" not in output


def test_names_in_brackets_are_no_markup(module: Path, write_audio: WriteAudio, tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text(json.dumps({"audio": "[red]x[/nope].wav", "text": "hola \ud83d"}))
    status, output = invoke("wer", "--dataset", "m.jsonl", "--transcribe", "my_asr:transcribe")
    assert status == 1
    assert "not scored: [red]x[/nope].wav" in output


def test_rows_that_lack_something_are_refused(module: Path, write_audio: WriteAudio, tmp_path: Path) -> None:
    write_audio("a.wav")
    (tmp_path / "m.jsonl").write_text('{"audio": "a.wav", "text": "hola"}')
    common = ("wer", "--dataset", "m.jsonl", "--transcribe", "my_asr:transcribe")
    status, output = invoke(*common)
    assert status == 0, output
    assert "one utterance: no interval" in output
    with (tmp_path / "wer-run.jsonl").open("a") as journal:
        journal.write('{"id": "b"}\n')
    assert "without a usable status" in invoke(*common)[1]
