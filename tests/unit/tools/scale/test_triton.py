"""Triton model repositories: what is in them, and that Triton's own schema takes the configuration."""

from __future__ import annotations

from pathlib import Path

import graphs
import numpy as np
import onnx
import pytest
from click.testing import CliRunner

import omni_sdk as omni
from omni_sdk.bundle import Bundle, create
from omni_sdk.cli import main
from omni_sdk.errors import BundleError, InputError, ModelError
from omni_sdk.specs import TensorSpec
from omni_sdk.tools.export import code2wav, reference_checkpoint
from omni_sdk.tools.scale import export_triton, triton
from omni_sdk.tools.scale.pbtxt import Word, render
from omni_sdk.tools.scale.triton import configuration

WARMUP = {"audio_codes": (1, 16, 25)}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("triton")
    checkpoint = reference_checkpoint(folder / "checkpoint", seed=7)
    for name, streaming in {"voice": True, "decoder": False}.items():
        code2wav(checkpoint, folder / name, streaming=streaming)
    return {name: folder / name for name in ("voice", "decoder")}


def parsed(text: str):
    """By the schema that Triton's client brings; it refuses unknown fields, types and words."""
    schema = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason="tritonclient is not installed")
    text_format = pytest.importorskip("google.protobuf.text_format")
    return text_format.Parse(text, schema.ModelConfig())


def test_a_batched_model(bundles, tmp_path):
    place = export_triton(bundles["decoder"], tmp_path, warmup={"audio_codes": (4, 16, 25)}, threads=2, instances=3)
    text = (place / "config.pbtxt").read_text()
    assert "sequence_batching" not in text
    config = parsed(text)
    assert (config.name, config.backend, config.max_batch_size) == ("decoder", "onnxruntime", 8)
    (codes,), (waveform,) = config.input, config.output
    assert (codes.name, codes.data_type, list(codes.dims)) == ("audio_codes", 9, [16, -1])
    assert (waveform.name, waveform.data_type, list(waveform.dims)) == ("waveform", 11, [1, -1])
    assert config.response_cache.enable
    assert not config.HasField("sequence_batching")
    assert config.instance_group[0].count == 3
    assert config.parameters["intra_op_thread_count"].string_value == "2"
    (warmup,) = config.model_warmup
    assert (warmup.batch_size, list(warmup.inputs["audio_codes"].dims)) == (4, [16, 25])
    assert warmup.inputs["audio_codes"].zero_data


def test_a_streaming_model(bundles, tmp_path):
    place = export_triton(bundles["voice"], tmp_path, name="speech", sequences=5)
    text = (place / "config.pbtxt").read_text()
    assert "response_cache" not in text
    config = parsed(text)
    state = Bundle.open(bundles["voice"]).manifest.state
    assert (config.name, config.max_batch_size) == ("speech", 0)
    assert [one.name for one in config.input] == ["audio_codes"]
    assert list(config.input[0].dims) == [1, 16, -1]
    assert config.sequence_batching.oldest.max_candidate_sequences == 5
    assert {one.input_name: one.output_name for one in config.sequence_batching.state} == state
    for one in config.sequence_batching.state:
        assert one.data_type == (9 if one.input_name == "past.position" else 11)
        assert list(one.dims) == list(one.initial_state[0].dims)
        assert one.initial_state[0].zero_data
    assert not config.model_warmup


def test_a_streaming_model_has_no_warm_up(bundles, tmp_path):
    """Triton runs its samples without a sequence: a state has no place then, and the model would not be loaded."""
    with pytest.raises(
        InputError, match=r"no warm-up shapes for a model with state.* - at warmup(.|\n)*a short sequence"
    ):
        export_triton(bundles["voice"], tmp_path, warmup=WARMUP)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["voice", "decoder"])
def test_the_graph_runs_where_it_was_put(bundles, tmp_path, name):
    place = export_triton(bundles[name], tmp_path)
    assert sorted(path.name for path in place.iterdir()) == ["1", "config.pbtxt"]
    codes = np.random.default_rng(0).integers(0, 2048, (1, 16, 6))
    with omni.load(bundles[name], cache_dir=None) as ours, omni.load(place / "1" / "model.onnx") as theirs:
        states = {s.name: np.zeros(s.shape, s.dtype) for s in theirs.inputs if s.name != "audio_codes"}
        got = theirs.infer({"audio_codes": codes, **states})["waveform"]
        np.testing.assert_array_equal(got, ours.infer(audio_codes=codes)["waveform"])


def test_custom_operators_come_along(tmp_path):
    model = onnx.parser.parse_model(f"{graphs.HEAD} {graphs.DOUBLE}")
    with create(tmp_path / "fused") as draft:
        onnx.save(model, draft.folder / "model.onnx")
        draft.operators = 1
    place = export_triton(tmp_path / "fused", tmp_path / "models", repository="/srv/models")
    library = place / "1" / "omni_operators.so"
    assert library.stat().st_size > 0
    config = parsed((place / "config.pbtxt").read_text())
    assert list(config.model_operations.op_library_filename) == ["/srv/models/fused/1/omni_operators.so"]


def test_every_file_keeps_its_name_and_place(tmp_path):
    """The graph is none named model.onnx, another file is, and the weights lie relative to a graph in a subfolder."""
    text = f"{graphs.HEAD} g (float[2] x) => (float[2] y) <float[2] w = {{3, 4}}> {{ y = Mul(x, w) }}"
    model, other = onnx.parser.parse_model(text), onnx.parser.parse_model(f"{graphs.HEAD} {graphs.DOUBLE}")
    with create(tmp_path / "moved") as draft:
        (draft.folder / "fp32" / "data").mkdir(parents=True)
        options = {"save_as_external_data": True, "size_threshold": 0, "location": "data/weights.bin"}
        onnx.save(model, draft.folder / "fp32" / "graph.onnx", **options)
        onnx.save(other, draft.folder / "fp32" / "model.onnx")
        onnx.save(other, draft.folder / "model.onnx")
        draft.graph = "fp32/graph.onnx"
    place = export_triton(tmp_path / "moved", tmp_path / "models")
    assert 'default_model_filename: "graph.onnx"' in (place / "config.pbtxt").read_text()
    with omni.load(place / "1" / "graph.onnx", cache_dir=None) as theirs:
        np.testing.assert_array_equal(theirs.infer(x=np.ones(2, np.float32))["y"], [3, 4])


def bundle_of(text: str, folder: Path, name: str) -> Path:
    with create(folder / name) as draft:
        onnx.save(onnx.parser.parse_model(f"{graphs.HEAD} {text}"), draft.folder / "model.onnx")
    return folder / name


@pytest.mark.parametrize(("text", "cached"), [(graphs.RANDOM, False), (graphs.DOUBLE, True)])
def test_answers_that_are_drawn_at_random_are_not_cached(tmp_path, text, cached):
    bundle = bundle_of(text, tmp_path, "m")
    run = CliRunner().invoke(main, ["export", "triton", str(bundle), str(tmp_path / "models")])
    assert run.exit_code == 0, run.output
    assert ("not cached" in run.output) != cached
    assert ("response_cache" in (tmp_path / "models" / "m" / "config.pbtxt").read_text()) == cached


@pytest.mark.parametrize("name", ["..", "a/b", "/tmp/x"])
def test_a_name_stays_in_the_repository(bundles, tmp_path, name):
    with pytest.raises(InputError, match="at name"):
        export_triton(bundles["decoder"], tmp_path / "models", name=name)


def test_a_bundle_that_is_replaced_meanwhile_is_not_mixed(tmp_path, monkeypatch):
    bundle = bundle_of(graphs.DOUBLE, tmp_path, "m")
    copy = triton.shutil.copyfile

    def replaced(source, target):
        bundle_of(graphs.RANDOM, tmp_path, "m")
        return copy(source, target)

    monkeypatch.setattr(triton.shutil, "copyfile", replaced)
    with pytest.raises(BundleError, match="stands still"):
        export_triton(bundle, tmp_path / "models")
    assert not any((tmp_path / "models").iterdir())


def test_nothing_is_replaced_and_nothing_is_left(bundles, tmp_path):
    place = export_triton(bundles["decoder"], tmp_path)
    before = (place / "config.pbtxt").stat().st_mtime_ns
    with pytest.raises(BundleError, match="got one that exists"):
        export_triton(bundles["decoder"], tmp_path)
    assert (place / "config.pbtxt").stat().st_mtime_ns == before
    (tmp_path / "file").write_text("")
    with pytest.raises(BundleError):
        export_triton(bundles["decoder"], tmp_path / "file")
    with pytest.raises(BundleError):
        export_triton(tmp_path / "file", tmp_path / "models")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["decoder", "file"]


@pytest.mark.parametrize(
    "warmup",
    [
        {"audio_codes": (1, 16)},
        {"audio_codes": (1, 15, 2)},
        {"audio_codes": (1, 16, 0)},
        {"audio_codes": (9, 16, 2)},
        {"other": (1,)},
        {},
    ],
)
def test_wrong_warmup_shapes(bundles, tmp_path, warmup):
    with pytest.raises(InputError, match="at warmup"):
        export_triton(bundles["decoder"], tmp_path, warmup=warmup)
    assert not any(tmp_path.iterdir())


def test_scalars_strings_and_types_triton_has_not():
    specs = [TensorSpec.of("rate", "tensor(int64)", []), TensorSpec.of("text", "tensor(string)", [None])]
    config = parsed(render(configuration("m", specs, specs[1:], state={})))
    assert list(config.input[0].dims) == [1]
    assert not config.input[0].HasField("reshape")
    assert config.input[1].data_type == 13
    counted = [TensorSpec.of("x", "tensor(float)", ["n", 2]), TensorSpec.of("length", "tensor(int64)", ["n"])]
    config = parsed(render(configuration("m", counted, counted[1:], state={}, warmup={"x": (2, 2), "length": (2,)})))
    assert (list(config.input[1].dims), list(config.input[1].reshape.shape)) == ([1], [])
    assert config.input[1].HasField("reshape")
    assert list(config.model_warmup[0].inputs["length"].dims) == [1]
    with pytest.raises(ModelError, match="seq"):
        configuration("m", [TensorSpec.of("s", "seq(tensor(float))", None)], [], state={})


def test_a_model_without_batches_is_warmed_up():
    """A sample with a batch of 0 is one that Triton skips."""
    specs = [TensorSpec.of("x", "tensor(float)", [1, "n"]), TensorSpec.of("rate", "tensor(int64)", [])]
    sample = configuration("m", specs, specs[:1], state={}, warmup={"x": (1, 5)})["model_warmup"]
    assert sample["batch_size"] == 1
    assert [(entry["key"], entry["value"]["dims"]) for entry in sample["inputs"]] == [("x", [1, 5]), ("rate", [1])]


def test_states_whose_names_are_sorted_otherwise_are_refused():
    """Triton pairs them by their places among the names, so that these two would be exchanged."""
    names = ("a", "b", "y", "z")
    a, b, y, z = (TensorSpec.of(name, "tensor(float)", [1]) for name in names)
    assert "sequence_batching" in configuration("m", [a, b], [y, z], state={"b": "z", "a": "y"})
    with pytest.raises(ModelError, match=r"sorted alike by name, got \{'a': 'z', 'b': 'y'\} - at the bundle's state"):
        configuration("m", [a, b], [y, z], state={"a": "z", "b": "y"})


@pytest.mark.parametrize("what", ["threads", "instances", "sequences"])
def test_numbers_are_one_or_more(what):
    with pytest.raises(InputError, match=f"^Expected 1 or more, got 0 - at {what}"):
        configuration("m", [], [], state={}, **{what: 0})


def test_text_form():
    text = render({"a": 'quo"te\n', "b": [1, 2], "c": {"d": Word("KIND"), "e": True}, "f": []})
    assert text == 'a: "quo\\"te\\n"\nb: 1\nb: 2\nc {\n  d: KIND\n  e: true\n}\n'


def test_the_command(bundles, tmp_path):
    arguments = ["export", "triton", str(bundles["voice"]), str(tmp_path), "--sequences", "3"]
    run = CliRunner().invoke(main, arguments)
    assert run.exit_code == 0, run.output
    assert "sequences" in run.output
    assert (tmp_path / "voice" / "config.pbtxt").exists()
    again = CliRunner().invoke(main, arguments)
    assert again.exit_code == 1
    assert "Expected a new folder" in again.output
