"""Ray Serve on this machine alone: started, and ended by itself."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
from ray import serve

from omni_sdk import cpu
from omni_sdk.errors import OmniError
from omni_sdk.tools.scale.deployment import Deployed, build

LOOPBACK = "127.0.0.1"
APPLICATION = "omni-sdk"
OBJECT_STORE_BYTES = 200 << 20
"""What Ray keeps objects in; requests and answers of ordinary size go past it."""

ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # Ray's own 15 is for workers beside the machine's real job; here they are it
}
"""What Ray is told, where the environment does not say otherwise."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a local server answers.

    Attributes
    ----------
    model : str
        What clients call the model.
    url : str
    metrics_url : str
        Where Prometheus reads; Ray brings it up to date every few seconds.
    """

    model: str
    url: str
    metrics_url: str


@contextmanager
def cluster(cpus: float | None = None) -> Iterator[None]:
    """A Ray of one node, that ends with the context and reports to nobody.

    Parameters
    ----------
    cpus : float, optional
        Least number of CPUs that it hands out; default: those of this process.

    Raises
    ------
    OmniError
        When Ray does not start.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    with _explained("Ray to start on this machine"):
        ray.init(
            address="local",
            num_cpus=max(cpu.usable_cores(), math.ceil(cpus or 0)),
            object_store_memory=OBJECT_STORE_BYTES,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.WARNING,
        )
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def server(args: Mapping[str, Any], *, host: str = LOOPBACK, port: int = 8000) -> Iterator[Address]:
    """Serve a model on the Ray of this process; at the end it drains.

    Parameters
    ----------
    args : mapping
        Fields of `Deployed`.
    host : str, default "127.0.0.1"
        Interface to listen on; every one is `0.0.0.0`.
    port : int, default 8000

    Yields
    ------
    Address
        Once every replica is ready.

    Raises
    ------
    SettingsError, ModelError
        When the arguments are wrong.
    OmniError
        When a replica cannot start: the model cannot be loaded, or the port is taken.
    """
    deployed = Deployed.of(args)
    application = build(args)
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    serve.start(http_options={"host": host, "port": port}, logging_config={"log_level": "ERROR"})
    try:
        with _explained("the model to be served"):
            serve.run(application, name=APPLICATION, route_prefix="/")
        node = ray.nodes()[0]
        metrics = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
        yield Address(deployed.served_name, f"http://{host}:{port}", metrics)
    finally:
        if APPLICATION in serve.status().applications:
            serve.delete(APPLICATION)  # waits for what runs, as long as `drain_seconds`
        serve.shutdown()


@contextmanager
def _explained(expected: str) -> Iterator[None]:
    """Ray raises of many kinds; each says what it was about."""
    try:
        yield
    except Exception as error:
        message = f"Expected {expected}, got a failure of Ray - at {error}"
        raise OmniError(message, hint="a busy machine may need another try") from error
