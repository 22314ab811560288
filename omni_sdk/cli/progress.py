"""What a long command is at: a line that moves on a terminal, plain lines in a file or a pipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from omni_sdk.cli.text import safe

SHOWN = 20
"""Plain lines that a counted task has at most, but for its first and last."""


@contextmanager
def racing(console: Console, rounds: int | None) -> Iterator[Callable[[str, int, str], None]]:
    """Who is measured at what, in which of so many rounds; None where nobody knows how many there will be."""
    if not console.is_terminal:
        said: list[tuple[str, int]] = []

        def say(name: str, number: int, phase: str) -> None:
            if said[-1:] != [(name, number)]:  # a line for each process, none for each of its phases
                said[:] = [(name, number)]
                of = f" of {rounds}" if rounds else ""
                click.echo(f"round {number + 1}{of}: {name}", err=True)

        yield say
        return
    columns = (TextColumn("round"), MofNCompleteColumn(), BarColumn(20), TimeElapsedColumn(),
               TextColumn("{task.description}"))  # fmt: skip
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("inputs", total=rounds)
        yield lambda name, number, phase: bar.update(task, completed=number, description=f"{safe(name)}: {phase}")


@contextmanager
def counting(console: Console, what: str, total: int) -> Iterator[Callable[[], None]]:
    """How many of so many are done; to be called after each."""
    if not console.is_terminal:
        done = 0

        def count() -> None:
            nonlocal done
            done += 1
            if done in (1, total) or done % max(1, total // SHOWN) == 0:
                click.echo(f"{what}: {done} of {total}", err=True)

        yield count
        return
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)
