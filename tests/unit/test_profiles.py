"""Tuned profiles: kept per model, CPU and version; stale when any of them changes; never trusted when damaged."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import omni_sdk
from omni_sdk import Settings, SettingsError, cpu, profiles
from omni_sdk import session as sessions
from omni_sdk.source import Source

TUNED = Settings(intra_op_num_threads=1, graph_optimization_level="extended", session_entries={"a.b": "1"})


@pytest.fixture
def source() -> Source:
    return Source(b"a model's bytes")


@pytest.fixture
def kept(source: Source, tmp_path: Path) -> Path:
    return profiles.save(profiles.blank(source, "latency", TUNED, {"ratio": 0.9}), tmp_path)


def test_what_was_kept_comes_back(source: Source, kept: Path, tmp_path: Path) -> None:
    assert profiles.settings_for(source, tmp_path) == TUNED
    found = profiles.find(source, tmp_path)
    assert found is not None
    assert (found.goal, dict(found.measured)) == ("latency", {"ratio": 0.9})
    assert kept.parent.stat().st_mode & 0o777 == 0o700
    assert kept.stat().st_mode & 0o777 == 0o600


def test_the_last_one_kept_counts(source: Source, kept: Path, tmp_path: Path) -> None:
    profiles.save(profiles.blank(source, "memory", Settings(), {}), tmp_path)
    assert profiles.settings_for(source, tmp_path) == Settings()
    assert [path.name for path in kept.parent.iterdir()] == [kept.name]


def test_without_one_the_error_says_how_to_get_one(source: Source, tmp_path: Path) -> None:
    assert profiles.find(source, tmp_path) is None
    with pytest.raises(SettingsError, match=r"got none(.|\n)*omni-sdk tune"):
        profiles.settings_for(source, tmp_path)


def test_another_model_has_none(kept: Path, tmp_path: Path) -> None:
    assert profiles.find(Source(b"another model"), tmp_path) is None


def test_another_version_makes_it_stale(
    source: Source, kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "ort_version", lambda: "99.0")
    assert profiles.find(source, tmp_path) is None
    with pytest.raises(SettingsError, match=r"measured with onnxruntime .*, where now it is 99\.0"):
        profiles.settings_for(source, tmp_path)


@pytest.mark.parametrize("change", ["cores", "name"])
def test_another_cpu_makes_it_stale(
    change: str, source: Source, kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if change == "cores":
        monkeypatch.setattr(cpu, "usable_cores", lambda: 63)
    else:
        monkeypatch.setattr(cpu, "describe", lambda processors=None: cpu.Cpu("Another", frozenset(), 4))
    assert profiles.find(source, tmp_path) is None
    with pytest.raises(SettingsError, match="measured with the CPU"):
        profiles.settings_for(source, tmp_path)


def test_a_profile_of_another_device_under_this_name_is_not_taken(source: Source, kept: Path, tmp_path: Path) -> None:
    document = json.loads(kept.read_text())
    document["cpu"] = "another"
    kept.write_text(json.dumps(document))
    assert profiles.find(source, tmp_path) is None


def test_every_truncation_is_a_clear_error(source: Source, kept: Path, tmp_path: Path) -> None:
    whole = kept.read_bytes()
    for length in range(len(whole) - 2):
        kept.write_bytes(whole[:length])
        with pytest.raises(SettingsError, match=r"got a file that is none(.|\n)*tune the model anew"):
            profiles.find(source, tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"format": "something else"},
        {"schema": 2},
        {"model": "short"},
        {"settings": {"intra_op_num_threads": -1}},
        {"settings": {"no_such_field": 1}},
        {"settings": {"warmup_passes": {}}},
        {"settings": {"providers": 3}},
        {"settings": {"session_entries": []}},
        {"settings": []},
        {"extra": 1},
    ],
)
def test_damage_is_a_clear_error(change: dict[str, object], source: Source, kept: Path, tmp_path: Path) -> None:
    kept.write_text(json.dumps({**json.loads(kept.read_text()), **change}))
    with pytest.raises(SettingsError, match="tune the model anew"):
        profiles.find(source, tmp_path)


@pytest.mark.parametrize("mode", [0o777, 0o755, 0o710])
def test_a_folder_that_others_may_enter_is_not_trusted(mode: int, source: Source, kept: Path, tmp_path: Path) -> None:
    kept.parent.chmod(mode)
    with pytest.raises(SettingsError, match="not private to this user"):
        profiles.find(source, tmp_path)
    with pytest.raises(SettingsError, match="not private to this user"):
        profiles.save(profiles.blank(source, "latency", TUNED, {}), tmp_path)


def test_a_folder_or_a_profile_behind_a_link_is_not_trusted(source: Source, kept: Path, tmp_path: Path) -> None:
    away = tmp_path / "away"
    away.mkdir(mode=0o700)
    kept.rename(away / kept.name)
    kept.symlink_to(away / kept.name)
    with pytest.raises(SettingsError, match="link that leaves it"):
        profiles.find(source, tmp_path)
    kept.unlink()
    kept.parent.rmdir()
    kept.parent.symlink_to(away)
    with pytest.raises(SettingsError, match="is no folder"):
        profiles.find(source, tmp_path)
    with pytest.raises(SettingsError, match="is no folder"):
        profiles.save(profiles.blank(source, "latency", TUNED, {}), tmp_path)


def test_a_folder_that_others_can_replace_is_not_trusted(source: Source, kept: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(SettingsError, match=r"written by everyone(.|\n)*mode 700"):
        profiles.find(source, tmp_path)


def test_a_stale_profile_is_told_of_through_the_same_reader(source: Source, kept: Path, tmp_path: Path) -> None:
    other = kept.with_name(f"{source.fingerprint.hex()}-other.json")
    os.mkfifo(other)  # whoever opened it as a file would wait for ever
    kept.unlink()
    with pytest.raises(SettingsError, match="got none"):
        profiles.settings_for(source, tmp_path)


def test_the_folder_follows_the_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OMNI_SDK_CACHE_DIR", str(tmp_path))
    assert profiles.folder() == tmp_path / "profiles"
    assert profiles.folder(None) == tmp_path / "profiles"
    assert profiles.folder(tmp_path / "own") == tmp_path / "own" / "profiles"
    monkeypatch.delenv("OMNI_SDK_CACHE_DIR")
    assert profiles.folder().name == "profiles"


def test_load_without_a_profile_says_so(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="tuned profile"):
        omni_sdk.load(b"some bytes", "tuned", cache_dir=tmp_path)


def test_explain_tells_what_a_profile_changed() -> None:
    reasons = profiles.effects(TUNED)
    assert set(reasons) == {"intra_op_num_threads", "graph_optimization_level", "session_entries"}
    assert reasons["intra_op_num_threads"] == (1, "from the tuned profile")


def test_where_nothing_can_be_removed_either_the_error_is_still_ours(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "replace", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(SettingsError, match="Read-only file system"):
        profiles.save(profiles.blank(source, "latency", TUNED, {}), tmp_path)
