"""prepare as a whole: what comes out, what stays untouched, and what bad input gets."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from small_models import mels, noise, save, vocoder

from omni_sdk.bundle import Bundle
from omni_sdk.errors import BundleError, InputError, InternalError, ModelError, SettingsError
from omni_sdk.tools.metrics import snr_db
from omni_sdk.tools.prepare import prepare
from omni_sdk.tools.prepare.sessions import has_operators, open_session, run
from omni_sdk.tools.prepare.timing import Pace

needs_operators = pytest.mark.skipif(not has_operators(), reason="the operators' library is not built")


def digest(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    return vocoder(folder)


@needs_operators
def test_a_bundle_that_says_the_same_and_what_was_done(model, tmp_path, monkeypatch):
    monkeypatch.setattr("omni_sdk.tools.prepare.tiles.layout.race", lambda *arguments: Pace(1.0, 0.5))
    before = digest(model.parent)
    seen = []
    report = prepare(model, tmp_path / "out", progress=lambda what, done: seen.append(done))
    assert report.rules() == {
        "constant-folding": 1,
        "pad-into-conv": 2,
        "slice-into-conv-transpose": 1,
        "conv-transpose-as-conv": 1,
        "snake": 2,
        "shuffle-snake": 1,
        "conv1d": 3,
        "sink-transposes": 1,
        "conv1d-epilogue": 2,
    }
    assert report.parity.trials == 6 and report.parity.worst_relative < 1e-5
    assert report.nodes_after < report.nodes_before
    assert seen == sorted(seen) and seen[-1] == 1.0
    bundle = Bundle.open(tmp_path / "out", checksums=True)
    assert bundle.manifest.operators == 1
    assert bundle.manifest.provenance["prepared"]["rules"]["snake"] == 2
    assert bundle.manifest.provenance["prepared"]["versions"].keys() >= {"onnxruntime", "onnx", "onnxscript"}
    feeds = {"mel": noise(2, 4, 23, seed=5)}
    expected = run(open_session(model), feeds)["waveform"]
    assert snr_db(expected, run(open_session(bundle.graph_path), feeds)["waveform"]) > 70
    assert digest(model.parent) == before
    json.dumps(report.to_dict())


def test_other_engines_get_standard_operators(model, tmp_path):
    report = prepare(model, tmp_path / "out", target="openvino", measure=False)
    graph = ir.load(Bundle.open(tmp_path / "out").graph_path).graph
    assert {node.domain for node in graph} == {""}
    assert report.rules()["pad-into-conv"] == 2


def test_without_the_library_it_says_so_and_stays_standard(model, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("omni_sdk.tools.prepare.arguments.has_operators", lambda: False)
    with caplog.at_level(logging.WARNING):
        report = prepare(model, tmp_path / "out", measure=False)
    assert "no _kernels library" in caplog.text
    assert "snake" not in report.rules()


def test_a_pass_can_be_left_out(model, tmp_path):
    report = prepare(model, tmp_path / "out", skip=["conv-transpose-as-conv"], target="openvino", measure=False)
    assert "conv-transpose-as-conv" not in report.rules()


def test_a_bundle_in_keeps_its_state_and_provenance(tmp_path):
    from omni_sdk.tools.saving import save_bundle

    model = ir.from_onnx_text("""<ir_version: 9, opset_import: ["" : 18]>
        agraph (float[1, 4, T] x, float[1, 4, 2] past) => (float[1, 4, T] y, float[1, 4, 2] present) {
            j = Concat <axis = 2> (past, x) s = Constant <value = int64[1] {-2}> ()
                e = Constant <value = int64[1] {9223372036854775807}> ()
            a = Constant <value = int64[1] {2}> () present = Slice(j, s, e, a) y = Relu(x) }""")
    save_bundle(tmp_path / "in", model, state={"past": "present"}, provenance={"model": "M"})
    prepare(tmp_path / "in", tmp_path / "out", measure=False)
    manifest = Bundle.open(tmp_path / "out").manifest
    assert manifest.state == {"past": "present"}
    assert manifest.provenance["model"] == "M"


def test_an_interrupt_leaves_what_stood_there(model, tmp_path):
    prepare(model, tmp_path / "out", measure=False)
    before = digest(tmp_path / "out")

    def interrupt(what, done):
        if what == "write":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(model, tmp_path / "out", measure=False, progress=interrupt)
    assert digest(tmp_path / "out") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "source"]


def test_a_rule_that_lies_is_named(model, tmp_path, monkeypatch):
    from omni_sdk.tools.prepare.rules.pad_into_conv import PadIntoConv

    honest = PadIntoConv.plan

    def lying(self, **bound):
        plan = honest(self, **bound)
        return None if plan is None else (plan[0], plan[1], [plan[2][0] + 1, plan[2][1] - 1 if plan[2][1] else 0])

    monkeypatch.setattr(PadIntoConv, "plan", lying)
    with pytest.raises(ModelError, match=r"rule pad-into-conv") as raised:
        prepare(model, tmp_path / "out", measure=False)
    assert "skip=['pad-into-conv']" in raised.value.hint
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["does not load", "does not run"])
def test_a_rule_whose_model_fails_is_named(model, tmp_path, monkeypatch, kind):
    from omni_sdk.tools.prepare.rules.pad_into_conv import PadIntoConv

    def broken(self, op, plan):
        if kind == "does not load":
            return op.Nonsense(plan[0])
        return op.Reshape(plan[0], self.initializer(op, plan[0], np.array([7, 7, 7], np.int64)))

    monkeypatch.setattr(PadIntoConv, "replace", broken)
    with pytest.raises(ModelError, match=r"after rewriting, got .* - at rule pad-into-conv") as raised:
        prepare(model, tmp_path / "out", measure=False)
    assert "skip=['pad-into-conv']" in raised.value.hint


def test_a_rule_that_breaks_down_is_named(model, tmp_path, monkeypatch):
    from omni_sdk.tools.prepare.rules.snake import Snake

    def broken(self, **bound):
        raise ValueError("shapes do not fit")

    monkeypatch.setattr(Snake, "plan", broken)
    with pytest.raises(InternalError, match=r"got ValueError: shapes do not fit.* - at rule snake") as raised:
        prepare(model, tmp_path / "out", measure=False)
    assert "skip=['snake']" in raised.value.hint


@pytest.mark.parametrize("name", ["n", "N", "b"])
def test_a_time_axis_may_be_called_as_batches_are(tmp_path, name):
    model = ir.from_onnx_text(f"""<ir_version: 9, opset_import: ["" : 18]>
        agraph (float[1, 8, {name}] x, float[8, 8, 7] w) => (float[1, 8, L] y) {{ y = Conv(x, w) }}""")
    path = save(model, {"w": noise(8, 8, 7)}, tmp_path / "model.onnx")
    report = prepare(path, tmp_path / "out", measure=False)
    assert report.parity.smallest == {name: 8} and report.parity.trials >= 3


BAD = {
    "target": ({"target": "tpu"}, SettingsError, "cpu or openvino"),
    "pass": ({"skip": ["nonsense"]}, SettingsError, "nonsense"),
    "decibels": ({"min_snr_db": -1.0}, SettingsError, "0 to 200"),
    "no calibration": ({"quantize": True}, InputError, "calibration inputs"),
    "a single sample": ({"calibration": mels(1)}, InputError, "at least 2"),
    "name": ({"calibration": [{"spectrum": noise(1, 4, 8)}] * 2}, InputError, "none for mel"),
    "type": ({"calibration": [{"mel": noise(1, 4, 8).astype(np.float64)}] * 2}, InputError, "float64"),
    "shape": ({"calibration": [{"mel": noise(1, 5, 8)}] * 2}, InputError, r"\[1, 5, 8\]"),
    "not a number": ({"calibration": [{"mel": noise(1, 4, 8) * np.nan}] * 2}, InputError, "NaN"),
    "not by name": ({"calibration": [noise(1, 4, 8)] * 2}, InputError, "got ndarray - at calibration sample 0"),
    "one sample": ({"calibration": mels(1)[0]}, InputError, "iterable of samples, got dict - at calibration"),
    "a number": ({"calibration": 7}, InputError, "iterable of samples, got int - at calibration"),
    "a callable of nothing": ({"calibration": lambda: None}, InputError, "iterable of samples, got NoneType"),
    "ragged": ({"calibration": [{"mel": [[1.0], [1.0, 2.0]]}] * 2}, InputError, "Expected an array, .* input mel"),
    "other keys": ({"calibration": [{"mel": noise(1, 4, 8), 3: 1}] * 2}, InputError, "got 3 too"),
    "a sample that cannot run, held out": (
        {"calibration": [*mels(2), {"mel": noise(1, 4, 1)[:, :, :0]}]},
        InputError,
        r"\[1, 4, 0\]",
    ),
    "steps as a number": ({"step_frames": 5}, SettingsError, "sequence of sizes, got 5 - at step_frames"),
    "steps as text": ({"step_frames": "128"}, SettingsError, "sequence of sizes, got '128' - at step_frames"),
    "decibels as text": ({"min_snr_db": "x"}, SettingsError, "got 'x' - at min_snr_db"),
    "threads as text": ({"threads": "two"}, SettingsError, "got 'two' - at threads"),
    "threads below none": ({"threads": -3}, SettingsError, "got -3 - at threads"),
    "seed": ({"seed": -1}, SettingsError, "got -1 - at seed"),
    "pass as text": ({"skip": "conv1d"}, SettingsError, "sequence of passes, got 'conv1d' - at skip"),
    "shape as text": ({"shapes": {"mel": "1,4,8"}}, InputError, r"got '1,4,8' - at shapes\['mel'\]"),
    "shape with text": ({"shapes": {"mel": (1, "4", 8)}}, InputError, r"at shapes\['mel'\]"),
    "shapes without names": ({"shapes": [1, 4, 8]}, InputError, r"mapping from names of inputs, got .* at shapes"),
    "fixed without names": ({"fix": 3}, InputError, r"mapping from names of inputs, got 3 - at fix"),
    "silence": ({"calibration": [{"mel": np.zeros((1, 4, 8), np.float32)}] * 2}, InputError, "constant"),
    "folder": ({"calibration": "/nonexistent"}, InputError, "npz"),
}


@pytest.mark.parametrize(("arguments", "kind", "words"), BAD.values(), ids=BAD.keys())
def test_bad_arguments_get_a_sentence(model, tmp_path, arguments, kind, words):
    with pytest.raises(kind, match=words):
        prepare(model, tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


def test_models_that_are_none(tmp_path):
    (tmp_path / "text.onnx").write_text("not a model")
    for path in (tmp_path / "absent.onnx", tmp_path, tmp_path / "text.onnx"):
        with pytest.raises(ModelError, match=str(path)):
            prepare(path, tmp_path / "out")


def test_models_that_the_checker_refuses(tmp_path):
    model = ir.from_onnx_text("""<ir_version: 9, opset_import: ["" : 18]>
        agraph (float[N] x) => (float[N] y) { y = Transpose <nonsense = 1> (x) }""")
    ir.save(model, tmp_path / "bad.onnx")
    with pytest.raises(ModelError, match="valid ONNX model"):
        prepare(tmp_path / "bad.onnx", tmp_path / "out")


def test_opsets_out_of_range(tmp_path):
    model = ir.from_onnx_text(
        """<ir_version: 7, opset_import: ["" : 10]> agraph (float[N] x) => (float[N] y) { y = Relu(x) }"""
    )
    ir.save(model, tmp_path / "old.onnx")
    with pytest.raises(ModelError, match="11 to 25, got 10"):
        prepare(tmp_path / "old.onnx", tmp_path / "out")


def test_no_room_on_disk(model, tmp_path, monkeypatch):
    import shutil

    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(BundleError, match="bytes free"):
        prepare(model, tmp_path / "out")


@pytest.mark.parametrize("number", range(4))
def test_a_disk_that_gets_full_midway_is_told(model, tmp_path, monkeypatch, number):
    """Whichever of the writers it hits: none of onnx-ir's is let through as it is."""
    honest, calls = ir.save, []

    def failing(*arguments, **options):
        calls.append(arguments)
        if len(calls) > number:
            raise OSError(errno.ENOSPC, "No space left on device")
        return honest(*arguments, **options)

    monkeypatch.setattr(ir, "save", failing)
    with pytest.raises(BundleError, match=r"room on the disk|No space left"):
        prepare(model, tmp_path / "out", step_frames=(4,))
    assert len(calls) == number + 1 and not (tmp_path / "out").exists()


@needs_operators
def test_a_profile_cut_short_is_a_full_disk(model, tmp_path, monkeypatch):
    honest = Path.read_text

    def cut(self, *arguments, **options):
        text = honest(self, *arguments, **options)
        return text[: len(text) // 2] if self.name.startswith("run") else text

    monkeypatch.setattr(Path, "read_text", cut)
    with pytest.raises(BundleError, match="room on the disk"):
        prepare(model, tmp_path / "out", step_frames=(4,))


def test_an_input_that_cannot_run_is_named_as_the_sample_that_it_is(tmp_path):
    model = ir.from_onnx_text("""<ir_version: 9, opset_import: ["" : 18]>
        agraph (float[1, 4, T] x, int64[1] shift, float[4, 4, 3] w) => (float[1, 4, L] y) {
            three = Constant <value = int64[1] {3}> () axes = Constant <value = int64[1] {2}> ()
            zero = Constant <value = int64[1] {0}> () apart = Sub(three, shift)
            sizes = Constant <value = int64[2] {1, 4}> () size = Concat <axis = 0> (sizes, apart)
            e = Expand(x, size) y = Conv(e, w) }""")
    path = save(model, {"w": noise(4, 4, 3)}, tmp_path / "model.onnx")
    good = [{"x": noise(1, 4, 1, seed=seed), "shift": np.zeros(1, np.int64)} for seed in range(6)]
    bad = {"x": noise(1, 4, 2), "shift": np.zeros(1, np.int64)}
    for place in (0, 3, 4):
        samples = [bad if index == place else each for index, each in enumerate(good)]
        with pytest.raises(InputError, match=rf"that the model runs on.* - at calibration sample {place}"):
            prepare(path, tmp_path / "out", calibration=samples, measure=False, skip=["conv1d"])
    samples = [*good[:2], bad, *good[3:]]
    with pytest.raises(InputError, match=r"that the model runs on.* - at held-out sample 0"):
        prepare(path, tmp_path / "out", calibration=samples, measure=False)


def test_something_else_in_the_way(model, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep me")
    with pytest.raises(BundleError, match="replace"):
        prepare(model, tmp_path / "out", measure=False)
    assert (tmp_path / "out" / "mine.txt").read_text() == "keep me"


def test_models_that_run_at_no_size(tmp_path):
    model = ir.from_onnx_text("""<ir_version: 9, opset_import: ["" : 18]>
        agraph (float[A] x, float[B] w) => (float[C] y) { y = Add(x, w) }""")
    path = save(model, {"w": noise(1000)}, tmp_path / "rigid.onnx")
    with pytest.raises(ModelError, match="calibration inputs that fit"):
        prepare(path, tmp_path / "out")
