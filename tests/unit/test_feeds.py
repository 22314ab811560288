"""Every bad feed gets one sentence that names it; the model stays usable and no buffer is lost."""

from __future__ import annotations

import graphs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni_sdk import feeds
from omni_sdk._buffers import BufferPool
from omni_sdk.errors import InputError
from omni_sdk.specs import TensorSpec

FIXED = "g (float[2, N] x, uint8 k) => (float[2, N] y, uint8 j) { y = Add(x, x)\n j = Identity(k) }"
X, K = np.ones((2, 3), np.float32), np.array(7, np.uint8)


@pytest.fixture(scope="module")
def model():
    with graphs.load(FIXED) as model:
        yield model


@pytest.mark.parametrize(
    ("given_feeds", "says"),
    [
        ({"x": X}, "'k', which is missing"),
        ({"x": X, "k": K, "z": X}, "'z' as well"),
        ({"x": X, "key": K}, "'key' as well"),
        ({"x": X.astype(np.float64), "k": K}, "float32.*float64.*'x'"),
        ({"x": X[0], "k": K}, r"rank 2.*\(3,\).*'x'"),
        ({"x": np.ones((3, 3), np.float32), "k": K}, "size 2 in dimension 0.*'x'"),
        ({"x": X.astype(object), "k": K}, "object.*'x'"),
        ({"x": "text", "k": K}, "str.*'x'"),
        ({"x": None, "k": K}, "NoneType.*'x'"),
        ({"x": [[1.0], [2.0, 3.0]], "k": K}, "ragged.*'x'"),
        ({"x": [[1e300], [0.0]], "k": K}, "fit float32.*'x'"),
        ({"x": X, "k": 256}, "fit uint8.*'k'"),
        ({"x": X, "k": -1}, "fit uint8.*'k'"),
        ({"x": X, "k": 1.5}, "uint8.*float64.*'k'"),
        ([X, K], "mapping.*list"),
    ],
)
def test_a_feed_that_does_not_fit(model, given_feeds, says):
    with pytest.raises(InputError, match=says):
        model.infer(given_feeds)
    np.testing.assert_array_equal(model.infer(x=X, k=K)["y"], X * 2)
    assert model.stats().bytes_in_use == 0


def test_a_name_given_twice(model):
    with pytest.raises(InputError, match="once, got 'x'"):
        model.infer({"x": X, "k": K}, x=X)


def test_a_near_miss_is_suggested():
    with graphs.load("g (float[N] audio_codes) => (float[N] y) { y = Neg(audio_codes) }") as model:
        with pytest.raises(InputError) as caught:
            model.infer(audio_code=np.ones(1, np.float32))
        assert caught.value.hint == "did you mean 'audio_codes'?"


@pytest.mark.parametrize(
    "array",
    [
        np.ones((3, 2), np.float32).T,
        np.ones((2, 6), np.float32)[:, ::2],
        np.ones((2, 3), ">f4"),
        np.frombuffer(b"\0" + np.ones(6, np.float32).tobytes(), np.uint8)[1:].view(np.float32).reshape(2, 3),
    ],
)
def test_awkward_arrays_are_copied_once_and_counted(array):
    with graphs.load(FIXED) as model:
        for _ in range(3):
            np.testing.assert_array_equal(model.infer(x=array, k=K)["y"], np.full((2, 3), 2))
        assert model.stats().bytes_copied_in == 3 * 24
        assert model.stats().bytes_in_use == 0


def test_read_only_arrays_nans_and_subclasses_are_taken_as_they_are():
    class Mine(np.ndarray):
        pass

    with graphs.load(FIXED) as model:
        frozen = np.full((2, 3), np.nan, np.float32)
        frozen.flags.writeable = False
        for array in (frozen, frozen.view(Mine)):
            for _ in range(3):
                assert np.isnan(model.infer(x=array, k=K)["y"]).all()
        assert model.stats().bytes_copied == 0


def test_python_values_become_arrays(model):
    results = model.infer(x=[[1, 2], [3, 4]], k=5)
    np.testing.assert_array_equal(results["y"], [[2, 4], [6, 8]])
    assert results["j"] == 5


def test_bits_are_not_made_of_python_values():
    spec = TensorSpec.of("x", "tensor(bfloat16)", [2])
    with pytest.raises(InputError, match=r"bits.*bfloat16.*'x'"):
        feeds.checked({"x": [1, 2]}, [spec], BufferPool())


@pytest.mark.parametrize(
    "shapes", [{"x": 3}, {"x": (2, "N")}, {"x": (2, -1)}, {"x": (3, 3)}, {"z": (1,)}, "x", [3], {}]
)
def test_shapes_that_cannot_be(model, shapes):
    with pytest.raises(InputError, match="shapes"):
        model.warmup(shapes)
    assert model.stats().bytes_in_use == 0


@given(st.data(), st.sampled_from([2, 4]), st.booleans())
def test_packed_values_come_back(data, bits, signed):
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    dtype = np.dtype(np.int8 if signed else np.uint8)
    array = np.array(data.draw(st.lists(st.integers(low, high), max_size=40)), dtype)
    packed = feeds.packed(array, bits)
    assert packed.shape == array.shape
    np.testing.assert_array_equal(feeds.unpacked(packed, array.shape, bits, dtype), array)


@pytest.mark.parametrize("name", ["int2", "int4"])
def test_narrow_integers_of_ml_dtypes_are_taken_by_value(name):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    values = [-2, -1, 0, 1]
    array = np.array(values).astype(getattr(ml_dtypes, name))
    spec = TensorSpec.of("x", f"tensor({name})", [4])
    assert feeds.as_array(array, spec).tolist() == values
