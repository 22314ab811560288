"""Models of a host come and go within one budget: loaded on demand, put away by age, never while they are used."""

from __future__ import annotations

import asyncio
import gc
import pickle
import threading
import time

import pytest
from hosts import SIDE, X, cost, filled, loaded, right

import omni_sdk as omni
from omni_sdk import host as hosting
from omni_sdk.errors import ClosedError, InputError, MemoryBudgetError, ModelError, OmniError, SettingsError
from omni_sdk.host import Host


def test_models_are_loaded_on_demand_and_the_least_recently_used_goes(paths):
    with filled(paths, 2) as host:
        assert loaded(host) == set()
        assert list(host) == ["two", "three", "five"]
        for name in ("two", "three", "two", "five"):
            assert isinstance(host[name], omni.Model)
            assert right(host[name], name)
        assert loaded(host) == {"two", "five"}
        stats = host.stats()
        assert stats.models["three"].put_away == 1
        assert stats.models["two"].loads == 1
        assert stats.in_use <= stats.peak <= stats.budget
        assert "2 of 3 models loaded" in repr(host)


def test_a_handle_outlives_being_put_away(paths):
    with filled(paths, 1) as host:
        two = host["two"]
        assert right(two, "two")
        assert right(host["three"], "three")
        assert loaded(host) == {"three"}
        assert right(two, "two")
        assert [spec.name for spec in two.inputs] == ["x"]
        assert two.warmup({"x": (2, SIDE)}).seconds
        assert two.stats().runs >= 2
        assert two.memory().total > 0
        assert "shared_threads" in str(two.explain())
        with two.input_buffers(x=(2, SIDE)) as buffers:
            buffers["x"][:] = 1
            assert (two.infer(buffers)["y"] == 2).all()
        assert (asyncio.run(two.infer_async(x=X))["y"] == 2).all()
        with pytest.raises(ModelError, match="pickling 'two'"):
            pickle.dumps(two)
        with pytest.raises(AttributeError):
            two.no_such_thing  # noqa: B018


def test_pinned_models_stay(paths):
    with Host(int(cost(paths) * 2.6), cache_dir=None, shared_threads=False) as host:
        host.add("two", paths["two"], pinned=True)
        assert loaded(host) == {"two"}
        for name in ("three", "five"):
            host.add(name, paths[name])
            assert right(host[name], name)
        assert loaded(host) == {"two", "five"}


def test_a_model_in_use_is_not_put_away_and_a_request_waits_for_it(paths):
    with filled(paths, 1) as host:
        events = []

        def ask():
            right(host["three"], "three")
            events.append("three")

        with host.using("two") as two:
            thread = threading.Thread(target=ask)
            thread.start()
            while host.stats().waiting == 0:
                time.sleep(0.001)
            assert right(two, "two")
            events.append("two")
        thread.join(10)
        assert events == ["two", "three"]


def test_what_can_never_fit_is_refused_when_it_is_added(paths):
    with Host(cost(paths) * 2 - 1, cache_dir=None, shared_threads=False) as host:
        host.add("two", paths["two"], pinned=True)
        with pytest.raises(MemoryBudgetError, match="pinned two"):
            host.add("three", paths["three"])
        assert list(host) == ["two"]


def test_a_stream_holds_its_model_until_it_is_closed(paths):
    with filled(paths, 1, wait=0) as host:
        stream = host["two"].stream(window=omni.Window(left=0, input_axis=0, output_axis=0, ratio=1))
        with pytest.raises(MemoryBudgetError):
            host["three"].infer(x=X)
        stream.close()
        stream.close()
        assert right(host["three"], "three")
        stream = host["two"].stream(window=omni.Window(left=0, input_axis=0, output_axis=0, ratio=1))
        del stream
        gc.collect()
        assert right(host["three"], "three")
        with pytest.raises(OmniError):
            host["two"].stream()
        assert right(host["three"], "three")


def test_a_model_that_fails_to_load_leaves_its_room(paths, tmp_path):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"\x00" * 1000)
    with filled(paths, 2) as host:
        host.add("broken", broken)
        for _ in range(3):
            with pytest.raises(ModelError):
                host["broken"].infer(x=X)
        assert right(host["two"], "two")
        with pytest.raises(ModelError):
            host.add("pinned", broken, pinned=True)
        assert "pinned" not in host


def test_wrong_names_and_closed_hosts(paths):
    host = filled(paths, 2)
    with pytest.raises(InputError, match="'four'"):
        host["four"]
    with pytest.raises(InputError, match="not in use"):
        host.add("two", paths["two"])
    two = host["two"]
    assert right(two, "two")
    host.close()
    host.close()
    with pytest.raises(ClosedError):
        two.infer(x=X)
    with pytest.raises(ClosedError):
        host["two"]


def test_settings_by_a_presets_name(paths):
    with Host("1 GiB", settings="baseline", cache_dir=None, shared_threads=False) as host:
        host.add("two", paths["two"])
        host.add("three", paths["three"], settings="balanced")
        assert host["two"].settings == omni.Settings.preset("baseline")
        assert host["three"].settings == omni.Settings()
        with pytest.raises(SettingsError, match="'fast'"):
            host.add("five", paths["five"], settings="fast")
    with pytest.raises(SettingsError, match="'fast'"):
        Host(settings="fast", shared_threads=False)


@pytest.mark.parametrize("wait", ["x", -1, True, float("nan")])
def test_seconds_that_are_none(wait):
    with pytest.raises(SettingsError, match=r"Host\(wait\)"):
        Host(wait=wait, shared_threads=False)


def test_the_default_wait_ends():
    assert 0 < hosting.DEFAULT_WAIT_SECONDS < float("inf")
