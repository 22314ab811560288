"""The form that a stream of audio has on the wire: WAV, or its samples alone."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qs

from omni_sdk.tools import wav
from omni_sdk.tools.scale.problems import Problem
from omni_sdk.tools.scale.tensors import shown

FORMATS = ("wav", "pcm")


def format_asked(query: bytes) -> str:
    """`wav` or `pcm` of a query such as `format=pcm`; `wav` where it says nothing.

    Raises
    ------
    Problem
        For another format.
    """
    asked = parse_qs(query.decode("latin-1")).get("format", ["wav"])[-1]
    if asked not in FORMATS:
        raise Problem(f"Expected one of {', '.join(FORMATS)}, got {shown(asked)} - at format")
    return asked


def headers_for(form: str, sample_rate: int, samples: int) -> Mapping[str, str]:
    """What the response says of a stream of one channel, 16 bits, little-endian.

    Parameters
    ----------
    form : {"wav", "pcm"}
    sample_rate : int
        Hz.
    samples : int
        How many will come.
    """
    kind = "audio/wav" if form == "wav" else f"audio/pcm;rate={sample_rate};channels=1;encoding=s16le"
    return {"content-type": kind, "x-audio-sample-rate": str(sample_rate), "x-audio-samples": str(samples)}


def head_of(form: str, sample_rate: int, samples: int) -> bytes:
    """What goes before the samples: WAV's header, with the length that the whole will have.

    Raises
    ------
    Problem
        When that is more than WAV can count.
    """
    if form == "wav" and samples > wav.MAX_SAMPLES:
        raise Problem(f"Expected at most {wav.MAX_SAMPLES} samples for WAV, got {samples} - at the codes",
                      hint="ask for format=pcm")  # fmt: skip
    return wav.header(sample_rate, samples) if form == "wav" else b""
