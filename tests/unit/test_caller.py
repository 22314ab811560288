"""The careful way: what is looked up before it is checked, and what an argument may be."""

from __future__ import annotations

import threading

import graphs
import numpy as np
import pytest

from omni_sdk.caller import keys_early
from omni_sdk.errors import InputError
from omni_sdk.specs import TensorSpec

PACKED = "g (uint4[N] x) => (int32[N] y) { y = Cast<to = 6>(x) }"


def test_values_of_less_than_a_byte_hit_only_what_is_equal():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    with graphs.load(PACKED, cache_bytes=1 << 20) as model:
        for values in ([1, 0, 2, 0], [1, 2, 0, 0], [2, 1, 0, 0]):
            for _ in range(2):
                assert model.infer(x=np.array(values, np.uint8))["y"].tolist() == values
                assert model.infer(x=np.array(values, ml_dtypes.uint4))["y"].tolist() == values
        assert (model.stats().cache_hits, model.stats().cache_misses) == (9, 3)


def test_values_out_of_range_are_refused_whatever_is_stored():
    with graphs.load(PACKED, cache_bytes=1 << 20) as model:
        model.infer(x=np.array([1, 2, 0, 0], np.uint8))
        for cache in (None, True, False):
            with pytest.raises(InputError, match="from 0 to 15"):
                model.infer(x=np.array([0x21, 0, 0, 0], np.uint8), cache=cache)


def test_which_feeds_may_be_looked_up_as_they_come():
    kinds = ("tensor(float)", "tensor(bfloat16)", "tensor(int4)")
    assert [keys_early((TensorSpec.of("x", kind, [1]),)) for kind in kinds] == [True, True, False]


@pytest.mark.parametrize("cache", [np.ones(3), np.zeros(1, np.float32), np.ones(1), 1, 0, "yes"])
@pytest.mark.parametrize("cache_bytes", [0, 1 << 20])
def test_a_cache_argument_that_is_none(cache, cache_bytes):
    x = np.ones(3, np.float32)
    with graphs.load(graphs.DOUBLE, cache_bytes=cache_bytes) as model:
        for _ in range(3):
            model.infer(x=x)
            with pytest.raises(InputError, match="True, False or None") as caught:
                model.infer(x=x, cache=cache)
            assert "infer({'cache': array})" in str(caught.value.hint)


def test_inputs_that_bear_the_names_of_parameters():
    text = "g (float[N] cache, float[N] out, float[N] timeout, float[N] self) => (float[N] y)"
    feeds = {name: np.ones(2, np.float32) for name in ("cache", "out", "timeout", "self")}
    with graphs.load(text + " { y = Sum(cache, out, timeout, self) }") as model:
        for name in ("cache", "out", "timeout"):
            with pytest.raises(InputError, match=r"mapping|seconds|True") as caught:
                model.infer(**{name: feeds[name]})
            assert f"infer({{'{name}': array}})" in str(caught.value.hint)
        for _ in range(3):
            assert model.infer(feeds)["y"].tolist() == [4, 4]
        shapes = dict.fromkeys(feeds, (2,))
        with model.input_buffers(**shapes) as buffers:
            assert buffers["self"].shape == (2,)


def test_numpys_own_true_and_false_will_do():
    x = np.ones(3, np.float32)
    with graphs.load(graphs.DOUBLE, cache_bytes=1 << 20) as model:
        assert model.infer(x=x, cache=np.True_)["y"].tolist() == [2, 2, 2]
        assert model.infer(x=x, cache=np.False_)["y"].flags.writeable


def test_waiting_for_another_thread_that_computes_the_same_ends_in_time():
    feeds = {"x": np.ones(8, np.float32), "n": np.array(10**9, np.int64)}
    with graphs.load(graphs.LONG, cache_bytes=1 << 20, intra_op_num_threads=1) as model:
        outcome = []

        def lead():
            try:
                model.infer(feeds, timeout=2)
            except TimeoutError as error:
                outcome.append(error)

        leader = threading.Thread(target=lead)
        leader.start()
        while model.stats().cache_misses == 0:
            pass
        with pytest.raises(TimeoutError, match=r"within 0\.1 s"):
            model.infer(feeds, timeout=0.1)
        assert not outcome
        leader.join(20)
        assert len(outcome) == 1
