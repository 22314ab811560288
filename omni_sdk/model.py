"""`load` and `Model`: every call of the public face, each handed to the room that knows how."""

from __future__ import annotations

import functools
import os
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from types import EllipsisType
from typing import Any

import numpy as np

from omni_sdk import agreement, compiled, forking, mapped, memory, profiles, streams
from omni_sdk import feeds as feeding
from omni_sdk import session as sessions
from omni_sdk import shapes as shaping
from omni_sdk import warmup as warming
from omni_sdk.awaiting import AwaitedCalls
from omni_sdk.binding import Interrupt, RunFailed
from omni_sdk.budget import MemoryUse, RunBudget
from omni_sdk.caller import Caller, keys_early
from omni_sdk.errors import ClosedError, ModelError
from omni_sdk.explain import Explanation
from omni_sdk.parts import parts_of, recipe_of, told_of_shapes
from omni_sdk.process_pools import give_back_arena
from omni_sdk.reports import explanation_of, stats_of
from omni_sdk.settings import Settings, settings_of
from omni_sdk.states import with_first_states
from omni_sdk.stats import Stats
from omni_sdk.stream import Stream
from omni_sdk.warmup import WarmupReport
from omni_sdk.window import Window

Shapes = Mapping[str, Sequence[int]]


def load(
    source: str | os.PathLike[str] | bytes,
    settings: Settings | str | None = None,
    *,
    cache_dir: str | os.PathLike[str] | EllipsisType | None = ...,
) -> Model:
    """Loads a model.

    Parameters
    ----------
    source : path or bytes
        A `.onnx` or `.ort` file, a bundle folder, or a serialized model.
    settings : Settings or str, optional
        Settings, a preset's name, or `"tuned"` for what `omni-sdk tune` kept; default `balanced`.
    cache_dir : path or None, optional
        Folder of the compile cache; None turns it off, left out it is the user's cache folder.

    Raises
    ------
    ModelError, BundleError
        When the model cannot be read or ONNX Runtime refuses it.
    SettingsError, ProviderError
        When a setting would be ignored, a provider is missing, or there is no tuned profile that holds here.
    """
    if settings == "tuned":
        tuned = profiles.settings_for(source, cache_dir)
        model = Model(source, tuned, cache_dir=cache_dir)
        model._overrides = {**profiles.effects(tuned), **model._overrides}
        return model
    return Model(source, settings_of(settings), cache_dir=cache_dir)


class Model:
    """A loaded model. Any number of threads may call it at once.

    Made by `load`. Close it, or use it as a context manager, to free its memory at a known time.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | bytes,
        settings: Settings,
        *,
        cache_dir: str | os.PathLike[str] | EllipsisType | None = ...,
    ) -> None:
        private = memory.private()
        opened, session, self._compiled = compiled.load(source, settings, cache_dir)
        self._loaded_bytes = max(0, memory.private() - private)
        self.settings = settings
        self.inputs, self.outputs = sessions.specs(session)
        self._name = str(opened)
        self._recipe = recipe_of(opened, source, settings, cache_dir)
        self._state = opened.bundle.manifest.state if opened.bundle is not None else {}
        if opened.bundle is not None:
            agreement.check(opened.bundle, self.inputs, self.outputs)
        parts = parts_of(opened, session, settings, self.inputs, self.outputs)
        self._runner, self._chunked, self._results = parts.runner, parts.chunked, parts.results
        self._overrides = parts.overrides
        self._mapped_bytes = opened.size if self._compiled.state != "off" or len(opened.files) > 1 else 0
        budget = RunBudget(settings.memory_limit_bytes, self._held_bytes, self._name, relieve=self._relieve)
        self._caller = Caller(self._runner, self._results, budget, shrinks=settings.shrink_arena, name=self._name)
        self._calls = AwaitedCalls(settings.async_workers)
        self._closed: str | None = None
        self._lock = threading.Lock()
        # What the quick ways through infer need: bound runs, and the cache where feeds may be looked up as they come.
        self._idle = self._runner.idle if parts.is_quick else deque()
        self._looked_up = self._results if keys_early(self.inputs) else None
        forking.watch(self)

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
        """Runs the model once.

        Parameters
        ----------
        feeds : mapping of str to ndarray, optional
            Inputs by name; keywords do as well. C-contiguous, aligned arrays are bound in place; others are copied
            once, and counted. The states that a bundle names may be left out, all of them: they are zeros then.
            Strings may be bytes in UTF-8.
        out : mapping of str to ndarray, optional
            Arrays of the caller's to write outputs into, as numpy does.
        cache : bool, optional
            False goes past the result cache; True insists on one.
        timeout : float, optional
            Seconds from the call after which the run is ended.

        Returns
        -------
        dict of str to ndarray
            Outputs by name. No later call writes to them. Read-only where a result cache holds them.

        Raises
        ------
        InputError
            When a feed does not fit. Names it, what was expected and what came.
        ModelError
            When ONNX Runtime fails on the data.
        MemoryBudgetError
            When the run cannot fit `Settings.memory_limit`; nothing was taken.
        TimeoutError
            When the time is up; the model stays usable.
        ClosedError
            After `close`, or in a forked child.
        """
        if feeds is None:
            feeds = named
        elif named or type(feeds) is not dict:
            feeds = feeding.merged(feeds, named)
        key = None
        results = self._looked_up
        if results is not None and out is None and timeout is None and (cache is None or cache is True):
            key = results.key(feeds)
            found = results.get(key, feeds) if key is not None else None
            if found is not None:
                return found
        idle = self._idle
        if idle and out is None and timeout is None and (cache is None or cache is False):
            try:
                run = idle.pop()
            except IndexError:  # another thread was quicker
                return self._infer(feeds, out, cache)
            started = time.perf_counter()
            try:
                outputs = run.run(feeds)
            except RunFailed:  # the careful way finds out why, and whether a learned shape is to blame
                self._runner.doubt(run)
            else:
                idle.append(run)
                if outputs is not None:
                    self._caller.latencies.append(time.perf_counter() - started)
                    return outputs
        return self._infer(feeds, out, cache, None if timeout is None else Interrupt(timeout), key)

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
        """`infer`, awaitable, on `Settings.async_workers` threads. Cancelling it ends the run before it returns."""
        self._check_open()
        interrupt = Interrupt(timeout)
        feeds = feeding.merged({} if feeds is None else feeds, named)
        return await self._calls.run(functools.partial(self._infer, feeds, out, cache, interrupt), interrupt)

    def _infer(
        self,
        feeds: dict[str, Any],
        out: Mapping[str, np.ndarray] | None,
        cache: bool | None,
        interrupt: Interrupt | None = None,
        missed: bytes | None = None,
    ) -> dict[str, Any]:
        """The careful way; `missed` is the key of feeds that were looked up already."""
        self._check_open()
        wanted = None if out is None else feeding.check_out(out, self.outputs)
        with interrupt or nullcontext():
            if self._chunked is not None:
                self._caller.cache(cache)
                return self._runner.delivered(self._chunked.infer(feeds, self._open_stream, interrupt), wanted)
            feeds = with_first_states(feeds, self._state, self.inputs, self.outputs)
            return self._caller.infer(feeds, wanted, cache, interrupt, missed)

    def _infer_whole(self, feeds: dict[str, Any]) -> dict[str, Any]:
        """One run, where `infer` would cut the input into chunks."""
        self._check_open()
        return self._caller.infer(feeds, None, False, None, None)

    def warmup(
        self, shapes: Shapes | Sequence[Shapes] | None = None, *, passes: int | tuple[int, int] | None = None
    ) -> WarmupReport:
        """Runs the model on zeros until its latency has settled, so that the first real call is as fast as the rest.

        An input whose values must lie in a range without a zero has the lowest of them. With `Settings.max_chunk` the
        model runs piece by piece, as `infer` does.

        Parameters
        ----------
        shapes : mapping of str to shape, or several of them, optional
            Input shapes to warm. Inputs whose dimensions are all fixed may be left out, and so may the states that a
            bundle names, all of them.
        passes : int or (int, int), optional
            How many, or the least and the most; default `Settings.warmup_passes`.

        Raises
        ------
        InputError
            When a symbolic dimension has no size, a shape does not fit, or the passes are no number or pair.
        """
        self._check_open()
        asked = self.settings.warmup_passes if passes is None else warming.checked(passes)
        least, most = warming.bounds(asked, memory_pattern=self.settings.enable_mem_pattern)
        sets = [shaping.completed(one, self._state, self.inputs, self.outputs) for one in shaping.sets(shapes)]
        self._build_for(sets)
        if self._chunked is None:
            return WarmupReport(tuple(self._caller.warm_up(one, least, most) for one in sets))
        opened = functools.partial(self._open_stream, warms=True)
        return WarmupReport(tuple(self._caller.warm_up_in(self._chunked, opened, one, least, most) for one in sets))

    def _build_for(self, sets: Sequence[Shapes]) -> None:
        """TensorRT builds engines for the shapes that it is told of. It is told of those warmed first, before any run.

        Later ones, and those of models from bytes, make it build anew when they come.
        """
        if self._recipe is not None and not self._runner.runs:
            told = told_of_shapes(self.settings.providers, self.inputs, sets)
            if told is not None:
                origin, settings, cache_dir = self._recipe
                self.settings = settings.replace(providers=told)
                _, session, self._compiled = compiled.load(origin, self.settings, cache_dir)
                self._runner.replace(session)

    def _held_bytes(self) -> dict[str, int]:
        """What the model holds apart from its arena; weights that are mapped count in full, read so far or not."""
        pool, is_open = self._runner.pool.stats(), self._closed is None
        return {
            "weights_mapped": self._mapped_bytes if is_open else 0,
            "session": self._loaded_bytes if is_open else 0,
            "results": pool["in_use_bytes"] + pool["idle_bytes"],
            "cache": self._results.own_bytes if self._results is not None else 0,
        }

    def _relieve(self, need: int, growth: int, name: str) -> None:
        """A run does not fit: buffers that idle go, and the arena where a first run made it larger than this one."""
        budget = self._caller.budget
        self._runner.pool.trim()
        if not growth and budget.is_idle(name) and give_back_arena(self._runner.opened(), self.inputs):
            budget.given_back(name)

    @contextmanager
    def input_buffers(self, /, **shapes: Sequence[int]) -> Iterator[dict[str, np.ndarray]]:
        """Aligned arrays to fill in place; `infer` of them copies nothing.

        But for integers of 4 and 2 bits: the arrays have a byte for each, and `infer` packs them, which is a copy.

        Parameters
        ----------
        **shapes : sequence of int
            Shape of each input that has a symbolic dimension. The states that a bundle names may be left out, all of
            them.

        Yields
        ------
        dict of str to ndarray
            One array for each input, uninitialised; states that were left out are zeros.
        """
        self._check_open()
        asked = shaping.completed(shapes, self._state, self.inputs, self.outputs)
        buffers = shaping.arrays(asked, self.inputs, self._runner.pool.array)
        for name in () if self._state.keys() & shapes.keys() else self._state:
            buffers[name].fill(0)
        yield buffers

    def stream(
        self,
        /,
        *,
        state: Mapping[str, str] | None = None,
        window: Window | None = None,
        initial: Mapping[str, np.ndarray] | None = None,
        constants: Mapping[str, Any] | None = None,
        **named: Any,
    ) -> Stream:
        """Opens a stream: the model step by step.

        Parameters
        ----------
        state : mapping of str to str, optional
            Input -> output of each state carried from step to step; default: from the bundle's manifest, else matched
            by name and shape.
        window : Window, optional
            For models without state: overlapping chunks with left context instead.
        initial : mapping of str to ndarray, optional
            States to begin with; default zeros.
        constants : mapping of str to ndarray, optional
            Inputs that are the same at every step, such as a sample rate; keywords do as well, where an input does not
            bear the name of a parameter.

        Raises
        ------
        StreamError
            When the model has no state, pairs are ambiguous or do not fit, or both `state` and `window` are given.
        InputError
            When a constant is no input of the model, or does not fit, or an argument is of the wrong kind.
        """
        self._check_open()
        return self._open_stream(state, window, initial, streams.joined(constants, named))

    def _open_stream(
        self,
        state: Mapping[str, str] | None,
        window: Window | None,
        initial: Mapping[str, np.ndarray] | None,
        constants: Mapping[str, Any],
        *,
        warms: bool = False,
    ) -> Stream:
        """`stream`, or one whose runs warm the model and count as none of the caller's."""
        run = self.infer if self._chunked is None else self._infer_whole
        record = self._caller.latencies.append
        if warms:
            run, record = self._caller.warm, _ignored
        return streams.open_stream(self._runner, self._state, state, window, initial, constants, run, record)

    def stats(self) -> Stats:
        """What the model has done so far."""
        return stats_of(self._runner, self._results, self._caller)

    def share_budget(self, runs: RunBudget, name: str) -> None:
        """Runs count towards a budget that several models share, under this name there."""
        self._caller.budget, self._caller.share = runs, name
        self._idle = deque()

    def memory(self) -> MemoryUse:
        """What the model takes now, part by part, as measured."""
        parts = {**self._held_bytes(), "arena": self._caller.budget.arena}
        parts["weights_mapped"] = mapped.usage(self._compiled.files).resident
        return MemoryUse(parts, memory.process(), self.settings.memory_limit_bytes)

    def explain(self) -> Explanation:
        """Every setting as asked and as in effect, where nodes run, what was copied, which shapes were never warmed."""
        self._check_open()
        parts = self._overrides, self._runner, self._caller, self._compiled
        return explanation_of(repr(self), self.settings, *parts)

    def close(self) -> None:
        """Frees the session and idle buffers. Runs under way finish; results stay valid. Closing twice is fine."""
        with self._lock:
            if self._closed is not None:
                return
            self._closed = "closed"
        self._calls.close()
        self._idle = deque()
        self._looked_up = None
        self._runner.close()
        if self._results is not None:
            self._results.clear()

    def disown(self) -> None:
        """In a forked child: closed, and never destroyed. See `omni_sdk.forking`."""
        self._closed = "the parent process's: load it again in the forked child"
        self._lock = threading.Lock()  # another thread may have held it at the fork
        self._idle = deque()
        self._looked_up = None  # a hit would pass by the check that tells
        self._runner.disown()

    def _check_open(self) -> None:
        if self._closed is not None:
            raise ClosedError(f"Expected an open model, got one that is {self._closed} - at {self._name}")

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        if self._recipe is None:
            raise ModelError(
                "Expected a model that was loaded from a path, got one from bytes - at pickling a Model",
                hint="save it to a file first: a pickled model keeps its path and settings, not its memory",
            )
        source, settings, cache_dir = self._recipe
        return functools.partial(Model, source, settings, cache_dir=cache_dir), ()

    def __repr__(self) -> str:
        state = f", {self._closed}" if self._closed else ""
        inputs, outputs = (", ".join(map(str, specs)) for specs in (self.inputs, self.outputs))
        return f"<Model {self._name}: ({inputs}) -> ({outputs}){state}>"


def _ignored(seconds: float) -> None:
    """The record of runs that are none of the caller's."""
