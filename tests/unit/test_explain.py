"""explain() says of every setting what became of it, and reads well."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys

import graphs
import numpy as np
import pytest

from omni_sdk import cpu, explain
from omni_sdk.explain import Effect, Explanation, effects, overrides_of
from omni_sdk.settings import Settings
from omni_sdk.source import Source

CPU = ["CPUExecutionProvider"]


@pytest.fixture(autouse=True)
def device(monkeypatch):
    """Three cores, and a quota of four."""
    monkeypatch.setattr(cpu, "usable_cores", lambda: 3)
    monkeypatch.setattr(cpu, "quota", lambda: 4.0)


def changed(overrides=(), **fields):
    found = effects(Settings(**{"intra_op_num_threads": 1, **fields}), dict(overrides), CPU)
    return {effect.setting: (effect.effective, effect.reason) for effect in found if effect.changed}


def test_every_field_once_and_in_order():
    found = effects(Settings(), {}, CPU)
    assert [effect.setting for effect in found] == [field.name for field in dataclasses.fields(Settings)]
    assert all(effect.asked == getattr(Settings(), effect.setting) for effect in found)


def test_nothing_changes_by_itself():
    assert changed() == {}


@pytest.mark.parametrize(
    ("fields", "name", "effective", "why"),
    [
        ({"intra_op_num_threads": "auto"}, "intra_op_num_threads", 3, "a quota of 4 processors"),
        ({"inter_op_num_threads": 2}, "inter_op_num_threads", 1, "sequential"),
        (
            {"inter_op_num_threads": "auto", "execution_mode": "parallel"},
            "inter_op_num_threads",
            3,
            "a quota of 4 processors",
        ),
        ({"execution_mode": "parallel", "enable_mem_pattern": True}, "enable_mem_pattern", False, "parallel mode"),
        ({"memory_limit": "1 KiB"}, "memory_limit", 1024, "bytes"),
        (
            {"session_entries": {"session.intra_op.allow_spinning": "1", "session.inter_op.allow_spinning": "1"}},
            "allow_spinning",
            True,
            "session_entries",
        ),
        (
            {"session_entries": {"session.intra_op.allow_spinning": "1"}},
            "allow_spinning",
            {"session.intra_op.allow_spinning": "1", "session.inter_op.allow_spinning": "0"},
            "session.intra_op.allow_spinning=1",
        ),
        ({"session_entries": {"session.disable_prepacking": "1"}}, "prepacking", False, "disable_prepacking=1"),
        (
            {"prepacking": False, "session_entries": {"session.disable_prepacking": "0"}},
            "prepacking",
            True,
            "disable_prepacking=0",
        ),
        ({"providers": ("tensorrt", "cpu"), "allow_fallback": True}, "providers", tuple(CPU), "not installed"),
    ],
)
def test_who_changed_what_and_why(fields, name, effective, why):
    found = changed(**fields)
    assert list(found) == [name]
    assert found[name][0] == effective
    assert why in found[name][1]


def test_affinity_is_named_where_there_is_no_quota(monkeypatch):
    monkeypatch.setattr(cpu, "quota", lambda: None)
    assert "affinity" in changed(intra_op_num_threads="auto")["intra_op_num_threads"][1]


def test_the_models_own_changes_have_the_last_word():
    found = changed({"memory_limit": (5, "because")}, memory_limit=7)
    assert found == {"memory_limit": (5, "because")}


def test_it_reads_well():
    text = str(
        Explanation(
            "<Model m>",
            (Effect("short", 1, 1), Effect("a_longer_name", "auto", 3, "affinity")),
            {"CPU": ["a (Conv)", "b (Conv)"]},
            10,
            20,
            ({"x": (1, 2), "y": ()},),
            "built",
        )
    )
    assert text.splitlines() == [
        "<Model m>",
        "  short          1",
        "  a_longer_name  3 (asked: 'auto'; affinity)",
        "  nodes on CPU: 2 (2 Conv)",
        "  compile cache: built",
        "  copied so far: 10 bytes in, 20 bytes out",
        "  never warmed: x [1, 2], y []",
    ]


def test_a_model_explains_itself():
    with graphs.load(graphs.DOUBLE, cache_bytes=0, io_binding=True) as model:
        model.warmup({"x": (4,)})
        assert model.explain().not_warmed == ()
        model.infer(x=np.ones(8, np.float32)[::2])
        model.infer(x=np.ones(5, np.float32))
        found = model.explain()
        assert found.not_warmed == ({"x": (5,)},)
        assert found.bytes_copied_in == 16
        assert found["io_binding"].effective is True
        assert found["intra_op_num_threads"] == Effect(
            "intra_op_num_threads", "auto", 3, "physical cores that a quota of 4 processors leaves"
        )
        assert found.compile_cache.startswith("off")
        with pytest.raises(KeyError):
            found["no_such_setting"]


@pytest.mark.parametrize("asked", [True, False])
@pytest.mark.parametrize("flushes", [True, False])
def test_what_became_of_denormals_is_measured(monkeypatch, asked, flushes):
    monkeypatch.setattr(explain, "flushes_denormals", lambda: flushes)
    found = changed(set_denormal_as_zero=asked)
    assert found.keys() == ({"set_denormal_as_zero"} if asked != flushes else set())
    assert all(effective == flushes and "first session" in reason for effective, reason in found.values())


DENORMALS = """
import sys, graphs, numpy as np
from omni_sdk.explain import flushes_denormals
first = sys.argv[1] == "on"
models = [graphs.load(graphs.DOUBLE, set_denormal_as_zero=on, intra_op_num_threads=1) for on in (first, not first)]
assert flushes_denormals() == first
for model in models:
    tiny = np.full(4, 1e-40, np.float32)
    assert (model.infer(x=tiny)["y"] == 0).all() == first
    assert model.explain()["set_denormal_as_zero"].effective == first
"""


@pytest.mark.parametrize("first", ["on", "off"])
def test_the_first_session_of_a_process_decides_on_denormals(first):
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run(
        [sys.executable, "-c", DENORMALS, first], capture_output=True, text=True, timeout=60, check=False, env=env
    )
    assert (run.returncode, run.stderr) == (0, "")


def test_an_arena_is_what_it_was_made_as(monkeypatch):
    source = Source(graphs.serialized(graphs.DOUBLE))
    fields = {"arena_bytes": 5, "arena_extend_strategy": "same_as_requested"}

    def found(**fields):
        return overrides_of(Settings(**fields), source, bindable=True, caches=True)

    monkeypatch.setattr(explain.Threads, "sized", None)
    monkeypatch.setattr(explain.Arena, "registered", (5, "power_of_two"))
    assert list(found(**fields)) == ["arena_extend_strategy"]
    assert list(found(**fields, enable_cpu_mem_arena=False)) == ["arena_extend_strategy", "enable_cpu_mem_arena"]
    assert found(shared_threads=True)["arena_bytes"][0] == 5
    assert found(arena_bytes=7)["arena_bytes"] == (5, "the process already had an arena")
    assert found() == {}
    assert found(arena_extend_strategy="same_as_requested")["arena_extend_strategy"][0] == "power_of_two"
    assert found(arena_bytes=5, session_entries={"session.use_env_allocators": "0"})["arena_bytes"][0] is None


def test_a_pool_that_the_process_shares(monkeypatch):
    source = Source(graphs.serialized(graphs.DOUBLE))
    monkeypatch.setattr(explain.Threads, "sized", (2, 1))

    def found(**fields):
        return overrides_of(Settings(shared_threads=True, **fields), source, bindable=True, caches=True)

    assert found(intra_op_num_threads=7)["intra_op_num_threads"][0] == 2
    assert "intra_op_num_threads" not in found(intra_op_num_threads=2)
    assert found()["allow_spinning"][0] == "during runs"
    assert "allow_spinning" not in found(allow_spinning=True)


OPENVINO = "OpenVINOExecutionProvider"


@pytest.mark.parametrize(
    ("active", "placement", "effective", "why"),
    [
        ([OPENVINO, *CPU], {OPENVINO: ["a (Conv)"]}, OPENVINO, "this package's defaults"),
        ([OPENVINO, *CPU], {CPU[0]: ["a (Snake)"]}, CPU[0], f"{OPENVINO} takes no node"),
        (CPU, {}, CPU[0], f"{OPENVINO} refused the model"),
    ],
)
def test_what_became_of_a_provider(monkeypatch, active, placement, effective, why):
    options = {"device_type": "CPU"}
    monkeypatch.setattr(Settings, "provider_list", lambda *_: [(OPENVINO, options)])
    found = effects(Settings(providers=("openvino",), allow_fallback=True), {}, active, placement)
    (row,) = [effect for effect in found if effect.setting == "providers"]
    assert row.effective == (((OPENVINO, options),) if effective == OPENVINO else (effective,))
    assert why in row.reason


def test_nodes_are_counted_by_operator():
    placement = {OPENVINO: ["a (Conv)", "b (Add)", "c (Conv)"], CPU[0]: ["d (Snake)"]}
    text = str(Explanation("m", effects(Settings(), {}, CPU), placement, 0, 0, (), "off"))
    assert f"nodes on {OPENVINO}: 3 (2 Conv, 1 Add)" in text
    assert f"nodes on {CPU[0]}: 1 (1 Snake)" in text
