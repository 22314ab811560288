"""A model of a host, as its users see it: there when it is called, whether it was put away meanwhile or not."""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from omni_sdk import feeds as feeding
from omni_sdk.awaiting import AwaitedCalls
from omni_sdk.binding import Interrupt
from omni_sdk.errors import ModelError
from omni_sdk.model import Model

if TYPE_CHECKING:
    from omni_sdk.stream import Stream


class Keeper(Protocol):
    """Whoever loads models and puts them away: a `Host`."""

    calls: AwaitedCalls

    def using(self, name: str, interrupt: Interrupt | None = None) -> AbstractContextManager[Model]: ...

    def hold(self, name: str, interrupt: Interrupt | None = None) -> Model: ...

    def let_go(self, name: str, holder: int) -> None: ...


class HostedModel(Model):
    """A stand-in for a model that its host loads when it is called and may put away between calls.

    Every call is the model's own. A stream holds the model from `stream()` to `close()`: its state lives there.
    """

    def __init__(self, keeper: Keeper, name: str) -> None:
        self._keeper = keeper
        self._hosted_name = name

    def _model(self, interrupt: Interrupt | None = None) -> AbstractContextManager[Model]:
        # An interrupt of its own: one of this thread's that fired before says nothing about this call.
        return self._keeper.using(self._hosted_name, interrupt or Interrupt())

    def __getattr__(self, name: str) -> Any:
        # What is not a call of its own below (specs, settings) is read off the model.
        if name.startswith("_"):
            raise AttributeError(name)
        with self._model() as model:
            return getattr(model, name)

    def infer(
        self,
        feeds: Mapping[str, Any] | None = None,
        /,
        *,
        out: Mapping[str, np.ndarray] | None = None,
        cache: bool | None = None,
        timeout: float | None = None,
        **named: Any,
    ) -> dict[str, Any]:
        """As `Model.infer`; the time counts while the call waits for room as well."""
        if timeout is None:
            with self._model() as model:
                return model.infer(feeds, out=out, cache=cache, **named)
        interrupt = Interrupt(timeout)
        given = feeding.merged({} if feeds is None else feeds, named)
        try:
            with interrupt, self._model(interrupt) as model:
                return model._infer(given, out, cache, interrupt)
        except CancelledError as error:
            message = f"Expected a result within {interrupt.timeout} s, got none - at {self._hosted_name!r} of the host"
            raise TimeoutError(message) from error

    async def infer_async(
        self,
        feeds: Mapping[str, Any] | None = None,
        /,
        *,
        out: Mapping[str, np.ndarray] | None = None,
        cache: bool | None = None,
        timeout: float | None = None,
        **named: Any,
    ) -> dict[str, Any]:
        """As `Model.infer_async`, on threads of the host's; cancelling it ends the wait for room as well."""
        interrupt = Interrupt(timeout)
        given = feeding.merged({} if feeds is None else feeds, named)

        def call() -> dict[str, Any]:
            with self._model(interrupt) as model:
                return model._infer(given, out, cache, interrupt)

        return await self._keeper.calls.run(call, interrupt)

    def warmup(self, *shapes: Any, **named: Any) -> Any:
        """As `Model.warmup`."""
        with self._model() as model:
            return model.warmup(*shapes, **named)

    @contextlib.contextmanager
    def input_buffers(self, /, **shapes: Any) -> Iterator[dict[str, Any]]:
        """As `Model.input_buffers`; the model is held meanwhile."""
        with self._model() as model, model.input_buffers(**shapes) as buffers:
            yield buffers

    def stream(self, /, **named: Any) -> Stream:
        """As `Model.stream`; the model is held until the stream is closed, by the thread that opened it."""
        model = self._keeper.hold(self._hosted_name, Interrupt())
        try:
            stream = model.stream(**named)
        except BaseException:
            self._keeper.let_go(self._hosted_name, threading.get_ident())
            raise
        release = weakref.finalize(stream, self._keeper.let_go, self._hosted_name, threading.get_ident())
        stream.on_close(release)
        return stream

    def stats(self) -> Any:
        """As `Model.stats`; counts begin anew when the model was put away."""
        with self._model() as model:
            return model.stats()

    def memory(self) -> Any:
        """As `Model.memory`."""
        with self._model() as model:
            return model.memory()

    def explain(self) -> Any:
        """As `Model.explain`."""
        with self._model() as model:
            return model.explain()

    def close(self) -> None:
        """Nothing to do: the host closes its models."""

    def __reduce__(self) -> tuple[Any, ...]:
        raise ModelError(
            f"Expected a model of its own, got one of a host - at pickling {self._hosted_name!r}",
            hint="pickle the model's path and settings, and add it to a host there",
        )

    def __repr__(self) -> str:
        return f"<HostedModel {self._hosted_name!r}>"
