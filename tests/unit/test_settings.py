"""Settings: immutable, typed, there and back through plain values and TOML, and what ONNX Runtime is given."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
import sys

import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni_sdk import cpu
from omni_sdk.errors import ProviderError, SettingsError
from omni_sdk.settings import Settings, settings_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

WORDS = st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1, max_size=8)
OPTIONS = st.dictionaries(WORDS, WORDS, max_size=2)
THREADS = st.just("auto") | st.integers(1, 64)
BYTES = st.integers(0, 1 << 40)
SOME = st.none() | st.integers(1, 1 << 40)
VALUES = {
    "graph_optimization_level": st.sampled_from(["disable", "basic", "extended", "all"]),
    "intra_op_num_threads": THREADS,
    "inter_op_num_threads": THREADS,
    "execution_mode": st.sampled_from(["sequential", "parallel"]),
    "arena_bytes": st.none() | st.integers(1, (1 << 31) - 1),
    "arena_extend_strategy": st.sampled_from(["power_of_two", "same_as_requested"]),
    "providers": st.lists(WORDS | st.tuples(WORDS, OPTIONS), min_size=1, max_size=3).map(tuple),
    "session_entries": OPTIONS,
    "buffer_idle_bytes": BYTES,
    "cache_bytes": BYTES,
    "warmup_passes": st.integers(0, 9) | st.tuples(st.integers(1, 3), st.integers(3, 9)),
    "memory_limit": st.none() | st.integers(1, 1 << 40) | st.sampled_from(["2 GiB", "60%"]),
    "max_chunk": SOME,
    "chunk_context": st.none() | st.integers(0, 99) | st.tuples(st.integers(0, 99), st.integers(0, 99)),
    "async_workers": st.integers(1, 16),
    "log_severity_level": st.integers(0, 4),
}
FIELDS = {field.name: field.default for field in dataclasses.fields(Settings)}
SWITCHES = {name: st.booleans() for name, default in FIELDS.items() if isinstance(default, bool)}
ANY = st.fixed_dictionaries({}, optional={**VALUES, **SWITCHES}).map(lambda fields: Settings(**fields))


def toml(value):
    """A value in TOML's words, as far as settings go."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value)


def test_every_field_is_tried():
    assert FIELDS.keys() == VALUES.keys() | SWITCHES.keys()


@given(ANY)
def test_there_and_back_through_json(settings):
    assert Settings.from_dict(json.loads(json.dumps(settings.to_dict(), allow_nan=False))) == settings


@given(ANY)
def test_there_and_back_through_toml(settings):
    text = "\n".join(f"{name} = {toml(value)}" for name, value in settings.to_dict().items())
    assert Settings.from_dict(tomllib.loads(text)) == settings


def test_what_is_none_is_left_out():
    assert "arena_bytes" not in Settings().to_dict()
    assert Settings(arena_bytes=5).to_dict()["arena_bytes"] == 5
    assert Settings.from_dict({"arena_bytes": None}) == Settings()


def test_plain_values_are_copies():
    settings = Settings(session_entries={"a": "b"}, providers=[("cpu", {"c": "d"})])
    plain = settings.to_dict()
    plain["session_entries"]["a"] = plain["providers"][0][1]["c"] = "changed"
    assert settings == Settings(session_entries={"a": "b"}, providers=[("cpu", {"c": "d"})])


@pytest.mark.parametrize("table", ["", "[settings]\n"])
def test_a_file_of_toml(tmp_path, table):
    path = tmp_path / "omni.toml"
    path.write_text(
        f'{table}preset = "baseline"\ncache_bytes = 5\nwarmup_passes = [1, 4]\nproviders = [["cpu", {{}}]]\n'
    )
    expected = Settings.preset("baseline").replace(cache_bytes=5, warmup_passes=(1, 4), providers=(("cpu", {}),))
    assert Settings.from_file(path) == expected
    assert Settings.from_file(str(path)) == expected


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"cache_bytes", "Expected TOML"),
        (b"\xff\xfe", "Expected TOML"),
        (b"settings = 3", r"Expected a table, got 3 - at \[settings\]"),
        (b"speed = 9", r"'speed' - at Settings in .*omni\.toml\n  hint: fields: "),
        (b"cache_bytes = -1", r"Settings\.cache_bytes in .*omni\.toml"),
        (b'preset = "fast"', r"balanced.*omni\.toml"),
        (b"preset = []", "balanced"),
        (b'preset = "ultra"\n[settings]\ncache_bytes = 5', r"'preset' beside it - at .*omni\.toml"),
    ],
)
def test_files_that_are_no_settings(tmp_path, content, says):
    path = tmp_path / "omni.toml"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=says):
        Settings.from_file(path)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(SettingsError, match="No such file"):
        Settings.from_file(tmp_path / "none.toml")


@pytest.mark.parametrize("path", [None, 5, "a\0b"])
def test_what_is_no_path(path):
    with pytest.raises(SettingsError, match=r"Expected the path.*Settings\.from_file"):
        Settings.from_file(path)


@pytest.mark.parametrize(("plain", "says"), [(5, "mapping"), (None, "mapping"), ({1: 2}, "got 1"), ("ab", "mapping")])
def test_what_is_no_mapping_of_fields(plain, says):
    with pytest.raises(SettingsError, match=says):
        Settings.from_dict(plain)


def test_settings_are_fixed_through_and_through():
    settings = Settings(session_entries={"a": "b"}, providers=[("cpu", {"c": "d"})])
    for options in (settings.session_entries, settings.providers[0][1]):
        for change in (
            lambda options: options.update(a="c"),
            lambda options: options.__setitem__("a", "c"),
            lambda options: options.clear(),
        ):
            with pytest.raises(TypeError, match="Expected settings to stay"):
                change(options)
    for same in (pickle.loads(pickle.dumps(settings)), copy.deepcopy(settings), settings.replace()):
        assert same == settings
        assert hash(same) == hash(settings)
    assert {settings: 1}[Settings(session_entries={"a": "b"}, providers=(("cpu", {"c": "d"}),))] == 1
    assert dataclasses.asdict(settings)["session_entries"] == {"a": "b"}
    assert json.loads(json.dumps(dataclasses.asdict(settings)))["providers"] == [["cpu", {"c": "d"}]]


def test_settings_or_a_presets_name():
    settings = Settings(cache_bytes=5)
    assert settings_of(settings) is settings
    assert settings_of(None) == Settings()
    assert settings_of("baseline") == Settings.preset("baseline")
    with pytest.raises(SettingsError, match="got 5"):
        settings_of(5)


def test_settings_do_not_change():
    settings = Settings()
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.cache_bytes = 5
    assert settings.replace(cache_bytes=5).cache_bytes == 5
    assert settings.cache_bytes == 0
    with pytest.raises(SettingsError, match=r"got 'speed'(.|\n)*cache_bytes"):
        settings.replace(speed=1)


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("graph_optimization_level", "most"),
        ("graph_optimization_level", []),
        ("execution_mode", None),
        ("intra_op_num_threads", 0),
        ("intra_op_num_threads", True),
        ("inter_op_num_threads", "all"),
        ("arena_bytes", 0),
        ("arena_bytes", 1 << 31),
        ("buffer_idle_bytes", 1 << 70),
        ("intra_op_num_threads", 1 << 31),
        ("arena_extend_strategy", "twice"),
        ("buffer_idle_bytes", -1),
        ("cache_bytes", 1.5),
        ("warmup_passes", -1),
        ("warmup_passes", (0, 3)),
        ("warmup_passes", (4, 3)),
        ("warmup_passes", (1, 2, 3)),
        ("max_chunk", 0),
        ("chunk_context", -1),
        ("chunk_context", (1, 2, 3)),
        ("async_workers", 0),
        ("log_severity_level", 5),
        ("memory_limit", "much"),
        ("io_binding", 1),
        ("strict", None),
        ("providers", ()),
        ("providers", 5),
        ("providers", [("cpu",)]),
        ("providers", [5]),
        ("providers", [("cpu", {"a": None})]),
        ("session_entries", ["a"]),
        ("session_entries", {"a": None}),
    ],
)
def test_values_that_a_field_cannot_take(field, wrong):
    with pytest.raises(SettingsError, match="Expected"):
        Settings(**{field: wrong})


def test_presets_are_what_they_say(monkeypatch):
    monkeypatch.setattr(cpu, "usable_cores", lambda: 6)
    assert Settings.preset() == Settings.preset("balanced") == Settings()
    before, after = Settings.preset("baseline"), Settings.preset("ultra")
    assert (before.intra_threads, before.inter_threads, before.execution_mode) == (4, 2, "parallel")
    assert (before.graph_optimization_level, before.io_binding, before.warmup_passes) == ("all", False, 1)
    assert (after.intra_threads, after.inter_threads, after.execution_mode) == (6, 3, "sequential")
    assert (after.graph_optimization_level, after.io_binding, after.warmup_passes) == ("extended", True, 3)
    assert after.arena_bytes == after.cache_bytes == before.cache_bytes == 256 << 20
    assert before.enable_mem_pattern and before.allow_spinning
    assert after.enable_mem_pattern and after.allow_spinning
    assert not Settings().allow_spinning


def test_the_defaults_are_those_that_are_told_of():
    assert {f.name: getattr(Settings(), f.name) for f in dataclasses.fields(Settings)} == {
        "graph_optimization_level": "all",
        "intra_op_num_threads": "auto",
        "inter_op_num_threads": 1,
        "execution_mode": "sequential",
        "enable_mem_pattern": False,
        "enable_mem_reuse": True,
        "enable_cpu_mem_arena": True,
        "arena_bytes": None,
        "arena_extend_strategy": "power_of_two",
        "allow_spinning": False,
        "set_denormal_as_zero": False,
        "prepacking": True,
        "use_deterministic_compute": False,
        "providers": ("cpu",),
        "allow_fallback": False,
        "session_entries": {},
        "strict": True,
        "io_binding": True,
        "buffer_idle_bytes": 268_435_456,
        "cache_bytes": 0,
        "cache_random": False,
        "warmup_passes": (2, 8),
        "memory_limit": None,
        "max_chunk": None,
        "chunk_context": None,
        "shrink_arena": False,
        "shared_threads": False,
        "async_workers": 2,
        "log_severity_level": 4,
    }
    with pytest.raises(TypeError):
        Settings("basic")  # by name alone: fields come and go


def test_ultra_has_two_threads_between_operators_at_least(monkeypatch):
    for cores, threads in ((1, 2), (2, 2), (5, 2), (8, 4)):
        monkeypatch.setattr(cpu, "usable_cores", lambda cores=cores: cores)
        assert Settings.preset("ultra").inter_threads == threads


def test_auto_is_what_this_process_may_use(monkeypatch):
    monkeypatch.setattr(cpu, "usable_cores", lambda: 3)
    settings = Settings(intra_op_num_threads="auto", inter_op_num_threads="auto")
    assert (settings.intra_threads, settings.inter_threads) == (3, 3)
    assert Settings(intra_op_num_threads=7).intra_threads == 7


def test_onnx_runtime_gets_every_lever():
    options = Settings(
        graph_optimization_level="basic",
        execution_mode="parallel",
        intra_op_num_threads=3,
        inter_op_num_threads=2,
        enable_mem_pattern=True,
        enable_mem_reuse=False,
        enable_cpu_mem_arena=False,
        use_deterministic_compute=True,
        shared_threads=True,
        log_severity_level=2,
        set_denormal_as_zero=True,
        prepacking=False,
        allow_spinning=True,
        session_entries={"session.intra_op.allow_spinning": "0"},
    ).session_options()
    assert options.graph_optimization_level == ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    assert options.execution_mode == ort.ExecutionMode.ORT_PARALLEL
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (3, 2)
    assert options.enable_mem_pattern
    assert not options.enable_mem_reuse
    assert not options.enable_cpu_mem_arena
    assert options.use_deterministic_compute
    assert not options.use_per_session_threads
    assert options.log_severity_level == 2
    entries = {
        "session.set_denormal_as_zero": "1",
        "session.disable_prepacking": "1",
        "session.use_env_allocators": "1",
        "session.inter_op.allow_spinning": "1",
        "session.intra_op.allow_spinning": "0",  # the user's own entries have the last word
    }
    assert {key: options.get_session_config_entry(key) for key in entries} == entries


def test_defaults_do_not_spin_and_add_nothing_else():
    assert Settings().entries() == {"session.intra_op.allow_spinning": "0", "session.inter_op.allow_spinning": "0"}


def test_an_entry_that_onnx_runtime_refuses():
    with pytest.raises(SettingsError, match="session_entries"):
        Settings(session_entries={"k" * 5000: "1"}).session_options()


def test_providers_by_short_and_full_name():
    assert Settings(providers="cpu").provider_list() == [("CPUExecutionProvider", {})]
    given = Settings(providers=["CPUExecutionProvider", ("cpu", {"a": 1})]).provider_list()
    assert given == [("CPUExecutionProvider", {}), ("CPUExecutionProvider", {"a": "1"})]


def test_a_provider_that_is_not_installed():
    with pytest.raises(ProviderError, match=r"'tensorrt'(.|\n)*CPUExecutionProvider"):
        Settings(providers=("tensorrt", "cpu")).provider_list()
    allowed = Settings(providers=("tensorrt",), allow_fallback=True)
    assert allowed.provider_list() == [("CPUExecutionProvider", {})]


def test_a_memory_limit_in_bytes():
    assert Settings().memory_limit_bytes is None
    assert Settings(memory_limit="2 GiB").memory_limit_bytes == 2 << 30
