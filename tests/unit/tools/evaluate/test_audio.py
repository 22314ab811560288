"""Audio in: formats, channels, rates, and what broken files get."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from omni_sdk.errors import InputError, OmniError
from omni_sdk.tools.evaluate.audio import find_audio, read_audio
from omni_sdk.tools.evaluate.extras import require

WriteAudio = Callable[..., Path]
Voice = Callable[..., npt.NDArray[np.float32]]


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_formats_come_out_alike(write_audio: WriteAudio, voice: Voice, suffix: str) -> None:
    clip = read_audio(write_audio(f"a.{suffix}"))
    assert clip.sample_rate == clip.source_rate == 16_000
    assert clip.samples.dtype == np.float32
    assert clip.seconds == pytest.approx(1.0, abs=0.1)
    assert np.corrcoef(clip.samples[:16_000], voice()[: clip.samples.size])[0, 1] > 0.98


def test_channels_are_averaged(write_audio: WriteAudio) -> None:
    path = write_audio("s.wav", np.stack([np.full(100, 0.5), np.full(100, -0.25)], axis=1))
    np.testing.assert_allclose(read_audio(path).samples, 0.125, atol=1e-4)


def test_another_rate_is_resampled_and_said(write_audio: WriteAudio, voice: Voice) -> None:
    clip = read_audio(write_audio("a.wav", sample_rate=48_000), 16_000)
    assert clip.resampled
    assert (clip.source_rate, clip.sample_rate, clip.samples.size) == (48_000, 16_000, 16_000)
    assert np.corrcoef(clip.samples, voice())[0, 1] > 0.99


def test_the_same_rate_is_left_alone(write_audio: WriteAudio) -> None:
    samples = np.float32([0.0, 0.5, -0.5])
    clip = read_audio(write_audio("a.flac", samples), 16_000)
    assert not clip.resampled
    np.testing.assert_array_equal(clip.samples, samples)


def test_what_is_no_audio_is_named(tmp_path: Path, write_audio: WriteAudio) -> None:
    text = tmp_path / "text.mp3"
    text.write_bytes(b"not audio at all")
    for path, said in (
        (tmp_path / "absent.wav", "got no file"),
        (tmp_path, "got no file"),
        (text, "rejects"),
        (write_audio("empty.wav", np.zeros(0)), "empty recording"),
        (tmp_path / ("a" * 300), "got File name too long"),
    ):
        with pytest.raises(InputError, match=said) as caught:
            read_audio(path)
        assert path == tmp_path or find_audio(path) == [path]
        assert str(path) in str(caught.value)


def test_a_header_that_claims_more_than_memory_holds_is_named(
    write_audio: WriteAudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*arguments: object, **options: object) -> None:
        raise MemoryError("Unable to allocate 256. GiB")

    monkeypatch.setattr("soundfile.read", read)
    with pytest.raises(InputError, match=r"rejects \(Unable to allocate 256\. GiB\)"):
        read_audio(write_audio("a.flac"))


def test_samples_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    path = tmp_path / "nan.wav"
    soundfile.write(str(path), np.float32([0, np.nan, 1]), 16_000, subtype="FLOAT")
    with pytest.raises(InputError, match="got 1 that are not"):
        read_audio(path)


def test_a_missing_package_names_its_extra() -> None:
    with pytest.raises(OmniError, match=r"pip install 'omni-sdk\[eval\]'"):
        require("no_such_package.part")
