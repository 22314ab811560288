"""Levers between two settings, and what is recommended of each."""

from __future__ import annotations

import pytest
from bench_rows import benchmark, row

from omni_sdk import InputError, Settings
from omni_sdk.tools.measure.ablation import contenders, effects, levers
from omni_sdk.tools.measure.contenders import Contender
from omni_sdk.tools.measure.results import Benchmark

STEADY = [0.010, 0.0101, 0.0099, 0.0100, 0.0102, 0.0098, 0.0100]


def scaled(factor: float) -> list[float]:
    return [each * factor for each in STEADY]


def ablated(full: Settings, bare: Settings, factor: float, **figures: float) -> Benchmark:
    """The one lever between two settings multiplies latency by a factor, wherever it is on."""
    (lever,) = levers(bare, full)
    return benchmark(
        row("full", scaled(factor), full, **figures),
        row("bare", STEADY, bare),
        row(f"full - {lever.name}", STEADY, lever.removed),
        row(f"bare + {lever.name}", scaled(factor), lever.added, **figures),
        ablation=("full", "bare"),
    )


SPIN = Settings(allow_spinning=True)


def test_every_difference_is_one_lever_and_levers_add_up() -> None:
    bare, full = Settings.preset("baseline"), Settings.preset("ultra")
    found = levers(bare, full)
    names = {lever.name for lever in found}
    assert {"execution_mode", "io_binding", "warmup_passes", "arena_bytes", "graph_optimization_level"} <= names
    assert "session.enable_quant_qdq_cleanup" in names
    built = bare
    for lever in found:
        (step,) = (each for each in levers(built, full) if each.name == lever.name)
        built = step.added
    assert built == full
    for lever in found:
        assert [each.name for each in levers(lever.removed, full)] == [lever.name]


def test_options_that_do_nothing_are_named() -> None:
    full = Settings(
        strict=False,
        session_entries={"session.qdq_matmulnbits_to_float": "0", "session.enable_quant_qdq_cleanup": "1"},
        providers=(("cpu", {"arena_size": "268435456"}),),
    )
    unreal = {lever.name: lever.unreal for lever in levers(Settings(strict=False), full)}
    assert "unknown" in unreal["session.qdq_matmulnbits_to_float"]
    assert "would ignore it" in unreal["CPUExecutionProvider.arena_size"]
    assert unreal["session.enable_quant_qdq_cleanup"] == ""


def test_a_finding_about_one_setting_is_not_held_against_another() -> None:
    found = {lever.name: lever for lever in levers(Settings.preset("baseline"), Settings.preset("ultra"))}
    assert found["execution_mode"].unreal == ""
    assert "ORT-format" in found["session.use_ort_model_bytes_directly"].unreal


def test_equal_settings_have_no_ablation() -> None:
    with pytest.raises(InputError, match="differ"):
        levers(Settings(), Settings())
    with pytest.raises(InputError, match="settings"):
        contenders(Contender("a", "session", "m"), Contender("b", "settings", "m", Settings()))


@pytest.mark.parametrize(
    ("factor", "figures", "recommendation"),
    [
        (0.8, {}, "KEEP"),
        (1.3, {}, "DROP"),
        (1.0, {}, "NO EFFECT"),
        (0.8, {"warmup": 0.2}, "KEEP"),
        (1.0, {"warmup": 0.2}, "DROP"),
        (1.0, {"warmup": 0.2, "load": 0.01}, "OPTIONAL"),
        (1.3, {"peak": 50 << 20}, "OPTIONAL"),
        (1.0, {"peak": 50 << 20}, "KEEP"),
    ],
)
def test_recommendations_follow_from_the_figures(factor: float, figures: dict[str, float], recommendation: str) -> None:
    (effect,) = effects(ablated(SPIN, Settings(), factor, **figures))
    assert effect.lever.name == "allow_spinning"
    assert effect.recommendation == recommendation, effect.reason


def test_a_lever_that_was_not_measured_is_unclear() -> None:
    found = ablated(SPIN, Settings(), 0.8)
    found.rows[2].failure = "crashed with SIGSEGV"
    (effect,) = effects(found)
    assert effect.recommendation == "UNCLEAR"
    assert "SIGSEGV" in effect.reason


def test_an_unreal_lever_is_called_so_whatever_was_measured() -> None:
    full = Settings(strict=False, session_entries={"session.arena_extend_strategy": "1"})
    (effect,) = effects(ablated(full, Settings(strict=False), 0.5))
    assert effect.recommendation == "NOT REAL"
