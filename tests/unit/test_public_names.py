"""The public face: its names, their parameters, and nothing beside them."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

import omni_sdk as omni

ROOT = Path(__file__).parents[2]

PARAMETERS = {
    "load": "source settings cache_dir",
    "Model.infer": "feeds out cache timeout",
    "Model.infer_async": "feeds out cache timeout",
    "Model.warmup": "shapes passes",
    "Model.input_buffers": "shapes",
    "Model.stream": "state window",
    "Model.stats": "",
    "Model.memory": "",
    "Model.explain": "",
    "Model.close": "",
    "Model.__enter__": "",
    "Model.__exit__": "",
    "Settings.preset": "name",
    "Settings.replace": "changes",
    "Settings.check": "model",
    "Settings.session_options": "",
    "Settings.to_dict": "",
    "Settings.from_dict": "",
    "Settings.from_file": "path",
    "Stream.step": "feeds",
    "Stream.run": "",
    "Stream.reset": "",
    "Stream.close": "",
    "Stream.__enter__": "",
    "Stream.__exit__": "",
    "Host": "memory_budget",
    "Host.add": "name source pinned settings",
    "Host.__getitem__": "name",
    "Host.stats": "",
    "Host.close": "",
}
BASES = {"InputError": ValueError, "SettingsError": ValueError, "MemoryBudgetError": MemoryError}
FIELDS = (
    "intra_op_num_threads inter_op_num_threads graph_optimization_level execution_mode enable_mem_pattern"
    " enable_cpu_mem_arena providers session_entries io_binding arena_bytes memory_limit cache_bytes warmup_passes"
    " allow_spinning"
)


def test_the_package_shows_its_public_names_and_nothing_else():
    assert dir(omni) == sorted(omni.__all__)
    assert len(set(omni.__all__)) == len(omni.__all__)
    for name in omni.__all__:
        assert getattr(omni, name).__doc__, name


@pytest.mark.parametrize("dotted", PARAMETERS)
def test_what_scripts_call(dotted):
    thing = omni
    for part in dotted.split("."):
        thing = getattr(thing, part)
    have = inspect.signature(thing).parameters
    assert [name for name in PARAMETERS[dotted].split() if name not in have] == []


@pytest.mark.parametrize(
    ("function", "only_by_name"),
    [
        (omni.load, {"cache_dir"}),
        (omni.Model.infer, {"out", "cache", "timeout"}),
        (omni.Model.warmup, {"passes"}),
        (omni.Host.add, {"pinned", "settings"}),
    ],
)
def test_parameters_that_must_be_named(function, only_by_name):
    parameters = inspect.signature(function).parameters.values()
    assert {parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY} == only_by_name


def test_fields_of_settings_and_specs():
    assert set(FIELDS.split()) <= set(omni.Settings.__dataclass_fields__)
    assert {"name", "dtype", "shape"} <= set(omni.TensorSpec.__dataclass_fields__)


def test_errors_are_ours_and_what_they_would_be_elsewhere():
    errors = [getattr(omni, name) for name in omni.__all__ if name.endswith("Error")]
    assert len(errors) == 10
    for error in errors:
        assert issubclass(error, omni.OmniError)
        assert issubclass(error, BASES.get(error.__name__, Exception))


def test_every_public_method_and_parameter_is_described():
    for name in omni.__all__:
        thing = getattr(omni, name)
        if not inspect.isclass(thing):
            continue
        for member, function in inspect.getmembers(thing, inspect.isfunction):
            if not member.startswith("_") and function.__module__.startswith("omni_sdk"):
                assert inspect.getdoc(getattr(thing, member)), f"{name}.{member}"


def test_every_signature_is_typed():
    for name in ("load", *(dotted for dotted in PARAMETERS if "." in dotted)):
        thing = omni
        for part in name.split("."):
            thing = getattr(thing, part)
        parameters = [p for p in inspect.signature(thing).parameters.values() if p.name not in ("self", "cls")]
        assert all(parameter.annotation is not parameter.empty for parameter in parameters), name
        assert inspect.signature(thing).return_annotation is not inspect.Signature.empty, name


def test_messages_keep_to_one_grammar():
    """Every sentence that is raised says what was expected, what came, and where."""
    raised = re.compile(
        r"raise (?:Model|Input|Settings|Provider|Stream|Closed|Internal)Error\(\s*f?([\"'])(.*?)\1", re.S
    )
    wrong = [
        f"{path.name}: {match[2]}"
        for path in sorted((ROOT / "omni_sdk").glob("*.py"))
        for match in raised.finditer(path.read_text())
        if not match[2].startswith("Expected ")
    ]
    assert wrong == []
