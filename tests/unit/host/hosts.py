"""Hosts with room for some of three models that multiply by a number each.

Shared threads are for good in a process and refuse other tests' plain sessions, so they are tested in one of its own.
"""

from __future__ import annotations

import numpy as np

from omni_sdk.host import Host

SIDE = 512
FACTORS = {"two": 2, "three": 3, "five": 5}
X = np.ones((2, SIDE), np.float32)


def cost(paths):
    with Host("1 GiB", cache_dir=None, shared_threads=False) as host:
        host.add("two", paths["two"])
        return host.stats().models["two"].bytes


def filled(paths, models, **named):
    """A host with room for so many of the three models, and for their runs."""
    host = Host(int(cost(paths) * (models + 0.6)), cache_dir=None, shared_threads=False, **named)
    for name, path in paths.items():
        host.add(name, path)
    return host


def right(model, name):
    return bool((model.infer(x=X)["y"] == FACTORS[name]).all())


def loaded(host):
    return {name for name, model in host.stats().models.items() if model.loaded}
