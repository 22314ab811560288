"""A bundle is written whole or not at all, and read defensively."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import xxhash

from omni_sdk import files, folders, manifest
from omni_sdk.bundle import Audio, Bundle, create, is_bundle
from omni_sdk.errors import BundleError

WEIGHTS = bytes(range(256)) * 64


def write(path: Path, *, weights: bytes = WEIGHTS, **fields: object) -> Bundle:
    with create(path) as draft:
        (draft.folder / "model.onnx").write_bytes(b"graph")
        (draft.folder / "data").mkdir()
        (draft.folder / "data" / "weights.bin").write_bytes(weights)
        for name, value in fields.items():
            setattr(draft, name, value)
    return Bundle.open(path)


def rewrite(path: Path, change: dict[str, object], *, sign: bool = True) -> None:
    """Change keys of a manifest on disk, with a fingerprint that fits again."""
    place = path / "manifest.json"
    document = json.loads(place.read_text()) | change
    if sign:
        document["fingerprint"] = manifest._fingerprint(document)
    place.write_text(json.dumps(document))


def test_what_is_written_is_read_back(tmp_path):
    audio = Audio(sample_rate=24_000, hop=1920, input="audio_codes", output="waveform", first_chunk_deficit=555)
    opened = write(
        tmp_path / "b",
        state={"past.a": "present.a"},
        audio=audio,
        opset={"": 20, "omni": 1},
        operators=1,
        quality={"snr_db": 31.5, "frontier": [[1, 2.0], [3, 4.5]]},
        provenance={"rules": ["snake"], "note": "größer"},
    )
    entries = {entry.name: entry for entry in opened.manifest.files}
    assert set(entries) == {"model.onnx", "data/weights.bin"}
    assert entries["data/weights.bin"].bytes == len(WEIGHTS)
    assert entries["data/weights.bin"].xxh3_128 == xxhash.xxh3_128_hexdigest(WEIGHTS)
    assert opened.manifest.audio == audio
    assert opened.manifest.state == {"past.a": "present.a"}
    assert opened.manifest.opset == {"": 20, "omni": 1}
    assert opened.manifest.quality == {"snr_db": 31.5, "frontier": [[1, 2.0], [3, 4.5]]}
    assert opened.manifest.provenance == {"rules": ["snake"], "note": "größer"}
    assert opened.graph_path.read_bytes() == b"graph"
    assert Bundle.open(tmp_path / "b", checksums=True).manifest == opened.manifest
    assert "2 files" in repr(opened)


def test_equal_content_has_equal_fingerprints_and_other_content_has_others(tmp_path):
    first, second = write(tmp_path / "a"), write(tmp_path / "b")
    other = write(tmp_path / "c", weights=WEIGHTS[::-1])
    assert first.manifest.fingerprint == second.manifest.fingerprint != other.manifest.fingerprint


def test_a_bundle_replaces_a_bundle_and_leaves_nothing_beside(tmp_path):
    old = write(tmp_path / "b")
    new = write(tmp_path / "b", weights=b"new")
    assert (tmp_path / "b/data/weights.bin").read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["b"]
    assert new.is_current()
    assert not old.is_current()


def test_an_error_leaves_the_old_bundle_and_nothing_else(tmp_path):
    old = write(tmp_path / "b")
    with pytest.raises(ZeroDivisionError), create(tmp_path / "b") as draft:
        (draft.folder / "model.onnx").write_bytes(b"half")
        raise ZeroDivisionError
    assert old.is_current()
    with pytest.raises(BundleError, match=r"manifest\.graph"), create(tmp_path / "b") as draft:
        draft.graph = "absent.onnx"
    with pytest.raises(BundleError, match="JSON"), create(tmp_path / "c") as draft:
        (draft.folder / "model.onnx").touch()
        draft.quality = {"snr_db": float("nan")}
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_without_an_exchanging_rename_replacing_works_too(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "_renameat2", lambda: None)
    old = write(tmp_path / "b")
    write(tmp_path / "b", weights=b"new")
    assert not old.is_current()
    assert [path.name for path in tmp_path.iterdir()] == ["b"]
    # Killed between its two renames: readers find the old one, the next writer puts it back.
    (tmp_path / "b").rename(tmp_path / ".b.previous")
    assert is_bundle(tmp_path / "b")
    assert Bundle.open(tmp_path / "b", checksums=True).manifest.files[0].bytes == 3
    folders.sweep(tmp_path / "b")
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_an_unknown_failure_of_the_exchange_is_an_error_not_a_fallback(tmp_path, monkeypatch):
    old = write(tmp_path / "b")

    def fail(*_: object) -> int:
        folders.ctypes.set_errno(errno.EIO)
        return -1

    monkeypatch.setattr(folders, "_renameat2", lambda: fail)
    with pytest.raises(BundleError, match="Expected to write"):
        write(tmp_path / "b", weights=b"new")
    assert old.is_current()


def test_leftovers_of_the_dead_are_swept_and_those_of_the_living_are_not(tmp_path):
    (tmp_path / ".b.1-dead.partial").mkdir()
    (tmp_path / ".b.1-dead.partial" / "weights.bin").write_bytes(b"x" * 100)
    (tmp_path / ".other.1-dead.partial").mkdir()
    with create(tmp_path / "b") as draft:
        (draft.folder / "model.onnx").touch()
        assert not (tmp_path / ".b.1-dead.partial").exists()
        write(tmp_path / "b", weights=b"a second writer, meanwhile")
        assert draft.folder.is_dir()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".other.1-dead.partial", "b"]


def test_what_is_no_bundle_is_never_replaced(tmp_path):
    file, folder, guest = tmp_path / "file", tmp_path / "folder", tmp_path / "guest"
    file.write_text("mine")
    folder.mkdir()
    (folder / "thesis.txt").write_text("mine")
    for path in (file, folder):
        with pytest.raises(BundleError, match="something else"):
            write(path)
    write(guest)
    (guest / "thesis.txt").write_text("mine")
    with pytest.raises(BundleError, match=r"thesis\.txt"):
        write(guest)
    assert {path.read_text() for path in (file, folder / "thesis.txt", guest / "thesis.txt")} == {"mine"}
    empty = tmp_path / "empty"
    empty.mkdir()
    assert write(empty).is_current()


def test_errors_of_the_callers_own_files_pass_through_but_a_full_disk_is_ours(tmp_path):
    with pytest.raises(FileNotFoundError), create(tmp_path / "b"):
        (tmp_path / "absent").read_bytes()
    with pytest.raises(BundleError, match="No space"), create(tmp_path / "b"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name", ["../x", "/etc/passwd", "a/../../x", "a//b", "./a", "", "a\\b", "C:x", "a\nb", "\udc80"]
)
def test_a_name_that_leaves_the_folder_is_refused(tmp_path, name):
    write(tmp_path / "b")
    entry = {"name": name, "bytes": 1, "xxh3_128": "0" * 32}
    rewrite(tmp_path / "b", {"files": [entry], "graph": name or "model.onnx"})
    with pytest.raises(BundleError, match=r"files\[0\]\.name"):
        Bundle.open(tmp_path / "b")


def test_a_link_out_of_the_folder_is_refused_even_where_size_and_checksum_fit(tmp_path):
    write(tmp_path / "b")
    place = tmp_path / "b/data/weights.bin"
    place.rename(tmp_path / "outside")
    place.symlink_to(tmp_path / "outside")
    with pytest.raises(BundleError, match="link that leaves"):
        Bundle.open(tmp_path / "b", checksums=True)
    with pytest.raises(BundleError, match="symbolic link"), create(tmp_path / "c") as draft:
        (draft.folder / "model.onnx").symlink_to(tmp_path / "outside")
    with pytest.raises(BundleError, match="symbolic link"), create(tmp_path / "c") as draft:
        (draft.folder / "model.onnx").touch()
        (draft.folder / "data").symlink_to(tmp_path)


def test_a_pipe_is_refused_and_does_not_block(tmp_path):
    write(tmp_path / "b")
    (tmp_path / "b/model.onnx").unlink()
    os.mkfifo(tmp_path / "b/model.onnx")
    with pytest.raises(BundleError, match="regular file"):
        Bundle.open(tmp_path / "b")


def test_missing_and_damaged_files_are_named(tmp_path):
    path = tmp_path / "b"
    write(path)
    weights = path / "data/weights.bin"
    damaged = bytearray(WEIGHTS)
    damaged[77] ^= 1
    weights.write_bytes(damaged)
    Bundle.open(path)
    with pytest.raises(BundleError, match=r"checksum.*data/weights\.bin"):
        Bundle.open(path, checksums=True)
    weights.write_bytes(WEIGHTS[:-1])
    with pytest.raises(BundleError, match=r"16384 bytes, got 16383.*data/weights\.bin"):
        Bundle.open(path)
    weights.unlink()
    with pytest.raises(BundleError, match=r"got nothing - at data/weights\.bin"):
        Bundle.open(path)
    (path / "manifest.json").unlink()
    with pytest.raises(BundleError, match=r"got nothing - at manifest\.json"):
        Bundle.open(path)
    assert not is_bundle(path)
    with pytest.raises(BundleError, match="got nothing"):
        Bundle.open(tmp_path / "absent")
    with pytest.raises(BundleError, match="got a file"):
        Bundle.open(weights.parent.parent.parent / "b/model.onnx")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"format": "a model card"}, "none of ours"),
        ({"schema": 2}, "schema 2"),
        ({"schema": 0}, r"manifest\.schema"),
        ({"schema": True}, r"manifest\.schema"),
        ({"schema": "1"}, r"manifest\.schema"),
        ({"graph": "weights"}, r"manifest\.graph"),
        ({"graph": None}, r"manifest\.graph"),
        ({"files": {}}, r"manifest\.files"),
        ({"files": [7]}, r"manifest\.files\[0\]"),
        ({"files": [{"name": "model.onnx"}]}, r"files\[0\].*none|key 'bytes'"),
        ({"files": [{"name": "model.onnx", "bytes": -1, "xxh3_128": "0" * 32}]}, r"files\[0\]\.bytes"),
        ({"files": [{"name": "model.onnx", "bytes": 2**64, "xxh3_128": "0" * 32}]}, "beyond 64 bits"),
        ({"files": [{"name": "model.onnx", "bytes": 1.0, "xxh3_128": "0" * 32}]}, r"files\[0\]\.bytes"),
        ({"files": [{"name": "model.onnx", "bytes": 1, "xxh3_128": "0" * 31 + "G"}]}, "hexadecimal"),
        ({"files": [{"name": "model.onnx", "bytes": 5, "xxh3_128": "0" * 32}] * 2}, "listed twice"),
        (
            {"files": [{"name": "model.onnx", "bytes": 5, "xxh3_128": "0" * 32, "mode": 1}]},
            "no further key, got 'mode'",
        ),
        ({"files": [{"name": "model.onnx", "bytes": 2**62, "xxh3_128": "0" * 32}]}, r"got 5 - at model\.onnx"),
        ({"state": {"a": "x", "b": "x"}}, "feeds two"),
        ({"state": {"a": 1}}, r"manifest\.state\.a"),
        ({"state": []}, r"manifest\.state"),
        ({"audio": {"sample_rate": 24000}}, "key 'hop'"),
        ({"audio": "yes"}, r"manifest\.audio"),
        ({"audio": {"sample_rate": 0, "hop": 1, "input": "a", "output": "b", "first_chunk_deficit": 0}}, "sample_rate"),
        ({"opset": {"": "20"}}, r"manifest\.opset"),
        ({"operators": -1}, r"manifest\.operators"),
        ({"quality": 3}, r"manifest\.quality"),
        ({"extra": 1}, "no further key, got 'extra'"),
    ],
)
def test_a_manifest_is_taken_apart_strictly(tmp_path, change, complaint):
    write(tmp_path / "b")
    rewrite(tmp_path / "b", change)
    with pytest.raises(BundleError, match=complaint):
        Bundle.open(tmp_path / "b")


def test_a_later_schema_names_the_folder_and_keeps_the_remedy(tmp_path):
    write(tmp_path / "b")
    rewrite(tmp_path / "b", {"schema": 2})
    with pytest.raises(BundleError, match=r"at manifest\.schema in .*b\n  hint: ") as caught:
        Bundle.open(tmp_path / "b")
    assert "later release" in caught.value.hint


def test_a_manifest_edited_by_hand_is_known_for_it(tmp_path):
    write(tmp_path / "b", state={"a": "b"})
    rewrite(tmp_path / "b", {"state": {"a": "c"}}, sign=False)
    with pytest.raises(BundleError, match="changed after it was written"):
        Bundle.open(tmp_path / "b")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (b"", "JSON"),
        (b"\xff\xfe", "JSON"),
        (b"[]", "an object"),
        (b"[" * 100_000, "JSON"),
        (b"[" * 40 + b"]" * 40, "nesting"),
        (b'{"a": 1, "a": 2}', "twice"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": 1e999}', "beyond"),
        (b'{"a": ' + b"9" * 5000 + b"}", "JSON|format"),
        (b" " * (4 << 20) + b"{}", "at most 4194304 bytes"),
    ],
)
def test_hostile_json_is_refused(tmp_path, text, complaint):
    write(tmp_path / "b")
    (tmp_path / "b/manifest.json").write_bytes(text)
    with pytest.raises(BundleError, match=complaint):
        Bundle.open(tmp_path / "b")


def test_every_flipped_bit_of_a_manifest_is_noticed(tmp_path):
    text = (write(tmp_path / "b", state={"a": "b"}).path / "manifest.json").read_bytes()
    whole = manifest.parse(text)
    for position in range(len(text)):
        damaged = bytearray(text)
        damaged[position] ^= 1 << position % 8
        try:
            assert manifest.parse(bytes(damaged)) == whole  # a blank that became another blank
        except BundleError:
            continue


KILLING = Path(__file__).with_name("killing.py")


def kill_writers(tmp_path: Path, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, KILLING, *arguments, str(tmp_path)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "broken 0" in done.stdout


@pytest.mark.parametrize("swap", ["exchange", "two-steps"])
def test_a_writer_killed_at_any_instant_leaves_a_whole_bundle(tmp_path, swap):
    kill_writers(tmp_path, "bundle", swap, "10")


@pytest.mark.heavy
@pytest.mark.parametrize("swap", ["exchange", "two-steps"])
def test_a_writer_killed_at_200_instants_leaves_a_whole_bundle(tmp_path, swap):
    kill_writers(tmp_path, "bundle", swap, "200")


def test_readers_beside_a_writer_see_whole_bundles(tmp_path):
    """A reader that meets a replacement half-way opens anew: each answer is one generation, whole."""
    write(tmp_path / "b", weights=b"0" * 4096, quality={"generation": 0})
    for generation in range(1, 40):
        reader = Bundle.open(tmp_path / "b", checksums=True)
        write(tmp_path / "b", weights=str(generation % 10).encode() * 4096, quality={"generation": generation})
        assert reader.manifest.quality["generation"] == generation - 1
        assert not reader.is_current()
        assert Bundle.open(tmp_path / "b", checksums=True).is_current()


def test_a_bundle_replaced_while_it_is_read_is_opened_anew(tmp_path, monkeypatch):
    write(tmp_path / "b", quality={"generation": 1})
    check, replaced = files.check, []

    def replace_once(*arguments, **named):
        if not replaced:
            replaced.append(True)
            write(tmp_path / "b", weights=b"new", quality={"generation": 2})
        return check(*arguments, **named)

    monkeypatch.setattr(files, "check", replace_once)
    assert Bundle.open(tmp_path / "b", checksums=True).manifest.quality == {"generation": 2}
