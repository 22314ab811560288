"""`omni-sdk serve`: a model behind the Open Inference Protocol, on this machine."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
from rich.console import Console
from rich.markup import escape

from omni_sdk.cli.parameters import shapes_option

console = Console(highlight=False)


@click.command()
@click.argument("model", type=click.Path(exists=True, path_type=Path))
@click.option("--name", help="What clients call the model; default: the file's or folder's name.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Interface to listen on.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(1, 65535))
@click.option("--replicas", default=1, show_default=True, type=click.IntRange(min=1))
@click.option(
    "--cpus",
    default=1.0,
    show_default=True,
    type=click.FloatRange(min=0, min_open=True),
    help="Of each replica: so many threads.",
)
@click.option("--settings", metavar="PRESET|FILE", help="A preset's name or a settings file; default: balanced.")
@shapes_option("--warmup", help="Run at this shape before being ready.")
@click.option(
    "--queue",
    default=1,
    show_default=True,
    type=click.IntRange(min=0),
    help="Requests of each replica that wait; more get 429.",
)
@click.option(
    "--streams",
    default=8,
    show_default=True,
    type=click.IntRange(min=0),
    help="Audio streams of each replica; more get 429.",
)
@click.option(
    "--deadline",
    default=30.0,
    show_default=True,
    type=click.FloatRange(min=0, min_open=True),
    help="Seconds for an answer.",
)
@click.option("--max-body", default=16, show_default=True, type=click.IntRange(min=1), help="MiB of a request.")
@click.option(
    "--drain",
    default=60.0,
    show_default=True,
    type=click.FloatRange(min=0, min_open=True),
    help="Seconds that running requests have at the end.",
)
def command(
    model: Path, name: str | None, host: str, port: int, replicas: int, cpus: float, settings: str | None,
    warmup: dict[str, tuple[int, ...]], queue: int, streams: int, deadline: float, max_body: int, drain: float,
) -> None:  # fmt: skip
    """Serve MODEL, a bundle or an .onnx file, until interrupted; then what runs may finish.

    Needs the extra `ray`. On a cluster, Ray's own command deploys the same from a file: docs/scale.md.
    """
    from omni_sdk.tools import scale

    scale.build  # noqa: B018 - says what to install before anything starts
    from omni_sdk.tools.scale import local
    from omni_sdk.tools.scale.deployment import Deployed

    args: dict[str, Any] = {
        "model": str(model.resolve()),
        "name": name,
        "settings": _settings(settings),
        "replicas": replicas,
        "cpus": cpus,
        "warmup": {tensor: list(shape) for tensor, shape in warmup.items()} or None,
        "drain_seconds": drain,
        "limits": {
            "queue": queue,
            "streams": streams,
            "deadline_seconds": deadline,
            "max_body_bytes": max_body << 20,
        },
    }
    Deployed.of(args)  # what is wrong with them is told before Ray starts
    with local.cluster(replicas * cpus):
        stop = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        with console.status("starting Ray Serve"):
            running = local.server(args, host=host, port=port)
            address = running.__enter__()
        try:
            _tell(address)
            stop.wait()
            console.print("draining")
        finally:
            running.__exit__(None, None, None)


def _settings(text: str | None) -> Any:
    from omni_sdk.settings import Settings

    return Settings.from_file(text) if text is not None and text.endswith(".toml") else text


def _tell(address: Any) -> None:
    path = f"{address.url}/v2/models/{quote(address.model, safe='')}"
    console.print(f"[bold]{escape(address.model)}[/] is ready; end with Ctrl+C", soft_wrap=True)
    for what, where in (("infer", f"{path}/infer"), ("audio", f"{path}/audio"), ("metrics", address.metrics_url)):
        console.print(f"  {what:8}{escape(where)}", soft_wrap=True)
