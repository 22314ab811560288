"""Tuned profiles."""

from __future__ import annotations

from omni_sdk.profiles import Profile


def read(data: bytes) -> None:
    profile = Profile.from_bytes(data)
    Profile.from_bytes(profile.to_text().encode())
