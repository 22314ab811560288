"""Text of others on a terminal."""

from __future__ import annotations

from rich.markup import escape


def safe(text: object) -> str:
    """As it is on any terminal: brackets are no markup, and half a surrogate pair, which UTF-8 lacks, is its escape."""
    return escape(str(text).encode("utf-8", "backslashreplace").decode())
