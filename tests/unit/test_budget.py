"""Budgets: refused with the sum before anything is taken, admitted where it fits, learned from what runs took."""

from __future__ import annotations

import pickle
import threading

import graphs
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import omni_sdk as omni
from omni_sdk import budget, memory
from omni_sdk.budget import RunBudget
from omni_sdk.errors import MemoryBudgetError
from omni_sdk.settings import Settings

MIB = 1 << 20


class Process:
    """Private memory that moves when told."""

    def __init__(self) -> None:
        self.bytes = 100 * MIB

    def __call__(self) -> int:
        return self.bytes


def run(budget, process, rows, takes=0):
    with budget.admitted(((rows,),)):
        process.bytes += takes


def test_a_sum_beyond_the_limit_is_told_part_by_part():
    parts = budget.load_parts(800 * MIB, mapped=False, prepacking=True, cache_bytes=10 * MIB)
    budget.require(parts, sum(parts.values()), "load of m.onnx")
    budget.require(parts, None, "load of m.onnx")
    with pytest.raises(MemoryBudgetError) as raised:
        budget.require(parts, sum(parts.values()) - 1, "load of m.onnx")
    for word in ("weights copied 800.0 MiB", "prepacked weights 600.0 MiB", "result cache 10.0 MiB", "load of m.onnx"):
        assert word in str(raised.value)
    assert isinstance(raised.value, MemoryError)
    assert raised.value.parts == parts
    assert pickle.loads(pickle.dumps(raised.value)).parts == parts


def test_mapped_weights_take_less_than_copied_ones():
    kinds = [budget.load_parts(MIB, mapped=mapped, prepacking=True, cache_bytes=0) for mapped in (True, False)]
    assert sum(kinds[0].values()) < sum(kinds[1].values())
    assert budget.load_parts(MIB, mapped=True, prepacking=False, cache_bytes=0)["prepacked weights"] == 0


def test_runs_are_learned_and_larger_ones_scaled():
    process = Process()
    budget = RunBudget(1000 * MIB, lambda: {"session": 100 * MIB}, "m", process)
    assert budget.expected(((10,),)) == 0
    run(budget, process, 10, takes=50 * MIB)
    assert budget.arena == 50 * MIB
    assert budget.expected(((10,),)) == 50 * MIB
    assert budget.expected(((40,),)) == 200 * MIB
    run(budget, process, 40, takes=130 * MIB)
    assert budget.arena == 180 * MIB
    assert budget.expected(((40,),)) == 180 * MIB
    with pytest.raises(MemoryBudgetError, match=r"session 100\.0 MiB \+ arena 180\.0 MiB \+ this run 945\.0 MiB"):
        run(budget, process, 250)
    assert budget.arena == 180 * MIB
    run(budget, process, 40)
    run(budget, process, 10)


def test_a_run_that_finds_its_room_in_the_arena_needs_no_more_than_is_there():
    process = Process()
    budget = RunBudget(None, dict, "m", process)
    run(budget, process, 100, takes=80 * MIB)
    run(budget, process, 50)
    assert budget.expected(((50,),)) == 40 * MIB
    assert budget.arena == 80 * MIB


def test_a_small_run_in_a_large_arena_says_nothing_of_larger_ones():
    process = Process()
    budget = RunBudget(100 * MIB, dict, "host", process)
    run(budget, process, 1000, takes=40 * MIB)
    with budget.admitted(((10,),), model="other"):
        process.bytes += MIB // 2
    assert budget.expected(((10,),), "other") == 40 * MIB + MIB // 2  # a bound, for this size
    assert budget.expected(((100,),), "other") == 0
    with budget.admitted(((100,),), model="other"):
        pass


def test_runs_side_by_side_add_up():
    process = Process()
    budget = RunBudget(120 * MIB, dict, "m", process)
    run(budget, process, 10, takes=50 * MIB)
    with budget.admitted(((10,),)), budget.admitted(((10,),)):
        assert budget.arena == 100 * MIB
        with pytest.raises(MemoryBudgetError), budget.admitted(((10,),)):
            raise AssertionError("not to be reached")
    with budget.admitted(((10,),)):
        pass


def test_an_arena_given_back_counts_no_more():
    process = Process()
    budget = RunBudget(None, dict, "m", process)
    with budget.admitted(((10,),), keep=False):
        process.bytes += 50 * MIB
    assert budget.arena == 0
    assert budget.expected(((10,),)) == 50 * MIB


def test_a_failed_run_leaves_the_sum_as_it_was():
    budget = RunBudget(100, dict, "m", lambda: 0)
    with pytest.raises(ZeroDivisionError), budget.admitted(((1,),)):
        raise ZeroDivisionError
    assert budget.running == 0


def test_a_failed_run_teaches_nothing_but_what_the_arena_grew_by():
    process = Process()
    budget = RunBudget(40 * MIB, dict, "m", process)
    with pytest.raises(TimeoutError), budget.admitted(((10,),)):
        process.bytes += 5 * MIB
        raise TimeoutError
    assert (budget.expected(((10,),)), budget.arena) == (0, 5 * MIB)
    run(budget, process, 10, takes=30 * MIB)
    assert (budget.expected(((10,),)), budget.arena) == (35 * MIB, 35 * MIB)
    with pytest.raises(MemoryBudgetError):
        run(budget, process, 20)


def test_what_grew_beside_others_is_no_ones_need():
    process = Process()
    budget = RunBudget(None, dict, "m", process)
    with budget.admitted(((10,),)):
        run(budget, process, 20, takes=30 * MIB)
    assert (budget.expected(((10,),)), budget.arena) == (0, 30 * MIB)
    budget.loading(+1)
    run(budget, process, 10, takes=500 * MIB)
    budget.loading(-1)
    assert (budget.expected(((10,),)), budget.arena) == (0, 30 * MIB)


def test_what_was_known_by_the_arenas_size_alone_goes_with_it():
    process = Process()
    budget = RunBudget(None, dict, "m", process)
    with budget.admitted(((10,),)):
        run(budget, process, 20, takes=30 * MIB)
    run(budget, process, 10)
    assert budget.expected(((10,),)) == 30 * MIB
    assert budget.expected(((1000,),)) == 0, "nothing to scale from"
    budget.given_back("")
    assert (budget.expected(((10,),)), budget.arena) == (0, 0)


@pytest.mark.parametrize(("apart", "arena"), [(True, 80 * MIB), (False, 50 * MIB)])
def test_models_share_an_arena_or_have_their_own(apart, arena):
    process = Process()
    budget = RunBudget(None, dict, "host", process, apart=apart)
    for name, takes in (("a", 50 * MIB), ("b", 30 * MIB if apart else 0)):
        with budget.admitted(((1,),), model=name):
            process.bytes += takes
    assert (budget.arena, budget.peak) == (arena, arena)
    budget.given_back("a")
    assert budget.arena == (30 * MIB if apart else 0)


@pytest.mark.parametrize(("own", "host"), [(40 * MIB, 1000 * MIB), (None, 40 * MIB)])
def test_a_run_must_fit_its_models_limit_and_the_hosts(own, host):
    process = Process()
    outer = RunBudget(host, dict, "host", process)
    inner = RunBudget(own, dict, "m", process, within=outer)
    with inner.admitted(((1,),), model="m"):
        process.bytes += 30 * MIB
    assert inner.arena == outer.arena == 30 * MIB
    with pytest.raises(MemoryBudgetError), inner.admitted(((2,),), model="m"):
        raise AssertionError("not to be reached")
    assert outer.running == inner.running == 0
    outer.shrink_next = True
    assert inner.shrink_next
    inner.shrink_next = False
    assert not outer.shrink_next


def grower(rows=None):
    """y = (x outer 1s of 64 Ki) summed: an intermediate of 256 KiB a row."""
    wide = numpy_helper.from_array(np.ones((1, 1 << 16), np.float32), "wide")
    axes = numpy_helper.from_array(np.array([1], np.int64), "axes")
    nodes = [helper.make_node("MatMul", ["x", "wide"], ["h"]), helper.make_node("ReduceSum", ["h", "axes"], ["y"])]
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [rows or "rows", 1]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", value[:1], value[1:], [wide, axes])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()


def ask(model, rows):
    return model.infer(x=np.ones((rows, 1), np.float32))["y"]


def test_a_model_refuses_what_cannot_fit_and_goes_on():
    # 64 MiB come fresh from the system: less may be heap that earlier tests left, which is no growth.
    with omni.load(grower(), Settings(memory_limit="512 MiB"), cache_dir=None) as model:
        np.testing.assert_array_equal(ask(model, 256), np.full((256, 1), 65536, np.float32))
        assert model.memory().parts["arena"] > 16 * MIB
        before = memory.process().resident
        with pytest.raises(MemoryBudgetError, match=r"this run .* at \(4096, 1\)"):
            ask(model, 4096)
        assert memory.process().resident - before < 4 * MIB
        ask(model, 256)


def test_inputs_that_would_have_to_be_copied_are_refused_before_the_first_copy():
    wide = np.broadcast_to(np.float32(1), (1 << 25,))  # 128 MiB, if it lay in one piece
    with graphs.load(graphs.DOUBLE, memory_limit="64 MiB") as model:
        for _ in range(2):  # the first run of all as well
            with pytest.raises(MemoryBudgetError, match=r"new buffers 12\d\.\d MiB"):
                model.infer(x=wide)
            assert model.stats().bytes_peak < 1024
            assert model.infer(x=wide[:4])["y"].tolist() == [2.0] * 4


def test_copies_into_memory_that_idles_need_no_more_room():
    strided = np.ones((1 << 20, 2), np.float32)[:, 0]  # 4 MiB copied, 4 MiB given back
    with graphs.load(graphs.DOUBLE, memory_limit="24 MiB") as model:
        for _ in range(5):
            assert model.infer(x=strided)["y"][0] == 2
        assert model.stats().bytes_copied_in == 5 * strided.nbytes


def test_a_first_run_that_was_too_large_refuses_no_small_one():
    with omni.load(grower(), Settings(memory_limit="100 MiB"), cache_dir=None) as model:
        ask(model, 1024)
        assert model.memory().parts["arena"] > 150 * MIB
        for _ in range(3):
            ask(model, 16)
        assert model.memory().total < 100 * MIB
        with pytest.raises(MemoryBudgetError):
            ask(model, 1024)
        arena = model.memory().parts["arena"]
        ask(model, 16)
        assert model.memory().parts["arena"] == arena, "a run refused takes nothing from those that fit"


def test_buffers_that_idle_are_let_go_before_a_run_is_refused():
    with graphs.load(graphs.DOUBLE, memory_limit="24 MiB", intra_op_num_threads=1) as model:
        kept = [model.infer(x=np.ones(1 << 19, np.float32))["y"] for _ in range(6)]
        assert model.stats().bytes_in_use > 8 * MIB
        kept.clear()
        assert model.stats().bytes_idle > 8 * MIB
        model.infer(x=np.ones(1 << 21, np.float32))


def test_what_the_result_cache_would_copy_is_counted_before_it_does():
    large = np.ones(1 << 24, np.float32)  # 64 MiB, bound in place but for the cache's copy
    with graphs.load(graphs.DOUBLE, memory_limit="48 MiB", cache_bytes=MIB) as model:
        before = memory.process().peak
        with pytest.raises(MemoryBudgetError, match=r"new buffers 64\.0 MiB"):
            model.infer(x=large)
        assert memory.process().peak - before < 16 * MIB


def test_a_cached_result_is_counted_once():
    with graphs.load(graphs.DOUBLE, cache_bytes=64 * MIB) as model:
        for value in range(4):
            model.infer(x=np.full(1 << 20, value, np.float32))
        parts = model.memory().parts
        assert 16 * MIB <= parts["cache"] < 17 * MIB, "the inputs"
        assert 16 * MIB <= parts["results"] < 25 * MIB


def test_results_count_before_they_are_made_and_are_taken_for_no_part_of_the_arena():
    with omni.load(grower(), Settings(memory_limit="1 GiB"), cache_dir=None) as model:
        results = [ask(model, 256) for _ in range(2)]
        parts = model.memory().parts
        assert parts["results"] >= results[0].nbytes
    process = Process()
    budget = RunBudget(100 * MIB, lambda: {"session": 10 * MIB}, "m", process)
    with budget.admitted(((1,),)) as run:
        process.bytes += 50 * MIB
        run.results = 20 * MIB
    assert budget.arena == 50 * MIB
    assert budget.expected(((1,),)) == 30 * MIB
    with budget.admitted(((1,),), buffers=40 * MIB):
        pass
    with pytest.raises(MemoryBudgetError, match=r"new buffers 41\.0 MiB"), budget.admitted(((1,),), buffers=41 * MIB):
        pass


def test_copies_under_way_are_reserved():
    process = Process()
    budget = RunBudget(100 * MIB, lambda: {"session": 40 * MIB}, "m", process)
    more = budget.copying(((1,),), 20 * MIB)
    with budget.copying(((1,),), 50 * MIB), pytest.raises(MemoryBudgetError, match=r"new buffers 70\.0 MiB"), more:
        pass
    with budget.copying(((1,),), 60 * MIB):
        pass


def test_a_load_that_cannot_fit_is_refused_before_it_begins(tmp_path, monkeypatch):
    path = tmp_path / "m.onnx"
    path.write_bytes(grower())

    def never(*_, **__):
        raise AssertionError("ONNX Runtime was asked")

    monkeypatch.setattr(omni.model.sessions, "open_session", never)
    for cache_dir in (None, tmp_path / "cache"):
        with pytest.raises(MemoryBudgetError, match=r"weights copied .* at load of"):
            omni.load(path, Settings(memory_limit="1 MiB"), cache_dir=cache_dir)


def test_a_large_request_gives_the_arena_back():
    with omni.load(grower(), Settings(shrink_arena=True), cache_dir=None) as model:
        model.warmup({"x": (16, 1)})
        ask(model, 16)
        small = memory.private()
        ask(model, 1024)
        assert memory.private() - small < 64 * MIB, "256 MiB were needed meanwhile"
        assert model.memory().parts["arena"] < 64 * MIB
    with omni.load(grower(), cache_dir=None) as model:
        ask(model, 1024)
        assert memory.private() - small > 128 * MIB, "and stay where nobody asks for them back"


def test_memory_is_told_by_part():
    with omni.load(grower(), Settings(memory_limit="1 GiB", cache_bytes=MIB), cache_dir=None) as model:
        held = ask(model, 256)
        used = model.memory()
        assert set(used.parts) == {"weights_mapped", "session", "arena", "results", "cache"}
        assert used.total == sum(used.parts.values())
        assert used.parts["results"] >= held.nbytes
        assert used.parts["cache"] > 0
        assert "of 1.0 GiB" in str(used)


def test_threads_never_exceed_the_limit_together():
    settings = Settings(memory_limit="100 MiB")
    with omni.load(grower(), settings, cache_dir=None) as model:
        ask(model, 64)
        refused, errors = [], []

        def work():
            for _ in range(20):
                try:
                    ask(model, 64)
                except MemoryBudgetError:
                    refused.append(1)
                except Exception as error:
                    errors.append(error)

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors
        assert model.memory().total <= 100 * MIB
