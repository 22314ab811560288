"""The service on Ray Serve: replicas behind one address.

`build` is what a Serve configuration file names as `import_path`; its `args` are the fields of `Deployed`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType
from typing import Any

from ray import serve
from ray.serve import metrics as serve_metrics
from ray.serve.config import BackpressureConfig

from omni_sdk.errors import ModelError, SettingsError
from omni_sdk.tools.scale.http import Application
from omni_sdk.tools.scale.loading import load_with_manifest
from omni_sdk.tools.scale.metrics import Metrics
from omni_sdk.tools.scale.resources import fitted, read_settings
from omni_sdk.tools.scale.service import Limits, Service, is_positive
from omni_sdk.tools.scale.signature import check_name

PUBLISH_SECONDS = 2.0
SPARE_REQUESTS = 8
"""Requests beyond what a replica takes on that still reach it: it tells them when to try again, and answers probes."""


@dataclass(frozen=True, kw_only=True)
class Deployed:
    """What is deployed, and on what.

    Parameters
    ----------
    model : str
        Path of the bundle or `.onnx` file, the same on every node.
    name : str, optional
        What clients call it; default: the file's or folder's name.
    settings : Settings, str or mapping, optional
        A preset's name, or fields of `Settings`; threads are Ray's CPUs where these leave them to `"auto"`.
    cache_dir : str, optional
        Folder of the compile cache; default: the user's on each node.
    replicas : int, default 1
    cpus : float, default 1
        Of each replica: so many threads run the model.
    warmup : mapping of str to shape, optional
        Run at these shapes before the replica is ready.
    queue_per_proxy : int, default 32
        Requests that each node's proxy keeps while every replica is full; more get 503.
    drain_seconds : float, default 60
        How long a replica that is to stop may finish what it runs.
    limits : mapping, optional
        Fields of `Limits`.

    Raises
    ------
    SettingsError
        When a value is none of its field.
    """

    model: str
    name: str | None = None
    settings: Any = None
    cache_dir: str | None = None
    replicas: int = 1
    cpus: float = 1.0
    warmup: Mapping[str, list[int]] | None = None
    queue_per_proxy: int = 32
    drain_seconds: float = 60.0
    limits: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("replicas", "queue_per_proxy"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise SettingsError(f"Expected a whole number of 1 or more, got {value!r} - at {name}")
        for name in ("cpus", "drain_seconds"):
            if not is_positive(getattr(self, name)):
                raise SettingsError(f"Expected a number above 0, got {getattr(self, name)!r} - at {name}")
        self._check_kinds()
        if not Path(self.model).exists():
            raise ModelError(f"Expected a bundle or an .onnx file, got nothing - at {self.model}")
        check_name(self.served_name)
        read_settings(self.settings)
        self.bounds()

    def _check_kinds(self) -> None:
        """Values come from a configuration file, whose writer may have left one out or taken one for another."""
        for name, kind, expected in (
            ("model", (str, os.PathLike), "a path"),
            ("name", (str, NoneType), "a name"),
            ("cache_dir", (str, os.PathLike, NoneType), "a folder"),
            ("warmup", (Mapping, NoneType), "a table of shapes"),
            ("limits", Mapping, "a table of limits"),
        ):
            value = getattr(self, name)
            if not isinstance(value, kind):
                raise SettingsError(f"Expected {expected}, got {value!r} - at {name}")

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Deployed:
        """From plain values, as a configuration file has them.

        Raises
        ------
        SettingsError
            When a name is no field, or `model` is missing.
        """
        known = {one.name for one in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known, key=str)
        if unknown or "model" not in values:
            got = f"{unknown[0]!r}" if unknown else "no model"
            raise SettingsError(f"Expected some of {', '.join(sorted(known))}, got {got} - at the application's args")
        return cls(**values)

    @property
    def served_name(self) -> str:
        """What clients call the model."""
        if self.name is not None:
            return self.name
        path = Path(self.model).resolve()
        return path.name if path.is_dir() else path.stem

    def bounds(self) -> Limits:
        """The limits of each replica. `SettingsError` when one is wrong."""
        known = {one.name for one in dataclasses.fields(Limits)}
        unknown = sorted(set(self.limits) - known, key=str)
        if unknown:
            raise SettingsError(f"Expected some of {', '.join(sorted(known))}, got {unknown[0]!r} - at limits")
        return Limits(**self.limits)


class Replica:
    """One replica: the model, loaded once from the compile cache, behind its own gate.

    Parameters
    ----------
    deployed : Deployed
    """

    def __init__(self, deployed: Deployed) -> None:
        self._ends = ExitStack()  # as far as the following comes: `__del__` also runs after a failure of it
        limits = deployed.bounds()
        settings = fitted(read_settings(deployed.settings)).replace(async_workers=limits.slots)
        self._model, manifest = load_with_manifest(deployed.model, settings, deployed.cache_dir or ...)
        self._ends.callback(self._model.close)
        state = dict(manifest.state) if manifest is not None else {}
        name = deployed.served_name
        audio = manifest.audio if manifest is not None else None
        self._service = Service(self._model, name, limits, audio=audio, state=state)
        self._ends.callback(self._service.close)
        if deployed.warmup:
            self._model.warmup(deployed.warmup)
        self._metrics = Metrics(serve_metrics, name)
        self._application = Application(self._service, self._metrics.answered)

    def __serve_build_asgi_app__(self) -> Application:
        publishing = asyncio.get_running_loop().create_task(self._publish())
        self._ends.callback(publishing.cancel)
        return self._application

    async def _publish(self) -> None:
        while True:
            self._metrics.publish(self._model.stats(), self._service.gate.waiting)
            await asyncio.sleep(PUBLISH_SECONDS)

    async def check_health(self) -> None:
        """Ray Serve's question: replaces the replica where a run hangs."""
        if self._service.gate.is_stuck:
            raise RuntimeError("Expected runs that end at their deadline, got one that hangs - at the replica")

    def __del__(self) -> None:
        """After the drain: what ran has ended."""
        ends = vars(self).get("_ends")
        if ends is not None:
            ends.close()


def build(args: Mapping[str, Any]) -> serve.Application:
    """The application that Ray Serve deploys.

    Parameters
    ----------
    args : mapping
        Fields of `Deployed`.

    Raises
    ------
    SettingsError, ModelError
        When they are wrong.
    """
    deployed = Deployed.of(args)
    limits = deployed.bounds()
    deployment = serve.deployment(
        serve.ingress()(Replica),
        name="Model",
        num_replicas=deployed.replicas,
        ray_actor_options={"num_cpus": deployed.cpus},
        max_ongoing_requests=limits.slots + limits.queue + limits.streams + SPARE_REQUESTS,
        max_queued_requests=deployed.queue_per_proxy,
        backpressure_config=BackpressureConfig(status_code=503, retry_after_s=1.0),
        graceful_shutdown_timeout_s=deployed.drain_seconds,
        graceful_shutdown_wait_loop_s=0.5,
        health_check_period_s=5.0,
    )
    return deployment.bind(deployed)
