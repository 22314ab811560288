"""What a model tells of itself: what it has done, and how it really runs."""

from __future__ import annotations

from collections.abc import Mapping

from omni_sdk import session as sessions
from omni_sdk.cache import ResultCache
from omni_sdk.caller import Caller
from omni_sdk.compiled import Compiled
from omni_sdk.explain import Explanation, effects
from omni_sdk.runner import Runner
from omni_sdk.settings import Settings
from omni_sdk.stats import Latency, Stats


def stats_of(runner: Runner, results: ResultCache | None, caller: Caller) -> Stats:
    """What `Model.stats` returns, of a model that was closed as well."""
    pool = runner.pool.stats()
    return Stats(
        runs=runner.runs,
        cache_hits=results.hits if results is not None else 0,
        cache_misses=results.misses if results is not None else 0,
        latency=Latency.of(caller.latencies.copy()),
        bytes_copied_in=runner.copied_in,
        bytes_copied_out=runner.copied_out,
        bytes_in_use=pool["in_use_bytes"],
        bytes_idle=pool["idle_bytes"],
        bytes_peak=pool["peak_bytes"],
    )


def explanation_of(
    model: str,
    settings: Settings,
    overrides: Mapping[str, tuple[object, str]],
    runner: Runner,
    caller: Caller,
    compiled: Compiled,
) -> Explanation:
    """What `Model.explain` returns, of a model that is open."""
    session = runner.opened()
    if runner.data_dependent:
        overrides = {**overrides, "io_binding": (False, "an output's shape depends on the data")}
    cold = [shapes for shapes in runner.learned if shapes not in caller.warmed]
    names = [spec.name for spec in runner.inputs]
    placement = sessions.node_placement(session)
    return Explanation(
        model=model,
        settings=effects(settings, overrides, session.get_providers(), placement),
        placement=placement,
        bytes_copied_in=runner.copied_in,
        bytes_copied_out=runner.copied_out,
        not_warmed=tuple(dict(zip(names, shapes, strict=True)) for shapes in cold),
        compile_cache=str(compiled),
    )
