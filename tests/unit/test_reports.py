"""What a model tells of itself stays true when its cache is empty, and of the shapes that it ran at."""

from __future__ import annotations

import graphs
import numpy as np

from omni_sdk.reports import explanation_of, stats_of


def test_an_emptied_cache_has_been_asked_all_the_same():
    with graphs.load(graphs.DOUBLE, cache_bytes=1 << 20) as model:
        for _ in range(3):
            model.infer(x=np.ones(2, np.float32))
        model._results.clear()
        found = stats_of(model._runner, model._results, model._caller)
        assert (found.cache_hits, found.cache_misses, found.runs) == (2, 1, 1)


def test_shapes_that_ran_without_a_warm_up_are_told():
    with graphs.load(graphs.DOUBLE) as model:
        model.warmup({"x": (2,)}, passes=1)
        model.infer(x=np.ones(2, np.float32))
        model.infer(x=np.ones(3, np.float32))
        found = explanation_of("m", model.settings, {}, model._runner, model._caller, model._compiled)
        assert (found.model, found.not_warmed) == ("m", ({"x": (3,)},))
