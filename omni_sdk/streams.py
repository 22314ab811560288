"""Which stream a model is opened as."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from omni_sdk import session as sessions
from omni_sdk.device_stream import DeviceStateStream, stays_on_device
from omni_sdk.errors import InputError, StreamError
from omni_sdk.runner import Runner
from omni_sdk.states import open_pairs
from omni_sdk.stream import Results, StateStream, Stream, check_constants
from omni_sdk.window import Window, WindowStream


def open_stream(
    runner: Runner,
    known: Mapping[str, str],
    state: Mapping[str, str] | None,
    window: Window | None,
    initial: Mapping[str, np.ndarray] | None,
    constants: Mapping[str, Any],
    run: Callable[[dict[str, Any]], Results],
    record: Callable[[float], None],
) -> Stream:
    """The stream for what `Model.stream` was asked.

    Parameters
    ----------
    runner : Runner
    known : mapping of str to str
        State pairs that the model's bundle names.
    state, window, initial, constants
        As `Model.stream` takes them.
    run : callable
        Feeds in, results out: one run of a model without state.
    record : callable
        Told the seconds of each step of a model with state.

    Raises
    ------
    StreamError, InputError
        As `Model.stream` does.
    """
    _check_kinds(state, window, initial)
    if window is not None:
        if state or initial:
            raise StreamError("Expected state or window, got both - at stream")
        return WindowStream(run, runner.inputs, runner.outputs, window, constants)
    pairs = open_pairs(state if state is not None else known or None, runner.inputs, runner.outputs)
    check_constants(constants, runner.inputs, pairs)
    device = sessions.memory_of(runner.opened())
    if device[0] != "cpu" and stays_on_device(runner):
        return DeviceStateStream(runner, device, pairs, constants, initial or {}, record)
    return StateStream(runner, pairs, constants, initial or {}, record)


def joined(constants: Mapping[str, Any] | None, named: dict[str, Any]) -> dict[str, Any]:
    """Constants given as a mapping and as keywords, in one dict. `InputError` when a name comes twice."""
    if constants is None:
        return named
    if not isinstance(constants, Mapping):
        raise _no_mapping("constants", constants)
    twice = sorted(constants.keys() & named.keys())
    if twice:
        raise InputError(f"Expected each constant once, got {twice[0]!r} in the mapping and as a keyword - at stream")
    return {**constants, **named}


def _check_kinds(state: object, window: object, initial: object) -> None:
    for name, value in (("state", state), ("initial", initial)):
        if value is not None and not isinstance(value, Mapping):
            raise _no_mapping(name, value)
    if window is not None and not isinstance(window, Window):
        raise InputError(f"Expected a Window, got {type(window).__name__} - at window", hint=_remedy("window"))


def _no_mapping(name: str, value: object) -> InputError:
    return InputError(f"Expected a mapping, got {type(value).__name__} - at {name}", hint=_remedy(name))


def _remedy(name: str) -> str:
    return f"an input that is called {name!r} goes in by constants={{{name!r}: array}}"
