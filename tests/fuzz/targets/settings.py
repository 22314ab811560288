"""Settings in TOML, as far as ONNX Runtime's own options."""

from __future__ import annotations

from omni_sdk.settings import Settings
from targets import as_file


def read(data: bytes) -> None:
    settings = Settings.from_file(as_file(data, "omni.toml"))
    settings.check()
    settings.provider_list()
    settings.session_options()
    Settings.from_dict(settings.to_dict())
