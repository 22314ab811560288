"""InferBatches in Ray Data: equal to `Model.infer`, row by row, whatever the rows and whoever dies."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import SimpleNamespace

import graphs
import numpy as np
import onnx
import pytest
import served

import omni_sdk as omni
from omni_sdk.errors import InputError

ray = served.ray_or_skip()

from omni_sdk.tools.scale import InferBatches, local  # noqa: E402

pytestmark = [pytest.mark.heavy, pytest.mark.filterwarnings("default")]

LENGTHS = [3, 9, 3, 20, 1, 9, 3, 14]


@pytest.fixture(scope="module")
def voice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return served.make_voice(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def cluster():
    with local.cluster(2):
        ray.data.DataContext.get_current().enable_progress_bars = False
        yield


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that takes several rows at once."""
    text = "g (float[batch, time] x, float[batch, time] z) => (float[batch, time] y, float[batch] s) {\
        y = Mul(x, z)\n a = Constant <value = int64[1] {1}> ()\n s = ReduceSum <keepdims = 0> (y, a) }"
    path = tmp_path_factory.mktemp("stack") / "m.onnx"
    onnx.save(onnx.parser.parse_model(f"{graphs.HEAD} {text}"), path)
    return path


def rows(count: int) -> list[dict[str, object]]:
    return [{"id": i, "audio_codes": served.codes(LENGTHS[i % len(LENGTHS)], i)[0]} for i in range(count)]


def infer(dataset, voice: Path, actors: int = 2, **options: object):
    return dataset.map_batches(
        InferBatches,
        fn_constructor_args=(str(voice),),
        compute=ray.data.ActorPoolStrategy(size=actors),
        num_cpus=0.75,
        batch_size=4,
        **options,
    )


def check(found: list[dict], given: list[dict], voice: Path) -> None:
    """Every row once, and its waveform bit for bit."""
    assert sorted(row["id"] for row in found) == [row["id"] for row in given]
    with omni.load(voice, omni.Settings(intra_op_num_threads=1)) as model:
        for row in found:
            want = model.infer(audio_codes=given[row["id"]]["audio_codes"][None])["waveform"][0]
            np.testing.assert_array_equal(row["waveform"], want)


def test_rows_of_mixed_length_on_two_actors(cluster, voice):
    given = rows(48)
    dataset = ray.data.from_items(given, override_num_blocks=6)
    found = infer(dataset, voice, batch_format="pyarrow").take_all()
    assert all(row["error"] is None and "audio_codes" not in row for row in found)
    check(found, given, voice)


def test_a_failing_row_sinks_none_beside_it(cluster, voice):
    given = rows(16)
    given[5]["audio_codes"][3, 2] = 9999
    given[11]["audio_codes"] = given[11]["audio_codes"][:7]
    found = infer(ray.data.from_items(given, override_num_blocks=2), voice).take_all()
    failed = {row["id"]: row for row in found if row["error"] is not None}
    assert failed.keys() == {5, 11}
    assert "9999" in failed[5]["error"]["reason"]
    assert "InputError" in failed[11]["error"]["reason"]
    assert {row["error"]["index"] for row in failed.values()} <= set(range(4))
    assert all(row["waveform"].size == 0 for row in failed.values())
    good = [row for row in found if row["id"] not in failed]
    assert len(good) == 14
    with omni.load(voice, omni.Settings(intra_op_num_threads=1)) as model:
        for row in good:
            want = model.infer(audio_codes=given[row["id"]]["audio_codes"][None])["waveform"][0]
            np.testing.assert_array_equal(row["waveform"], want)


def test_an_actor_that_is_killed_midway_loses_no_row(cluster, voice):
    given = [{"id": i, "audio_codes": served.codes(40 + i % 7, i)[0]} for i in range(96)]
    killed: list[int] = []

    def kill() -> None:
        time.sleep(0.3)
        killed.append(served.kill_one("MapWorker"))

    found, killer = [], threading.Thread(target=kill)
    for row in infer(ray.data.from_items(given, override_num_blocks=12), voice).iter_rows():
        if not found:
            killer.start()
        found.append(row)
        assert killed or len(found) < 90, "the work was over before the actor could be killed"
    killer.join()
    check(found, given, voice)


def test_threads_are_what_ray_gave(cluster, voice):
    @ray.remote(num_cpus=2)
    class Probe:
        def threads(self, settings):
            model = InferBatches(str(voice), settings)._model
            return model.settings.intra_threads

        def threads_of(self, model):
            return InferBatches(model)._model.settings.intra_threads

    for cpus, want in ((0.5, 1), (1, 1), (2, 2)):
        actor = Probe.options(num_cpus=cpus).remote()
        assert ray.get(actor.threads.remote(None)) == want
        assert ray.get(actor.threads.remote(omni.Settings(intra_op_num_threads=3))) == 3
        with omni.load(voice) as model:
            assert ray.get(actor.threads_of.remote(model)) == want
        ray.kill(actor)


def batch_of(lengths: list[int]) -> dict[str, np.ndarray]:
    columns = {name: np.empty(len(lengths), object) for name in "xz"}
    for index, length in enumerate(lengths):
        for seed, name in enumerate("xz"):
            columns[name][index] = np.random.default_rng((seed, index)).standard_normal(length).astype(np.float32)
    return {**columns, "id": np.arange(len(lengths))}


def test_rows_of_equal_length_run_at_once(decoder):
    infer_batches, batch = InferBatches(decoder), batch_of([4, 2, 4, 4, 2])
    made = infer_batches(batch)
    assert infer_batches._model.stats().runs == 2
    for index in range(5):
        np.testing.assert_array_equal(made["y"][index], batch["x"][index] * batch["z"][index])
    np.testing.assert_allclose(made["s"], [y.sum() for y in made["y"]], rtol=1e-5)
    assert made["id"].tolist() == [0, 1, 2, 3, 4]
    assert InferBatches(decoder, outputs=["s"], max_stack=1)(batch).keys() == {"s", "id", "error"}


def test_a_stack_with_a_failing_row_is_run_row_by_row(decoder):
    batch = batch_of([4, 4, 4])
    batch["z"][1] = np.ones(3, np.float32)
    made = InferBatches(decoder)(batch)
    assert made["error"][1]["index"] == 1
    assert np.isnan(made["s"][1])
    for index in (0, 2):
        np.testing.assert_array_equal(made["y"][index], batch["x"][index] * batch["z"][index])


@pytest.mark.parametrize("own", [False, True])
def test_batches_are_of_one_kind_whatever_their_rows(decoder, voice, own):
    """Rows with the model's first dimension or without, all failed, or some: Arrow sees one type."""
    numbers = {name: np.ones((2, 1, 4) if own else (2, 4), np.float32) for name in "xz"}
    codes = np.stack([served.codes(3)] * 2) if own else np.concatenate([served.codes(3)] * 2)
    for model, good, wrong in (
        (decoder, numbers, {**numbers, "z": np.ones((2, 3, 2, 4), np.float32)}),
        (voice, {"audio_codes": codes}, {"audio_codes": codes + 9999}),
    ):
        infer_batches = InferBatches(model)
        made, failed = infer_batches(good), infer_batches(wrong)
        assert made["error"].tolist() == [None, None]
        assert None not in failed["error"].tolist()
        for name in made.keys() - {"error"}:
            assert (made[name].dtype, made[name].shape) == (failed[name].dtype, failed[name].shape)
            ranks = {np.ndim(value) for values in (made[name], failed[name]) for value in values}
            assert ranks == {{"y": 1, "s": 0, "waveform": 2}[name]}


def test_rows_keep_the_models_first_dimension_where_they_are_asked_to(decoder):
    rows_of_two = {name: np.ones((2, 2, 4), np.float32) for name in "xz"}
    made = InferBatches(decoder, keep_first=True)(rows_of_two)
    assert [value.shape for value in made["y"]] == [(2, 4), (2, 4)]
    stacked = InferBatches(decoder, keep_first=True)(batch_of([3, 3]))
    assert [value.shape for value in stacked["y"]] == [(1, 3), (1, 3)]
    failed = InferBatches(decoder)(rows_of_two)
    assert all("keep_first=True" in error["reason"] for error in failed["error"])


@pytest.mark.parametrize("error", [MemoryError("no room"), ZeroDivisionError("ours")])
def test_whatever_a_row_meets_stands_in_its_column(decoder, error):
    infer_batches = InferBatches(decoder)
    model = infer_batches._model

    def infer(feeds):
        if len(feeds["x"]) > 1 or feeds["x"].shape[1] == 2:
            raise error
        return model.infer(feeds)

    infer_batches._model = SimpleNamespace(infer=infer, stats=model.stats)
    made = infer_batches(batch_of([4, 2, 4]))
    assert [one and one["index"] for one in made["error"]] == [None, 1, None]
    assert type(error).__name__ in made["error"][1]["reason"]
    assert np.isfinite(made["s"][[0, 2]]).all()


def test_wrong_use_is_told_at_once(decoder):
    with pytest.raises(InputError, match="at columns"):
        InferBatches(decoder, columns={"codes": "x"})
    with pytest.raises(InputError, match="at constants"):
        InferBatches(decoder, constants={"rate": 1})
    with pytest.raises(InputError, match="at outputs"):
        InferBatches(decoder, outputs=["w"])
    with pytest.raises(InputError, match="a column 'x'"):
        InferBatches(decoder)({"id": np.arange(2)})
    for name in ("y", "error"):
        with pytest.raises(InputError, match=f"got {name} - at the batch"):
            InferBatches(decoder)({**batch_of([2]), name: np.arange(1)})
    telling = decoder.with_name("error.onnx")
    text = f"{graphs.HEAD} g (float[n] x) => (float[n] error) {{ error = Neg(x) }}"
    onnx.save(onnx.parser.parse_model(text), telling)
    with pytest.raises(InputError, match=r"other names than 'error'.* - at outputs"):
        InferBatches(telling)
    with omni.load(decoder) as model:
        for what, given in (("settings", "ultra"), ("cache_dir", None)):
            with pytest.raises(InputError, match=f"{what} with a path"):
                InferBatches(model, **{what: given})
    for count in (0, -1):  # a range by -1 would have no row, and no error
        with pytest.raises(InputError, match=f"got {count} - at max_stack"):
            InferBatches(decoder, max_stack=count)


def test_columns_and_constants(decoder):
    batch = batch_of([3, 2])
    renamed = {"left": batch["x"], "id": batch["id"]}
    made = InferBatches(decoder, columns={"x": "left"}, constants={"z": np.ones((1, 1), np.float32)})(renamed)
    assert made["error"].tolist() == [None, None]
    for index in range(2):
        np.testing.assert_array_equal(np.reshape(made["y"][index], -1), batch["x"][index])
