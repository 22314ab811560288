"""explain() says of every setting what became of it, and reads well."""

from __future__ import annotations

import dataclasses

import graphs
import numpy as np
import pytest

from omni_sdk import cpu
from omni_sdk.explain import Effect, Explanation, effects
from omni_sdk.settings import Settings

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
