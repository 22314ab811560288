"""One call, the careful way: every check, the result cache, the caller's destinations, deadlines and the budget."""

from __future__ import annotations

import math
import time
from collections import deque
from typing import Any

import numpy as np

from omni_sdk import feeds as feeding
from omni_sdk.binding import Interrupt, RunFailed
from omni_sdk.budget import RunBudget
from omni_sdk.cache import ResultCache
from omni_sdk.errors import InputError, InternalError
from omni_sdk.learned import ShapeSet
from omni_sdk.runner import Runner
from omni_sdk.stats import WINDOW


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
        if results is not None and key is None and (key := results.key(feeds)) is not None:
            found = results.get(key, feeds)
            if found is not None:
                return self._runner.delivered(found, wanted)
        ready, copied = feeding.checked(feeds, self._runner.inputs, self._runner.pool)
        self._runner.count_copied(copied, 0)
        if results is None:
            return self._run(ready, wanted, interrupt)
        key = key or results.key(ready)
        if key is None:
            raise InternalError(f"Expected a key for checked feeds, got none - at {self._name}")
        found = results.get_or_compute(
            key,
            ready,
            lambda: self._runner.frozen(self._run(ready, None, interrupt)),
            interrupt.timeout if interrupt else None,
            interrupt.told if interrupt else None,
        )
        return self._runner.delivered(found, wanted)

    def cache(self, asked: bool | None) -> ResultCache | None:
        """The result cache for a call that asked for it or not; `InputError` when it insists and there is none."""
        if asked and self._results is None:
            raise InputError(
                "Expected a model with a result cache, got cache=True on one without - at infer",
                hint="load it with Settings(cache_bytes=...); explain() says why a cache may be off regardless",
            )
        return None if asked is False else self._results

    def warmup_pass(self, feeds: dict[str, Any]) -> float:
        """Seconds of one run that counts as none of the caller's."""
        started = time.perf_counter()
        with self.budget.admitted(self._runner.shapes(feeds), model=self.share):
            self._runner.run(feeds, None, None)
        return time.perf_counter() - started

    def _run(
        self, ready: dict[str, Any], wanted: dict[str, np.ndarray] | None, interrupt: Interrupt | None
    ) -> dict[str, Any]:
        started = time.perf_counter()
        shrinks = self.budget.shrink_next or (self._shrinks and self._is_large(ready))
        if shrinks:
            interrupt = interrupt or Interrupt()
            interrupt.shrink_arena()
            self.budget.shrink_next = False
        with self.budget.admitted(self._runner.shapes(ready), model=self.share, keep=not shrinks):
            results = self._run_within(ready, wanted, interrupt)
        self.latencies.append(time.perf_counter() - started)
        return results

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
            message = f"Expected a result within {interrupt.timeout} s, got none - at {self._name}"
            raise TimeoutError(message) from error

    def _is_large(self, ready: dict[str, Any]) -> bool:
        """Whether a request is beyond every shape that was warmed up."""
        size = sum(np.size(array) for array in ready.values())
        return all(size > sum(map(math.prod, shapes)) for shapes in self.warmed)
