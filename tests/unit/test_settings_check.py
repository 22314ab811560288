"""What ONNX Runtime would silently ignore is an error, what cannot help a warning, the rest a remark."""

from __future__ import annotations

import graphs
import pytest

import omni_sdk as omni
from omni_sdk import cpu, memory
from omni_sdk.memory import DeviceMemory
from omni_sdk.ort_options import SessionEntries
from omni_sdk.settings import KNOWN_ENTRIES, Settings
from omni_sdk.settings_check import Finding, findings

SWITCH = "session_entries['session.disable_prepacking']"
REAL = "session.enable_quant_qdq_cleanup"


@pytest.fixture(autouse=True)
def device(monkeypatch):
    """Two cores and 1 GiB, whatever this machine has."""
    monkeypatch.setattr(cpu, "usable_cores", lambda: 2)
    monkeypatch.setattr(memory, "device", lambda: DeviceMemory(1 << 30, 1 << 29, "machine"))


def found(model=None, **fields):
    return [(finding.level, finding.setting) for finding in Settings(**fields).check(model)]


def test_the_defaults_need_no_word():
    assert found() == []


@pytest.mark.parametrize(
    ("entry", "remedy"),
    [
        ("session.qdq_matmulnbits_to_float", "qdq_matmulnbits_accuracy_level"),
        ("session.arena_extend_strategy", "arena_bytes"),
        ("session.enable_quant_qdq_clean", REAL),
        ("nothing.like.it", "remove it"),
    ],
)
def test_an_unknown_entry_is_an_error_with_a_remedy(entry, remedy):
    (finding,) = Settings(session_entries={entry: "1"}).check()
    assert finding.level == "error"
    assert entry in finding.setting
    assert remedy in finding.hint


def test_known_entries_and_a_providers_own_pass():
    assert found(session_entries={REAL: "1", "ep.something.own": "1"}) == []


def test_an_entry_that_overrides_a_field():
    (finding,) = Settings(session_entries={"session.intra_op.allow_spinning": "1"}).check()
    assert (finding.level, "'0'" in finding.message) == ("info", True)


@pytest.mark.parametrize(
    ("model", "level"), [(None, "info"), ("m.ort", "warning"), (b"\0\0\0\0ONNX", "warning"), (b"\0\0\0\0ORTM", None)]
)
def test_entries_for_ort_bytes_only(model, level):
    levels = [finding for finding, _ in found(model, session_entries={"session.use_ort_model_bytes_directly": "1"})]
    assert levels == ([level] if level else [])


def test_a_library_that_cannot_be_read(tmp_path):
    unread = SessionEntries(tmp_path)
    settings = Settings(session_entries={"session.whatever": "1"})
    (finding,) = findings(settings, None, known=unread, installed=["CPUExecutionProvider"])
    assert (finding.level, "could not be read" in finding.message) == ("warning", True)


@pytest.mark.parametrize(("fallback", "level"), [(False, "error"), (True, "warning")])
def test_a_missing_provider(fallback, level):
    (finding,) = Settings(providers=("tensorrt", "cpu"), allow_fallback=fallback).check()
    assert (finding.level, finding.setting) == (level, "providers")
    assert "CPUExecutionProvider" in finding.hint


def test_a_provider_that_comes_twice():
    """ONNX Runtime passes the second one over, options and all."""
    (finding,) = Settings(providers=("cpu", "CPUExecutionProvider")).check()
    assert (finding.level, finding.setting) == ("error", "providers")
    assert "'CPUExecutionProvider' comes twice" in finding.message
    with pytest.raises(omni.SettingsError, match="comes twice"):
        graphs.load(graphs.DOUBLE, providers=("cpu", ("cpu", {})))


def test_a_provider_behind_the_cpus():
    behind = [finding for finding in Settings(providers=("cpu", "openvino")).check() if finding.level == "warning"]
    assert [("'openvino' stands behind" in each.message, each.setting) for each in behind] == [(True, "providers")]
    before = Settings(providers=("openvino", "cpu")).check()
    assert not [finding for finding in before if finding.level == "warning"]


@pytest.mark.parametrize("option", ["arena_extend_strategy", "speed"])
def test_an_option_that_the_provider_does_not_have(option):
    (finding,) = Settings(providers=(("cpu", {option: "1"}),)).check()
    assert (finding.level, finding.setting) == ("error", "providers")
    assert ("arena_bytes" in (finding.hint or "")) == (option != "speed")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"intra_op_num_threads": 2}, []),
        ({"intra_op_num_threads": 3}, [("warning", "intra_op_num_threads")]),
        ({"inter_op_num_threads": 2}, [("info", "inter_op_num_threads")]),
        ({"inter_op_num_threads": 2, "execution_mode": "parallel"}, []),
        ({"enable_mem_pattern": True, "execution_mode": "parallel"}, [("warning", "enable_mem_pattern")]),
        ({"allow_spinning": True, "intra_op_num_threads": 1}, []),
        ({"allow_spinning": True}, [("info", "allow_spinning")]),
        ({"arena_bytes": 1}, [("info", "arena_bytes")]),
        (
            {"arena_bytes": 1, "enable_cpu_mem_arena": False},
            [("warning", "enable_cpu_mem_arena"), ("info", "arena_bytes")],
        ),
        ({"shrink_arena": True}, []),
        ({"shrink_arena": True, "enable_cpu_mem_arena": False}, [("error", "shrink_arena")]),
        ({"shrink_arena": True, "enable_cpu_mem_arena": False, "shared_threads": True}, []),
        ({"arena_extend_strategy": "same_as_requested"}, [("warning", "arena_extend_strategy")]),
        ({"arena_extend_strategy": "same_as_requested", "shared_threads": True}, []),
        ({"set_denormal_as_zero": True}, [("info", "set_denormal_as_zero")]),
        ({"session_entries": {"session.disable_prepacking": "no"}}, [("error", SWITCH)]),
        ({"session_entries": {"session.disable_prepacking": "1"}}, []),
        ({"memory_limit": "1 GiB"}, []),
        ({"memory_limit": "1.1 GiB"}, [("warning", "memory_limit")]),
    ],
)
def test_levers_that_do_nothing_here(fields, expected):
    assert found(**fields) == expected


def test_errors_come_first():
    fields = {"allow_spinning": True, "intra_op_num_threads": 9, "session_entries": {"session.arena_size": "1"}}
    assert [level for level, _ in found(**fields)] == ["error", "warning", "info"]


def test_load_refuses_what_would_be_ignored_unless_told_otherwise(caplog):
    with pytest.raises(omni.SettingsError, match=r"session\.arena_size"):
        graphs.load(graphs.DOUBLE, session_entries={"session.arena_size": "1"})
    caplog.clear()
    graphs.load(graphs.DOUBLE, session_entries={"session.arena_size": "1"}, strict=False).close()
    assert "session.arena_size" in caplog.text


def test_a_finding_reads_as_a_line():
    assert str(Finding("error", "here", "bad", "mend it")) == "error: here: bad (mend it)"
    assert str(Finding("info", "here", "fine")) == "info: here: fine"


def test_the_installed_library_is_asked():
    assert KNOWN_ENTRIES.readable()
    assert REAL in KNOWN_ENTRIES
