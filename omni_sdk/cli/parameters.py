"""Option types that several commands share."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


class ShapeParameter(click.ParamType):  # type: ignore[type-arg]  # which click has no place for before 8.4
    """`NAME=1,16,128`: the shape of one input."""

    name = "NAME=SIZES"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, tuple[int, ...]]:
        """The input's name and its sizes."""
        match = re.fullmatch(r"(.+)=(\d+(?:[,x]\d+)*)?", str(value))
        if match is None:
            self.fail(f"Expected NAME=1,16,128, got {value!r}", param, ctx)
        sizes = match[2] or ""
        return match[1], tuple(int(size) for size in re.split("[,x]", sizes) if size)


class FixedParameter(click.ParamType):  # type: ignore[type-arg]
    """`NAME=VALUE`, the value a number or a list of numbers as JSON writes them."""

    name = "NAME=VALUE"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Any]:
        """The name and the value."""
        name, equals, text = str(value).partition("=")
        try:
            return name, json.loads(text if name and equals else "")
        except ValueError:
            where = param.opts[0] if param is not None else self.name
            self.fail(f"Expected NAME=VALUE such as sr=16000, got {value!r} - at {where}", param, ctx)


def shapes_option(*names: str, help: str) -> Callable[[F], F]:
    """An option that gives shapes by the names of inputs: `--shape x=1,16 --shape h=2,4`."""
    return click.option(*names, type=ShapeParameter(), multiple=True, callback=_by_name, help=help)


def values_option(*names: str, help: str) -> Callable[[F], F]:
    """An option that gives values by the names of inputs: `--value sr=16000`."""
    return click.option(*names, type=FixedParameter(), multiple=True, callback=_by_name, help=help)


def _by_name(ctx: click.Context, param: click.Parameter, given: tuple[tuple[str, T], ...]) -> dict[str, T]:
    """None may come twice, and win in silence."""
    names = [name for name, _ in given]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise click.BadParameter(f"Expected each name once, got {twice[0]!r} {names.count(twice[0])} times")
    return dict(given)
