"""Cache entries: verified before use, bounded in bytes, safe among processes, never in the way."""

from __future__ import annotations

import errno
import json
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from omni_sdk import entries, files, folders, stamps
from omni_sdk.entries import BEYOND, LISTING, STAMP, Entries
from omni_sdk.errors import ModelError

KEY, OTHER = "a" * 32, "b" * 32
CONTENT = bytes(range(256)) * 16


class Writer:
    """Fills an entry and counts how often it had to."""

    def __init__(self, content: bytes = CONTENT) -> None:
        self.content = content
        self.calls = 0

    def __call__(self, folder: Path) -> None:
        self.calls += 1
        (folder / "model.onnx").write_bytes(b"graph")
        (folder / "model.onnx.data").write_bytes(self.content)


@pytest.fixture
def store(tmp_path):
    return Entries(tmp_path / "cache", limit_bytes=1 << 20)


def read(store: Entries, key: str, write: Writer) -> bytes | None:
    with store.holding(key, write) as folder:
        return None if folder is None else (folder / "model.onnx.data").read_bytes()


def test_an_entry_is_written_once_and_read_from_then_on(store):
    write = Writer()
    assert [read(store, KEY, write) for _ in range(3)] == [CONTENT] * 3
    assert write.calls == 1
    assert read(store, OTHER, write) == CONTENT
    assert write.calls == 2
    assert store.bytes() > 2 * len(CONTENT)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)


def flip_in_secret(path: Path) -> None:
    """As `flip`, with the modification time set back."""
    before = path.stat()
    flip(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def cut(path: Path) -> None:
    os.truncate(path, 100)


def link_away(path: Path) -> None:
    elsewhere = path.parents[2] / "elsewhere"
    path.replace(elsewhere)
    path.symlink_to(elsewhere)


@pytest.mark.parametrize("harm", [flip, flip_in_secret, cut, link_away, Path.unlink])
@pytest.mark.parametrize("name", ["model.onnx.data", "model.onnx", LISTING])
def test_a_damaged_entry_is_dropped_and_written_anew(store, caplog, harm, name):
    write = Writer()
    read(store, KEY, write)
    harm(store.folder / KEY / name)
    with caplog.at_level(logging.WARNING):
        assert read(store, KEY, write) == CONTENT
    assert write.calls == 2
    assert "dropping the cache entry" in caplog.text
    assert read(store, KEY, write) == CONTENT
    assert write.calls == 2


def test_an_entry_of_another_key_or_format_is_foreign(store):
    write = Writer()
    read(store, KEY, write)
    (store.folder / KEY).rename(store.folder / OTHER)
    assert read(store, OTHER, write) == CONTENT
    assert write.calls == 2
    listing = store.folder / OTHER / LISTING
    listing.write_text(json.dumps(json.loads(listing.read_text()) | {"format": "something"}))
    assert read(store, OTHER, write) == CONTENT
    assert write.calls == 3


def test_content_is_read_whole_once_per_boot_and_after_any_write(store, monkeypatch):
    whole = []
    check = files.check
    monkeypatch.setattr(
        files, "check", lambda *given, checksum: whole.append(checksum) or check(*given, checksum=checksum)
    )
    write = Writer()
    read(store, KEY, write)
    read(store, KEY, write)
    assert not any(whole), "the writer has just made the checksums, and nothing was written since"
    monkeypatch.setattr(stamps, "boot", lambda: "another boot")
    read(store, KEY, write)
    assert whole.count(True) == 2
    read(store, KEY, write)
    assert whole.count(True) == 2
    os.utime(store.folder / KEY / "model.onnx.data")
    read(store, KEY, write)
    assert whole.count(True) == 4
    (store.folder / KEY / STAMP).unlink()
    assert read(store, KEY, write) == CONTENT
    assert whole.count(True) == 6
    assert write.calls == 1


def test_the_least_recently_used_go_first_when_bytes_run_out(store):
    write = Writer()
    keys = [f"{index:04x}{0:028x}" for index in range(4)]
    read(store, keys[0], write)
    store.limit_bytes = 3 * store.bytes() + 100
    for age, key in enumerate(keys[:3]):
        read(store, key, write)
        os.utime(store.folder / key / STAMP, (age, age))
    read(store, keys[0], write)
    read(store, keys[3], write)
    assert {place.name for place in store.folder.glob("0*")} == {keys[0], keys[2], keys[3]}
    assert store.bytes() <= store.limit_bytes


def test_an_entry_in_use_is_not_evicted(store):
    write = Writer()
    with store.holding(KEY, write) as folder:
        store.limit_bytes = store.bytes()
        assert read(store, OTHER, write) is None
        assert "entries in use leave no room" in store.refusal
        assert write.calls == 2
        assert folder.is_dir()
    assert read(store, OTHER, write) == CONTENT
    assert not folder.exists()


def test_an_entry_beyond_the_limit_is_written_once_and_nothing_goes_for_it(store):
    read(store, OTHER, Writer(b"small"))
    store.limit_bytes = 4000
    write = Writer()
    for _ in range(3):
        assert read(store, KEY, write) is None
        assert "KiB is more than the 3.9 KiB that the cache may hold" in store.refusal
    assert write.calls == 1
    assert [place.name for place in store.folder.glob("[0-9a-f]*")] == [OTHER]
    store.limit_bytes = 1 << 20
    assert read(store, KEY, write) == CONTENT
    assert write.calls == 2


def test_a_damaged_note_of_a_size_is_no_note(store):
    folders.make_private(store.folder)
    for text in ("", "[]", "{}", '{"bytes": "9999999"}', "nonsense"):
        (store.folder / f"{BEYOND}{KEY}").write_text(text)
        assert read(store, KEY, Writer()) == CONTENT
        store.drop(KEY)


def test_leftovers_are_swept_where_that_is_safe(store):
    read(store, KEY, Writer())
    names = (".digest-0", ".unread-0", f"{BEYOND}{OTHER}")
    for name in names:
        (store.folder / name).touch()
        os.utime(store.folder / name, (0, 0))
        (store.folder / f"{name}1").touch()
    (store.folder / ".lock-0000").touch()
    (store.folder / ".lock-1111").touch()
    with store._lock("1111", alone=False):
        read(store, OTHER, Writer())
    left = {path.name for path in store.folder.iterdir()}
    assert left == {KEY, OTHER, ".lock-aaaa", ".lock-bbbb", ".lock-1111", *(f"{name}1" for name in names)}


def test_a_lock_counts_only_while_its_file_stands(store):
    """Whoever opened a lock's file before it was swept locks the one that stands there now, as others do."""
    folders.make_private(store.folder)
    path = store.folder / ".lock-aaaa"
    opened = os.open
    swept = []

    def open_and_sweep(name, *given):
        descriptor = opened(name, *given)
        if name == path and not swept:
            swept.append(path.unlink())
        return descriptor

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(entries.os, "open", open_and_sweep)
        with store._lock(KEY, alone=True), pytest.raises(TimeoutError), store._lock(KEY, alone=False, wait=0.0):
            raise AssertionError("both hold it")
    assert swept


def test_why_an_entry_was_not_to_be_had_is_told(store, monkeypatch):
    store.folder.mkdir(mode=0o755)
    assert read(store, KEY, Writer()) is None
    assert "not private to this user" in store.refusal
    store.folder.chmod(0o700)
    monkeypatch.setattr(entries, "WAIT_SECONDS", 0.0)
    with store._lock(KEY, alone=True):
        assert read(store, KEY, Writer()) is None
    assert "another process held .lock-aaaa" in store.refusal


def test_a_folder_that_others_may_touch_is_not_used(store, caplog):
    store.folder.mkdir(mode=0o700)
    store.folder.chmod(0o777)
    assert read(store, KEY, Writer()) is None
    assert "not private" in caplog.text
    store.folder.chmod(0o700)
    assert read(store, KEY, Writer()) == CONTENT
    assert store.folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_another_user_is_not_used(store, caplog):
    store.folder.mkdir(mode=0o700)
    os.chown(store.folder, 12345, 12345)
    assert read(store, KEY, Writer()) is None
    assert "owner 12345" in caplog.text


def test_a_link_in_the_folders_place_is_not_used(store, tmp_path):
    (tmp_path / "target").mkdir(mode=0o700)
    store.folder.symlink_to(tmp_path / "target")
    assert read(store, KEY, Writer()) is None


def test_a_full_disk_and_a_file_in_the_way_cost_only_the_entry(store, caplog):
    def full(folder: Path) -> None:
        (folder / "model.onnx").write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with store.holding(KEY, full) as folder:
        assert folder is None
    assert "No space left" in caplog.text
    assert [path.name for path in store.folder.iterdir() if not path.name.startswith(".lock")] == []
    blocked = Entries(store.folder / ".lock-aaaa" / "cache", 1 << 20)
    assert read(blocked, KEY, Writer()) is None


def test_what_the_writer_raises_of_ours_is_raised(store):
    def fail(folder: Path) -> None:
        raise ModelError("Expected a model, got none - at x.onnx")

    with pytest.raises(ModelError), store.holding(KEY, fail):
        raise AssertionError("nothing to hold")
    assert read(store, KEY, Writer()) == CONTENT


def test_waiting_for_another_writer_ends(store, monkeypatch):
    monkeypatch.setattr(entries, "WAIT_SECONDS", 0.1)
    read(store, KEY, Writer())
    with store._lock(KEY, alone=True):
        assert read(store, KEY, Writer()) is None
    assert read(store, KEY, Writer()) == CONTENT


def test_dropping_removes_one_entry(store):
    write = Writer()
    read(store, KEY, write)
    read(store, OTHER, write)
    store.drop(KEY)
    store.drop("c" * 32)
    assert not (store.folder / KEY).exists()
    assert (store.folder / OTHER).exists()


def test_threads_that_miss_at_once_write_once(store):
    write = Writer()
    results: list[bytes | None] = []
    threads = [threading.Thread(target=lambda: results.append(read(store, KEY, write))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [CONTENT] * 8
    assert write.calls == 1


KILLING = Path(__file__).with_name("killing.py")


def kill_fillers(folder: Path, kills: int) -> None:
    done = subprocess.run(
        [sys.executable, KILLING, "entries", "exchange", str(kills), str(folder)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "broken 0" in done.stdout


def test_processes_killed_while_filling_leave_nothing_broken(tmp_path):
    kill_fillers(tmp_path, 10)


@pytest.mark.heavy
def test_processes_killed_at_200_instants_while_filling_leave_nothing_broken(tmp_path):
    kill_fillers(tmp_path, 200)
