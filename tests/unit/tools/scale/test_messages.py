"""Requests and responses: read when they fit, and a `Problem` whatever else comes."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni_sdk.specs import TensorSpec
from omni_sdk.tools.scale.messages import HEADER_LENGTH, parse_request, render_response
from omni_sdk.tools.scale.problems import Problem
from omni_sdk.tools.scale.signature import Signature

A = TensorSpec.of("a", "tensor(float)", ["n", 2])
B = TensorSpec.of("b", "tensor(int64)", [1])
PAST, PRESENT = TensorSpec.of("past", "tensor(float)", [1]), TensorSpec.of("present", "tensor(float)", [1])
SIGNATURE = Signature.of("m", (A, B, PAST), (A, B, PRESENT), {"past": "present"})
VALUES = {"a": np.array([[1, 2], [3, 4]], np.float32), "b": np.array([7])}


def tensor(name: str, datatype: str, shape: list[int], **rest: object) -> dict[str, object]:
    return {"name": name, "datatype": datatype, "shape": shape, **rest}


def good() -> dict[str, object]:
    return {
        "inputs": [tensor("a", "FP32", [2, 2], data=[1, 2, 3, 4]), tensor("b", "INT64", [1], data=[7])],
    }


def binary() -> tuple[dict[str, object], bytes]:
    document = {
        "inputs": [
            tensor("a", "FP32", [2, 2], parameters={"binary_data_size": 16}),
            tensor("b", "INT64", [1], parameters={"binary_data_size": 8}),
        ],
        "parameters": {"binary_data_output": True},
    }
    return document, VALUES["a"].astype("<f4").tobytes() + VALUES["b"].astype("<i8").tobytes()


def parse(document: object, blocks: bytes = b"", length: str | None = None):
    head = json.dumps(document).encode()
    return parse_request(head + blocks, length or (str(len(head)) if blocks else None), SIGNATURE)


def test_states_are_none_of_the_clients():
    described = SIGNATURE.metadata()
    assert [one["name"] for one in described["inputs"]] == ["a", "b"]
    assert described["outputs"] == [
        {"name": "a", "datatype": "FP32", "shape": [-1, 2]},
        {"name": "b", "datatype": "INT64", "shape": [1]},
    ]


@pytest.mark.parametrize("request_", [(good(), b""), binary()])
def test_requests_are_read(request_):
    request = parse(*request_)
    for name, value in VALUES.items():
        np.testing.assert_array_equal(request.feeds[name], value)
    assert request.outputs == dict.fromkeys("ab", bool(request_[1]))
    assert (request.id, request.timeout) == (None, None)


def test_what_else_a_request_says_is_read():
    document = {
        **good(),
        "id": "42",
        "parameters": {"timeout": 250_000, "binary_data_output": True, "content_type": "np"},
        "outputs": [{"name": "b", "parameters": {"binary_data": False}}, {"name": "a"}],
    }
    request = parse(document)
    assert request.outputs == {"b": False, "a": True}
    assert request.id == "42"
    assert request.timeout == pytest.approx(0.25)


def test_responses_are_rendered_in_json():
    pieces, headers = render_response(parse({**good(), "id": "x"}), VALUES, SIGNATURE)
    assert json.loads(b"".join(pieces)) == {
        "model_name": "m",
        "model_version": "1",
        "id": "x",
        "outputs": [
            tensor("a", "FP32", [2, 2], data=[1, 2, 3, 4]),
            tensor("b", "INT64", [1], data=[7]),
        ],
    }
    assert HEADER_LENGTH not in headers


def test_responses_are_rendered_in_binary():
    pieces, headers = render_response(parse(*binary()), VALUES, SIGNATURE)
    body, length = b"".join(pieces), int(headers[HEADER_LENGTH])
    sizes = [one["parameters"]["binary_data_size"] for one in json.loads(body[:length])["outputs"]]
    assert sizes == [16, 8]
    assert body[length:] == binary()[1]


def changed(**changes: object) -> dict[str, object]:
    return {**good(), **changes}


WRONG = {
    "no object": [],
    "no inputs": {},
    "inputs of another kind": changed(inputs={}),
    "inputs that are no objects": changed(inputs=[1]),
    "an input missing": changed(inputs=good()["inputs"][:1]),
    "an input twice": changed(inputs=[*good()["inputs"], good()["inputs"][0]]),
    "an input unknown": changed(inputs=[*good()["inputs"], tensor("c", "FP32", [1], data=[1])]),
    "a state": changed(inputs=[*good()["inputs"], tensor("past", "FP32", [1], data=[1])]),
    "a name that is none": changed(inputs=[tensor(["a"], "FP32", [1], data=[1])]),
    "another datatype": changed(inputs=[tensor("a", "FP64", [2, 2], data=[1, 2, 3, 4])]),
    "another rank": changed(inputs=[tensor("a", "FP32", [4], data=[1, 2, 3, 4])]),
    "another size": changed(inputs=[tensor("a", "FP32", [1, 4], data=[1, 2, 3, 4])]),
    "no data": changed(inputs=[tensor("a", "FP32", [2, 2])]),
    "a block that is not there": changed(inputs=[tensor("a", "FP32", [2, 2], parameters={"binary_data_size": 16})]),
    "a block of negative size": changed(inputs=[tensor("a", "FP32", [0, 2], parameters={"binary_data_size": -1})]),
    "a size that is true": changed(inputs=[tensor("a", "FP32", [0, 2], parameters={"binary_data_size": True})]),
    "block and data": changed(inputs=[tensor("a", "FP32", [0, 2], data=[], parameters={"binary_data_size": 0})]),
    "an id that is a number": changed(id=1),
    "parameters that are none": changed(parameters=[]),
    "a sequence": changed(parameters={"sequence_id": 5}),
    "a priority": changed(parameters={"priority": 2}),
    "shared memory": changed(inputs=[tensor("a", "FP32", [2, 2], parameters={"shared_memory_region": "r"})]),
    "a timeout below zero": changed(parameters={"timeout": -1}),
    "a timeout in words": changed(parameters={"timeout": "1s"}),
    "an output unknown": changed(outputs=[{"name": "c"}]),
    "an output twice": changed(outputs=[{"name": "a"}, {"name": "a"}]),
    "an output that is a state": changed(outputs=[{"name": "present"}]),
    "a classification": changed(outputs=[{"name": "a", "parameters": {"classification": 3}}]),
    "a flag that is none": changed(outputs=[{"name": "a", "parameters": {"binary_data": 1}}]),
}


@pytest.mark.parametrize("document", WRONG.values(), ids=WRONG.keys())
def test_wrong_requests_are_refused(document):
    with pytest.raises(Problem, match=r"^Expected .*, got .* - at ") as caught:
        parse(document)
    assert caught.value.status == 400


@pytest.mark.parametrize("length", ["-1", "x", "", "1e3", "99999", "9" * 30, "٣"])
def test_wrong_lengths_are_refused(length):
    head, blocks = binary()
    with pytest.raises(Problem):
        parse_request(json.dumps(head).encode() + blocks, length, SIGNATURE)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"inputs": NaN}', b"[" * 100_000, b'{"inputs": ' + b"9" * 5000])
def test_what_is_no_json_is_refused(body):
    with pytest.raises(Problem):
        parse_request(body, None, SIGNATURE)


def test_the_size_of_an_answer_in_json_is_bounded():
    request = parse(good())
    render_response(request, VALUES, SIGNATURE, most=len("[1.0,2.0,3.0,4.0]") + len("[7]"))
    with pytest.raises(Problem, match="at most 10 bytes"):
        render_response(request, VALUES, SIGNATURE, most=10)
    render_response(parse(*binary()), VALUES, SIGNATURE, most=1)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
TENSORS = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["a", "b", "past"]) | JSON,
        "datatype": st.sampled_from(["FP32", "INT64", "BYTES", "BF16"]) | JSON,
        "shape": st.lists(st.integers(-1, 2**63), max_size=3) | JSON,
        "data": st.lists(st.integers() | st.floats(), max_size=4) | JSON,
        "parameters": st.fixed_dictionaries({}, optional={"binary_data_size": st.integers(-1, 64) | JSON}) | JSON,
    },
)
DOCUMENTS = (
    st.fixed_dictionaries(
        {},
        optional={
            "id": JSON,
            "inputs": st.lists(TENSORS, max_size=3) | JSON,
            "outputs": st.lists(TENSORS, max_size=3) | JSON,
            "parameters": st.dictionaries(st.sampled_from(["timeout", "binary_data_output", "x"]), JSON) | JSON,
        },
    )
    | JSON
)


@given(DOCUMENTS, st.binary(max_size=40), st.none() | st.integers(-3, 200).map(str) | st.text(max_size=5))
def test_whatever_comes_is_a_request_or_a_problem(document, blocks, length):
    try:
        request = parse_request(json.dumps(document).encode() + blocks, length, SIGNATURE)
    except Problem:
        return
    assert request.feeds.keys() == {"a", "b"}


@given(st.data())
def test_a_damaged_request_is_a_request_or_a_problem(data):
    document, blocks = binary()
    head = json.dumps(document).encode()
    body = bytearray(head + blocks)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(body) - 1))
        body[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
        body = body or bytearray(1)
    try:
        request = parse_request(bytes(body), str(len(head)), SIGNATURE)
    except Problem:
        return
    assert A.fits(request.feeds["a"].shape)
