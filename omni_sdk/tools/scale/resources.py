"""What Ray gave a worker, and the settings that follow from it."""

from __future__ import annotations

import ray

from omni_sdk.errors import SettingsError
from omni_sdk.settings import Settings


def threads_given() -> int | None:
    """Threads for the CPUs that Ray assigned to this actor, a part of one for 1; None outside an actor or task."""
    if not ray.is_initialized():
        return None
    context = ray.get_runtime_context()
    if context.worker.mode != ray.WORKER_MODE:
        return None
    return max(1, int(context.get_assigned_resources().get("CPU", 1)))


def fitted(settings: Settings) -> Settings:
    """The settings, with `intra_op_num_threads="auto"` made what Ray gave: `"auto"` would take the whole machine."""
    threads = threads_given()
    if threads is None or settings.intra_op_num_threads != "auto":
        return settings
    return settings.replace(intra_op_num_threads=threads)


def read_settings(settings: Settings | str | dict[str, object] | None) -> Settings:
    """Settings as they come from Python, or as plain values from a configuration file: a preset's name or fields.

    Raises
    ------
    SettingsError
        When they are neither.
    """
    if isinstance(settings, Settings):
        return settings
    if settings is None or isinstance(settings, str):
        return Settings.from_dict({"preset": settings or "balanced"})
    if isinstance(settings, dict):
        return Settings.from_dict(settings)
    raise SettingsError(f"Expected a preset's name or a table of fields, got {settings!r} - at settings")
