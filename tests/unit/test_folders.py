"""Folders of this user alone, small files that are whole or not there, and where caches stand."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from omni_sdk import folders
from omni_sdk.errors import InputError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="owners and modes are another matter there")
ANOTHER = 12345


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def test_a_private_folder_is_made_with_all_above_it(tmp_path):
    before = os.umask(0)
    try:
        folders.make_private(tmp_path / "a" / "b" / "c")
    finally:
        os.umask(before)
    assert [mode(tmp_path / name) for name in ("a", "a/b", "a/b/c")] == [0o700] * 3
    folders.make_private(tmp_path / "a" / "b" / "c")


@pytest.mark.parametrize("wide", [0o777, 0o755, 0o750, 0o701])
def test_a_folder_that_others_may_enter_is_not_private(tmp_path, wide):
    (tmp_path / "c").mkdir()
    (tmp_path / "c").chmod(wide)
    with pytest.raises(PermissionError, match="not private to this user"):
        folders.make_private(tmp_path / "c")


def test_a_link_or_a_file_in_its_place_is_not_private(tmp_path):
    (tmp_path / "target").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "target")
    (tmp_path / "file").touch()
    (tmp_path / "nowhere").symlink_to(tmp_path / "nothing")
    for name in ("link", "file", "nowhere", "file/below"):
        with pytest.raises(OSError):
            folders.make_private(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        folders.check_private(tmp_path / "none")


@pytest.mark.parametrize("above", [".", "between"])
def test_a_folder_that_everyone_may_replace_is_not_private(tmp_path, above):
    leaf = tmp_path / "between" / "leaf"
    folders.make_private(leaf)
    (tmp_path / above).chmod(0o777)
    with pytest.raises(PermissionError, match=r"written by everyone \(mode 777\)"):
        folders.check_private(leaf)
    (tmp_path / above).chmod(0o1777)  # where only an owner may rename, as in /tmp
    folders.check_private(leaf)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
@pytest.mark.parametrize("above", [".", "between", "between/leaf"])
def test_a_folder_in_another_users_folder_is_not_private(tmp_path, above):
    leaf = tmp_path / "between" / "leaf"
    folders.make_private(leaf)
    os.chown(tmp_path / above, ANOTHER, ANOTHER)
    with pytest.raises(PermissionError, match=f"owner {ANOTHER}"):
        folders.make_private(leaf)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a link away")
def test_the_way_to_it_must_be_this_users_too(tmp_path):
    """Another user's link can lead elsewhere by the time it is followed again; a link of one's own is fine."""
    folders.make_private(tmp_path / "real" / "leaf")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    folders.check_private(tmp_path / "link" / "leaf")
    os.chown(tmp_path / "link", ANOTHER, ANOTHER, follow_symlinks=False)
    with pytest.raises(PermissionError, match="link above it belongs to another user"):
        folders.check_private(tmp_path / "link" / "leaf")
    os.chown(tmp_path / "link", 0, 0, follow_symlinks=False)
    (tmp_path / "real").chmod(0o777)
    with pytest.raises(PermissionError, match="real above it"):
        folders.check_private(tmp_path / "link" / "leaf")


def test_a_small_file_is_its_users_alone_and_replaces_what_stood_there(tmp_path):
    path = tmp_path / "note.json"
    path.write_text("a longer text that was there before")
    path.chmod(0o644)
    folders.put(path, "new")
    assert (path.read_text(), mode(path)) == ("new", 0o600)
    assert list(tmp_path.iterdir()) == [path]


def test_a_small_file_that_cannot_be_put_leaves_what_stood_there(tmp_path, monkeypatch):
    path = tmp_path / "note.json"
    folders.put(path, "old")
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        folders.put(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_writer_left_of_a_small_file_goes_and_what_one_is_writing_stays(tmp_path):
    left, young, other = (tmp_path / name for name in (".n.1.small", ".n.2.small", ".other.3.small"))
    for path in (left, young, other):
        path.touch()
    for path in (left, other):
        os.utime(path, (0, 0))
    folders.put(tmp_path / "n", "text")
    assert (left.exists(), young.exists(), other.exists()) == (False, True, True)


def test_where_caches_stand(tmp_path, monkeypatch):
    monkeypatch.setenv(folders.CACHE_VARIABLE, str(tmp_path / "here"))
    assert folders.cache() == tmp_path / "here"
    assert folders.cache(str(tmp_path / "there")) == tmp_path / "there"
    assert folders.cache(None) is None
    monkeypatch.setenv(folders.CACHE_VARIABLE, "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    assert folders.cache() == tmp_path / "home" / "omni-sdk"


@pytest.mark.parametrize("cache_dir", [5, b"cache", "a\0b", "\ud800", ["a"]])
def test_a_cache_folder_that_is_no_path(cache_dir):
    with pytest.raises(InputError, match=r"Expected a path, got .* - at cache_dir"):
        folders.cache(cache_dir)
