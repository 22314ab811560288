"""Session entries are read from the library that runs them."""

from __future__ import annotations

import pickle

import pytest

from omni_sdk.ort_options import SWITCHES, FixedOptions, SessionEntries
from omni_sdk.session import EXTERNAL_FOLDER
from omni_sdk.settings import KNOWN_ENTRIES

LIBRARY = (
    b"\x7fELF\0session.one_thing\0junk session.not_ended!\0optimization.other.thing\0/src/session.state.cc\0"
    b"session.state.cc\0memory.third\0mysession.one_th\0"
)


@pytest.fixture
def entries(tmp_path):
    (tmp_path / "libonnxruntime.so.1").write_bytes(LIBRARY)
    (tmp_path / "libonnxruntime_empty.so").write_bytes(b"")
    (tmp_path / "other.so").write_bytes(b"session.elsewhere\0")
    (tmp_path / "onnxruntime_folder").mkdir()
    return SessionEntries(tmp_path)


def test_names_end_where_the_string_ends(entries):
    assert "session.one_thing" in entries
    assert "session.one_thin" not in entries
    assert "session.one_thing.more" not in entries
    assert "session.elsewhere" not in entries


def test_a_name_that_the_compiler_cut_in_two_is_known_by_its_beginning(tmp_path):
    (tmp_path / "libonnxruntime.so").write_bytes(b"\0session.model_external_initializers_file_folder_and so on\0")
    assert EXTERNAL_FOLDER in SessionEntries(tmp_path)
    (tmp_path / "libonnxruntime.so").write_bytes(b"\0session.model_external_initializers_file\0")
    assert EXTERNAL_FOLDER not in SessionEntries(tmp_path)
    assert EXTERNAL_FOLDER in KNOWN_ENTRIES


def test_all_names_and_no_source_files(entries):
    names = entries.names()
    assert {"session.one_thing", "optimization.other.thing", "memory.third"} <= names
    assert not any(name.endswith(".cc") for name in names)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("session.one_thign", "did you mean 'session.one_thing'?"),
        ("wholly.different", "remove it"),
        ("session.arena_size", "arena_bytes"),
    ],
)
def test_remedies(entries, name, remedy):
    assert remedy in entries.remedy(name)


def test_a_library_that_was_read_is_not_read_again(entries, monkeypatch):
    assert "session.one_thing" in entries
    monkeypatch.setattr(entries, "_views", lambda: pytest.fail("read again"))
    assert "session.one_thing" in entries


def test_no_library(tmp_path):
    assert not SessionEntries(tmp_path).readable()
    assert "session.one_thing" not in SessionEntries(tmp_path)


RELIED_ON = {
    "session.set_denormal_as_zero",
    "session.disable_prepacking",
    "session.use_env_allocators",
    "session.intra_op.allow_spinning",
    "session.inter_op.allow_spinning",
    "session.force_spinning_stop",
    "session.use_device_allocator_for_initializers",
    "memory.enable_memory_arena_shrinkage",
}


def test_options_are_fixed():
    options = FixedOptions(a="b")
    assert options == {"a": "b"}
    assert hash(options) == hash(pickle.loads(pickle.dumps(options)))
    with pytest.raises(TypeError, match="got a change"):
        options["a"] = "c"
    with pytest.raises(TypeError, match="got a change"):
        options |= {"a": "c"}


def test_switches_are_names_that_can_be_entries():
    assert all(name.partition(".")[0] in ("session", "optimization") for name in SWITCHES)
    assert len(SWITCHES & KNOWN_ENTRIES.names()) > 0.8 * len(SWITCHES), "an older version may lack a few"


def test_every_entry_this_package_relies_on_is_real():
    assert all(name in KNOWN_ENTRIES for name in RELIED_ON)
    assert KNOWN_ENTRIES.names() >= RELIED_ON
