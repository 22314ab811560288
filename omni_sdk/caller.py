"""One call, the careful way: every check, the result cache, the caller's destinations, deadlines and the budget."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import Any

import numpy as np

from omni_sdk import feeds as feeding
from omni_sdk import shapes as shaping
from omni_sdk import warmup as warming
from omni_sdk.binding import Interrupt, RunFailed
from omni_sdk.budget import RunBudget
from omni_sdk.cache import ResultCache
from omni_sdk.chunked import Chunked
from omni_sdk.errors import InputError, InternalError
from omni_sdk.learned import ShapeSet
from omni_sdk.runner import Runner
from omni_sdk.specs import TensorSpec
from omni_sdk.stats import WINDOW
from omni_sdk.stream import Stream
from omni_sdk.warmup import ShapeWarmup


class Caller:
    """Calls a runner on behalf of a model.

    Parameters
    ----------
    runner : Runner
    results : ResultCache, optional
    budget : RunBudget
        Admits each run, or refuses it.
    shrinks : bool
        Whether requests larger than every warmed shape give ORT's arena back when they are done.
    name : str
        The model's, for errors.

    Attributes
    ----------
    latencies : deque of float
        Seconds of the most recent runs.
    warmed : set of shapes
        Input shapes that were warmed up.
    """

    def __init__(
        self, runner: Runner, results: ResultCache | None, budget: RunBudget, *, shrinks: bool, name: str
    ) -> None:
        self.latencies: deque[float] = deque(maxlen=WINDOW)
        self.warmed: set[ShapeSet] = set()
        self.budget = budget
        self.share = ""  # the model's name among those that share the budget
        self._runner = runner
        self._results = results
        self._shrinks = shrinks
        self._name = name
        self._keys_early = keys_early(runner.inputs)

    def infer(
        self,
        feeds: dict[str, Any],
        wanted: dict[str, np.ndarray] | None,
        cache: bool | None,
        interrupt: Interrupt | None,
        missed: bytes | None,
    ) -> dict[str, Any]:
        """`Model.infer` on feeds in one dict and destinations that `omni_sdk.feeds.check_out` has seen.

        `missed` is the key of these feeds where the cache was asked for it before, in vain.
        """
        results = self.cache(cache)
        key = missed
        if results is not None and self._keys_early and key is None and (key := results.key(feeds)) is not None:
            found = results.get(key, feeds)
            if found is not None:
                return self._runner.delivered(found, wanted)
        ready, copied = self._checked(feeds, keeps=results is not None)
        self._runner.count_copied(copied, 0)
        if results is None:
            return self._run(ready, wanted, interrupt)
        key = key or results.key(ready)
        if key is None:
            raise InternalError(f"Expected a key for checked feeds, got none - at {self._name}")
        try:
            found = results.get_or_compute(
                key,
                ready,
                lambda: self._runner.frozen(self._run(ready, None, interrupt)),
                interrupt.timeout if interrupt else None,
                interrupt.told if interrupt else None,
            )
        except CancelledError:  # while another thread computes it
            if interrupt is None or interrupt.timeout is None:
                raise
            raise self._late(interrupt) from None
        return self._runner.delivered(found, wanted)

    def cache(self, asked: object) -> ResultCache | None:
        """The result cache for a call that asked for it or not; `InputError` when it insists and there is none."""
        if asked is not None and not isinstance(asked, (bool, np.bool_)):
            raise InputError(
                f"Expected True, False or None, got {type(asked).__name__} - at cache",
                hint="an input that is called 'cache' goes in by a mapping: infer({'cache': array})",
            )
        if asked and self._results is None:
            raise InputError(
                "Expected a model with a result cache, got cache=True on one without - at infer",
                hint="load it with Settings(cache_bytes=...); explain() says why a cache may be off regardless",
            )
        return None if asked is not None and not asked else self._results

    def warm_up(self, shapes: Mapping[str, Sequence[int]], least: int, most: int) -> ShapeWarmup:
        """The passes of a warm-up at one set of shapes, within these bounds."""
        zeros = shaping.zeros(shapes, self._runner.inputs)
        ready, _ = self._checked(zeros)
        return warming.warm(ready, self._warmed, least, most)

    def warm_up_in(
        self,
        chunked: Chunked,
        open_stream: Callable[..., Stream],
        shapes: Mapping[str, Sequence[int]],
        least: int,
        most: int,
    ) -> ShapeWarmup:
        """As `warm_up`, in pieces, by streams whose runs count as none of the caller's."""
        zeros = shaping.zeros(shapes, self._runner.inputs)
        report = warming.warm(zeros, lambda feeds: chunked.infer(feeds, open_stream, None), least, most)
        self.warmed |= chunked.pieces(zeros, self._runner.learned)
        return report

    def warm(self, feeds: dict[str, Any]) -> dict[str, Any]:
        """Results of one run that counts as none of the caller's."""
        ready, _ = self._checked(feeds)
        return self._warmed(ready)

    def _checked(self, feeds: dict[str, Any], *, keeps: bool = False) -> tuple[dict[str, Any], int]:
        """Checked feeds and the bytes copied for that; refused before the first copy where they cannot fit.

        `keeps`: the result cache will copy them as well.
        """
        inputs, pool = self._runner.inputs, self._runner.pool
        arrays = feeding.fitting(feeds, inputs)
        if not self.budget.is_limited:
            return feeding.bindable(arrays, inputs, pool)
        more = self._new_bytes(feeding.copies(arrays, inputs))
        if keeps:
            more += sum(np.asarray(array).nbytes for array in arrays.values())
        if more == 0:
            return feeding.bindable(arrays, inputs, pool)
        with self.budget.copying(self._runner.shapes(arrays), more, model=self.share):
            return feeding.bindable(arrays, inputs, pool)

    def _new_bytes(self, wanted: int) -> int:
        """How much the buffer pool has to grow for so many bytes: what idles is held already, and serves first."""
        return max(0, wanted - self._runner.pool.stats()["idle_bytes"])

    def _warmed(self, ready: dict[str, Any]) -> dict[str, Any]:
        with self._admitted(ready, None):
            results = self._runner.run(ready, None, None)
        self.warmed.add(self._runner.shapes(ready))
        return results

    def _run(
        self, ready: dict[str, Any], wanted: dict[str, np.ndarray] | None, interrupt: Interrupt | None
    ) -> dict[str, Any]:
        started = time.perf_counter()
        shrinks = self.budget.shrink_next or (self._shrinks and self._is_large(ready))
        if shrinks:
            interrupt = interrupt or Interrupt()
            interrupt.shrink_arena()
            self.budget.shrink_next = False
        with self._admitted(ready, wanted, keep=not shrinks):
            results = self._run_within(ready, wanted, interrupt)
        self.latencies.append(time.perf_counter() - started)
        return results

    @contextmanager
    def _admitted(
        self, ready: dict[str, Any], wanted: dict[str, np.ndarray] | None, *, keep: bool = True
    ) -> Iterator[None]:
        """Around one run: within the budget, which is told what the results take."""
        known = self._runner.result_bytes(ready, None)
        buffers = self._new_bytes(self._runner.result_bytes(ready, wanted)) if self.budget.is_limited else 0
        shapes = self._runner.shapes(ready)
        with self.budget.admitted(shapes, model=self.share, keep=keep, buffers=buffers) as run:
            yield
            if not known:  # ORT allocated them
                run.results = self._runner.result_bytes(ready, None)

    def _run_within(
        self, ready: dict[str, Any], wanted: dict[str, np.ndarray] | None, interrupt: Interrupt | None
    ) -> dict[str, Any]:
        if interrupt is None:
            return self._runner.run(ready, wanted, None)
        try:
            with interrupt:
                return self._runner.run(ready, wanted, interrupt)
        except RunFailed as error:
            if not interrupt.fired:
                raise
            raise self._late(interrupt) from error

    def _late(self, interrupt: Interrupt) -> TimeoutError:
        return TimeoutError(f"Expected a result within {interrupt.timeout} s, got none - at {self._name}")

    def _is_large(self, ready: dict[str, Any]) -> bool:
        """Whether a request is beyond every shape that was warmed up."""
        size = sum(np.size(array) for array in ready.values())
        return all(size > sum(map(math.prod, shapes)) for shapes in tuple(self.warmed))


def keys_early(inputs: tuple[TensorSpec, ...]) -> bool:
    """Whether feeds may be looked up in a result cache as they come, before they are checked.

    Not where values of less than a byte go in: their bytes as given, one value each, are other values' bytes once
    packed.
    """
    return not any(spec.element is not None and spec.element.packed for spec in inputs)
