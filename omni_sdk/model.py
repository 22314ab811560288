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

from omni_sdk import compiled, forking, mapped, memory, profiles, providers
from omni_sdk import feeds as feeding
from omni_sdk import session as sessions
from omni_sdk import warmup as warming
from omni_sdk.awaiting import AwaitedCalls
from omni_sdk.binding import Interrupt, RunFailed
from omni_sdk.budget import MemoryUse, RunBudget
from omni_sdk.cache import ResultCache
from omni_sdk.caller import Caller
from omni_sdk.chunked import Chunked
from omni_sdk.device_stream import DeviceStateStream, stays_on_device
from omni_sdk.errors import ClosedError, ModelError, StreamError
from omni_sdk.explain import Explanation, effects, overrides_of
from omni_sdk.runner import Runner
from omni_sdk.settings import Settings
from omni_sdk.settings_check import check_value
from omni_sdk.source import Source
from omni_sdk.states import open_pairs, with_first_states
from omni_sdk.stats import Latency, Stats
from omni_sdk.stream import StateStream, Stream, check_constants
from omni_sdk.warmup import ShapeWarmup, WarmupReport
from omni_sdk.window import Window, WindowStream

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
    if not isinstance(settings, Settings):
        settings = Settings.preset("balanced" if settings is None else settings)  # type: ignore[arg-type]
    return Model(source, settings, cache_dir=cache_dir)


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
        self._recipe = None if opened.data is not None else (os.fspath(source), settings, cache_dir)
        self._bundle = opened.bundle
        self._state = opened.bundle.manifest.state if opened.bundle is not None else {}
        self._runner = Runner(
            session,
            self.inputs,
            self.outputs,
            io_binding=settings.io_binding,
            idle_limit=settings.buffer_idle_bytes,
        )
        self._overrides: dict[str, tuple[object, str]] = {}
        self._chunked = self._make_chunked()
        self._results = self._make_cache(opened)
        self._overrides |= overrides_of(settings, opened, self._runner.bindable, self._results is not None)
        if settings.cache_bytes and self._chunked is not None:
            self._overrides["cache_bytes"] = (0, "max_chunk runs inputs piece by piece, and keeps none of them whole")
        self._mapped_bytes = opened.size if self._compiled.state != "off" or len(opened.files) > 1 else 0
        budget = RunBudget(settings.memory_limit_bytes, self._held_bytes, self._name)
        self._caller = Caller(self._runner, self._results, budget, shrinks=settings.shrink_arena, name=self._name)
        self._calls = AwaitedCalls(settings.async_workers)
        self._closed: str | None = None
        self._lock = threading.Lock()
        # The quick way through infer is open when there is nothing to look up first and nothing to convert after.
        packed = any(spec.element is not None and spec.element.packed for spec in (*self.inputs, *self.outputs))
        careful = self._results is not None or packed or settings.memory_limit is not None or settings.shrink_arena
        ranged = any(spec.allowed is not None for spec in self.inputs)
        careful = careful or self._chunked is not None or ranged
        self._idle = deque() if careful else self._runner.idle
        forking.watch(self)

    def _make_chunked(self) -> Chunked | None:
        if self.settings.max_chunk is None:
            return None
        manifest = self._bundle.manifest if self._bundle is not None else None
        pairs, audio = (manifest.state, manifest.audio) if manifest is not None else (None, None)
        try:
            chunk, context = self.settings.max_chunk, self.settings.chunk_context
            chunked = Chunked(self.inputs, self.outputs, pairs, audio, chunk, context)
        except StreamError as error:
            self._overrides["max_chunk"] = (None, str(error))
            return None
        if chunked.carries_state and context is not None:
            self._overrides["chunk_context"] = (None, "the model carries its own state from chunk to chunk")
        return chunked

    def _make_cache(self, source: Source) -> ResultCache | None:
        tensors = all(spec.element is not None for spec in (*self.inputs, *self.outputs))
        if (
            not self.settings.cache_bytes
            or self._chunked is not None
            or not tensors
            or (source.is_random and not self.settings.cache_random)
        ):
            return None
        context = source.fingerprint + repr(self.settings).encode()
        return ResultCache(self.settings.cache_bytes, tuple(spec.name for spec in self.inputs), context)

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
        out : mapping of str to ndarray, optional
            Arrays of the caller's to write outputs into, as numpy does.
        cache : bool, optional
            False goes past the result cache; True insists on one.
        timeout : float, optional
            Seconds after which the run is ended.

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
        results = self._results
        if results is not None and out is None and timeout is None and cache is not False:
            key = results.key(feeds)
            found = results.get(key, feeds) if key is not None else None
            if found is not None:
                return found
        idle = self._idle
        if idle and out is None and timeout is None and not cache:
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
        if self._chunked is not None:
            self._caller.cache(cache)
            with interrupt or nullcontext():
                return self._runner.delivered(self._chunked.infer(feeds, self.stream, interrupt), wanted)
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

        Parameters
        ----------
        shapes : mapping of str to shape, or several of them, optional
            Input shapes to warm. Inputs whose dimensions are all fixed may be left out.
        passes : int or (int, int), optional
            How many, or the least and the most; default `Settings.warmup_passes`.

        Raises
        ------
        InputError
            When a symbolic dimension has no size, or a shape does not fit.
        """
        self._check_open()
        asked = self.settings.warmup_passes if passes is None else passes
        check_value("warmup_passes", asked)
        least, most = warming.bounds(asked, memory_pattern=self.settings.enable_mem_pattern)
        sets = [shapes or {}] if shapes is None or isinstance(shapes, Mapping) else list(shapes)
        self._build_for(sets)
        report = []
        for one in sets:
            zeros = feeding.arrays(one, self.inputs, lambda dtype, shape: np.zeros(shape, dtype))
            feeds, _ = feeding.checked(zeros, self.inputs, self._runner.pool)
            run = functools.partial(self._caller.warmup_pass, feeds)
            seconds, reason = warming.settle(run, least, most)
            used = {name: tuple(array.shape) for name, array in feeds.items()}
            self._caller.warmed.add(tuple(used.values()))
            report.append(ShapeWarmup(used, seconds, reason))
        return WarmupReport(tuple(report))

    def _build_for(self, sets: Sequence[Shapes]) -> None:
        """TensorRT builds engines for the shapes that it is told of. It is told of those warmed first, before any run.

        Later ones, and those of models from bytes, make it build anew when they come.
        """
        moving = [spec for spec in self.inputs if not all(isinstance(size, int) for size in spec.shape)]
        if self._recipe is None or self._runner.runs or any(spec.name not in one for spec in moving for one in sets):
            return
        told = providers.profiled(self.settings.providers, [{s.name: one[s.name] for s in moving} for one in sets])
        if told is not None:
            origin, settings, cache_dir = self._recipe
            self.settings = settings.replace(providers=told)
            _, session, self._compiled = compiled.load(origin, self.settings, cache_dir)
            self._runner.replace(session)

    def _held_bytes(self) -> dict[str, int]:
        """What the model holds apart from its arena; weights that are mapped count in full, read so far or not."""
        pool = self._runner.pool.stats()
        return {
            "weights_mapped": self._mapped_bytes,
            "session": self._loaded_bytes,
            "results": pool["in_use_bytes"] + pool["idle_bytes"],
            "cache": self._results.used_bytes if self._results else 0,
        }

    @contextmanager
    def input_buffers(self, **shapes: Sequence[int]) -> Iterator[dict[str, np.ndarray]]:
        """Aligned arrays to fill in place; `infer` of them copies nothing.

        Parameters
        ----------
        **shapes : sequence of int
            Shape of each input that has a symbolic dimension.

        Yields
        ------
        dict of str to ndarray
            One array for each input, uninitialised.
        """
        self._check_open()
        yield feeding.arrays(shapes, self.inputs, self._runner.pool.array)

    def stream(
        self,
        *,
        state: Mapping[str, str] | None = None,
        window: Window | None = None,
        initial: Mapping[str, np.ndarray] | None = None,
        **constants: Any,
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
        **constants : ndarray
            Inputs that are the same at every step, such as a sample rate.

        Raises
        ------
        StreamError
            When the model has no state, pairs are ambiguous or do not fit, or both `state` and `window` are given.
        InputError
            When a constant is no input of the model, or does not fit.
        """
        self._check_open()
        if window is not None:
            if state or initial:
                raise StreamError("Expected state or window, got both - at stream")
            run = self.infer if self._chunked is None else self._infer_whole
            return WindowStream(run, self.inputs, self.outputs, window, constants)
        pairs = open_pairs(state if state is not None else self._state or None, self.inputs, self.outputs)
        check_constants(constants, self.inputs, pairs)
        device = sessions.memory_of(self._runner.opened())
        if device != "cpu" and stays_on_device(self._runner):
            record = self._caller.latencies.append
            return DeviceStateStream(self._runner, device, pairs, constants, initial or {}, record)
        return StateStream(self._runner, pairs, constants, initial or {}, self._caller.latencies.append)

    def stats(self) -> Stats:
        """What the model has done so far."""
        runner, pool = self._runner, self._runner.pool.stats()
        return Stats(
            runs=runner.runs,
            cache_hits=self._results.hits if self._results else 0,
            cache_misses=self._results.misses if self._results else 0,
            latency=Latency.of(self._caller.latencies.copy()),
            bytes_copied_in=runner.copied_in,
            bytes_copied_out=runner.copied_out,
            bytes_in_use=pool["in_use_bytes"],
            bytes_idle=pool["idle_bytes"],
            bytes_peak=pool["peak_bytes"],
        )

    def join(self, runs: RunBudget, name: str) -> None:
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
        session = self._runner.opened()
        overrides = dict(self._overrides)
        if self._runner.data_dependent:
            overrides["io_binding"] = (False, "an output's shape depends on the data")
        cold = [shapes for shapes in self._runner.learned if shapes not in self._caller.warmed]
        names = [spec.name for spec in self.inputs]
        placement = sessions.node_placement(session)
        return Explanation(
            model=repr(self),
            settings=effects(self.settings, overrides, session.get_providers(), placement),
            placement=placement,
            bytes_copied_in=self._runner.copied_in,
            bytes_copied_out=self._runner.copied_out,
            not_warmed=tuple(dict(zip(names, shapes, strict=True)) for shapes in cold),
            compile_cache=str(self._compiled),
        )

    def close(self) -> None:
        """Frees the session and idle buffers. Runs under way finish; results stay valid. Closing twice is fine."""
        with self._lock:
            if self._closed is not None:
                return
            self._closed = "closed"
        self._calls.close()
        self._idle = deque()
        self._runner.close()
        if self._results is not None:
            self._results.clear()

    def disown(self) -> None:
        """In a forked child: closed, and never destroyed. See `omni_sdk.forking`."""
        self._closed = "the parent process's: load it again in the forked child"
        self._lock = threading.Lock()  # another thread may have held it at the fork
        self._idle = deque()
        self._results = None  # a hit would pass by the check that tells
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
        return _load_again, self._recipe

    def __repr__(self) -> str:
        state = f", {self._closed}" if self._closed else ""
        inputs, outputs = (", ".join(map(str, specs)) for specs in (self.inputs, self.outputs))
        return f"<Model {self._name}: ({inputs}) -> ({outputs}){state}>"


def _load_again(source: str, settings: Settings, cache_dir: Any) -> Model:
    return load(source, settings, cache_dir=cache_dir)
