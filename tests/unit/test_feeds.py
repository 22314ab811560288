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


STRINGS = "g (string[N] x) => (string[N] y) { y = Identity(x) }"


@pytest.mark.parametrize(
    "array",
    [
        np.array([b"abcdefgh", b"ijklmnop"]),
        np.array(["größer".encode(), b""]),
        np.array([b"a", "b"], object),
        np.array(["a", "bcd"]).astype(">U3"),
        [b"ab", b"c"],
        np.array([[b"a", b"bb"], [b"cc", b"d"]])[:, 0],
    ],
)
def test_bytes_are_read_as_utf_8_and_not_past_their_end(array):
    expected = [text.decode() if isinstance(text, bytes) else str(text) for text in np.asarray(array).tolist()]
    with graphs.load(STRINGS) as model:
        assert model.infer(x=array)["y"].tolist() == expected


@pytest.mark.parametrize("array", [np.array([b"\xff"]), np.array(["a", b"\xc3"], object)])
def test_bytes_that_are_no_text(array):
    with graphs.load(STRINGS) as model, pytest.raises(InputError, match=r"UTF-8.*input 'x'"):
        model.infer(x=array)


@pytest.mark.parametrize("value", [[["a"], ["b", "c"]], [1, 2], np.array([None], object)])
def test_what_is_no_array_of_strings(value):
    with graphs.load(STRINGS) as model, pytest.raises(InputError, match=r"strings.*input 'x'"):
        model.infer(x=value)


SEQUENCE = "g (seq(float[N]) s) => (seq(float[N]) y) { y = Identity(s) }"
OPTIONAL = "g (optional(float[N]) s) => (optional(float[N]) y) { y = Identity(s) }"
BOTH = "g (optional(seq(float[N])) s) => (optional(seq(float[N])) y) { y = Identity(s) }"
AWKWARD = [np.full(2, 7, ">f4"), np.full(4, 7, np.float32)[::2]]


@pytest.mark.parametrize("array", AWKWARD)
@pytest.mark.parametrize("text", [SEQUENCE, OPTIONAL, BOTH])
def test_arrays_within_are_made_to_fit_and_counted(text, array):
    with graphs.load(text) as model:
        given_feeds = array if text is OPTIONAL else [array, np.ones(1, np.float32)]
        found = model.infer(s=given_feeds)["y"]
        np.testing.assert_array_equal(found if text is OPTIONAL else found[0], [7, 7])
        assert model.stats().bytes_copied_in == 8
        del found
        assert model.stats().bytes_in_use == 0


@pytest.mark.parametrize("value", [(np.ones(2, np.float32), np.zeros(1, np.float32)), [[1.0, 1.0], [0.0]], []])
def test_what_sequences_may_be_made_of(value):
    with graphs.load(SEQUENCE) as model:
        found = model.infer(s=value)["y"]
        assert [one.tolist() for one in found] == [np.asarray(one).tolist() for one in value]
        assert [one.tolist() for one in model.infer(s=found)["y"]] == [one.tolist() for one in found]


@pytest.mark.parametrize(
    ("text", "value", "says"),
    [
        (SEQUENCE, [np.ones(2, np.float32), np.ones(2)], r"float32.*float64.*'s'\[1\]"),
        (SEQUENCE, [np.array(["a"])], r"float32.*<U1.*'s'\[0\]"),
        (SEQUENCE, [None], r"NoneType.*'s'\[0\]"),
        (SEQUENCE, np.ones((2, 2), np.float32), "list of arrays.*ndarray.*'s'"),
        (SEQUENCE, None, "list of arrays.*NoneType.*'s'"),
        (OPTIONAL, np.ones(2), "float32.*float64.*'s'"),
        (BOTH, {1: 2}, "list of arrays.*dict.*'s'"),
        (SEQUENCE.replace("float", "string"), [np.array([1])], r"strings.*int64.*'s'\[0\]"),
    ],
)
def test_arrays_within_that_do_not_fit(text, value, says):
    with graphs.load(text) as model, pytest.raises(InputError, match=says):
        model.infer(s=value)


def test_sequences_of_bytes():
    with graphs.load(SEQUENCE.replace("float", "string")) as model:
        assert model.infer(s=[np.array([b"abc", b"d"])])["y"][0].tolist() == ["abc", "d"]


@pytest.mark.parametrize(
    ("given_out", "says"),
    [
        ({"y": np.float32(1)}, "array of float32, got a value of type numpy.float32"),
        ({"y": [1.0]}, "array of float32, got a value of type list"),
        ({"y": np.ones((2, 3))}, "array of float32, got one of float64"),
        (X, r"mapping(.|\n)*infer\({'out': array}\)"),
    ],
)
def test_destinations_that_are_none(model, given_out, says):
    with pytest.raises(InputError, match=says):
        model.infer({"x": X, "k": K}, out=given_out)
