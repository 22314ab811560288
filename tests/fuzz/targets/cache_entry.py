"""Listings of compile-cache entries."""

from __future__ import annotations

from omni_sdk.files import files_of
from omni_sdk.strict import Reader, decode


def read(data: bytes) -> None:
    document = Reader(decode(data, "entry"), "entry")
    document.take("format")
    document.digest("key")
    files_of(document)
    document.close()
