"""Requests and responses of the Open Inference Protocol v2, with its binary tensor extension.

A body is a JSON object; binary blocks follow it in the order of the tensors that name their size, and the header
`Inference-Header-Content-Length` then tells where the JSON ends. Whatever else comes is a `Problem`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from omni_sdk.tools.scale import tensors
from omni_sdk.tools.scale.datatypes import datatype_of
from omni_sdk.tools.scale.depth import check_depth
from omni_sdk.tools.scale.problems import Problem
from omni_sdk.tools.scale.signature import Signature

JSON_TYPE = "application/json"
BINARY_TYPE = "application/octet-stream"
HEADER_LENGTH = "inference-header-content-length"
_REFUSED = {
    "sequence_id": "post to the model's audio endpoint for a stream: a request here begins anew",
    "priority": "there is one queue, and it is served in order",
    "shared_memory_region": "send the tensor in the body",
    "classification": "take the whole output and pick from it",
}
_NEUTRAL = (0, "", None)
_MICROSECONDS = 1e-6
MAX_JSON_BYTES = 64 << 20
SMALL_VALUES = 4096
"""Values of JSON or strings that are rendered in a millisecond or two."""


@dataclass(frozen=True, slots=True)
class InferRequest:
    """A request that fits the model's signature.

    Parameters
    ----------
    id : str or None
        Given back with the response.
    feeds : dict of str to ndarray
        Read-only views of the body where it was binary.
    outputs : dict of str to bool
        Name of each output asked for -> whether it goes back in binary.
    timeout : float or None
        Seconds that the client gives it.
    """

    id: str | None
    feeds: dict[str, np.ndarray]
    outputs: dict[str, bool]
    timeout: float | None


def parse_request(body: bytes, header_length: str | None, signature: Signature) -> InferRequest:
    """Read the body of an inference request.

    Parameters
    ----------
    body : bytes
    header_length : str or None
        The HTTP header `Inference-Header-Content-Length`.
    signature : Signature
        What the request is for.

    Raises
    ------
    Problem
        For every body that is no request which the model could run.
    """
    document, blocks = _split(body, header_length)
    parameters = _parameters(document, "request")
    identity = document.get("id")
    if identity is not None and not isinstance(identity, str):
        _refuse("a string", identity, "request.id")
    feeds = _feeds(_objects(document, "inputs"), blocks, signature)
    binary = _flag(parameters, "binary_data_output", "request")
    return InferRequest(identity, feeds, _outputs(document, binary, signature), _timeout(parameters))


def render_response(
    request: InferRequest, results: dict[str, Any], signature: Signature, most: int = MAX_JSON_BYTES
) -> tuple[list[bytes | memoryview], dict[str, str]]:
    """The body of a response, in pieces, and its headers.

    Parameters
    ----------
    request : InferRequest
    results : dict of str to ndarray
    signature : Signature
    most : int, default 64 MiB
        Bytes of JSON; binary blocks are not counted.

    Raises
    ------
    Problem
        When values were asked for in JSON that JSON cannot hold, or that take more than `most`.
    """
    tail: dict[str, Any] = {} if request.id is None else {"id": request.id}
    head: list[bytes | memoryview] = [
        _opened({"model_name": signature.name, "model_version": "1", **tail}, "outputs"),
        b"[",
    ]
    blocks: list[bytes | memoryview] = []
    left = most
    for name, binary in request.outputs.items():
        array, datatype = np.asarray(results[name]), datatype_of(signature.outputs[name])
        tensor: dict[str, Any] = {"name": name, "datatype": datatype, "shape": list(array.shape)}
        head += [b","] * (len(head) > 2)
        if binary:
            blocks.append(tensors.to_binary(array, datatype))
            tensor["parameters"] = {"binary_data_size": len(blocks[-1])}
            head.append(_json(tensor))
            continue
        head.append(_opened(tensor, "data"))
        for piece in tensors.to_json(array, datatype, f"output {name!r}"):
            left -= len(piece)
            if left < 0:
                raise Problem(f"Expected at most {most} bytes of JSON, got more - at output {name!r}",
                              hint=tensors.ASK_BINARY)  # fmt: skip
            head.append(piece)
        head.append(b"}")
    head.append(b"]}")
    if not blocks:
        return head, {"content-type": JSON_TYPE}
    return [*head, *blocks], {"content-type": BINARY_TYPE, HEADER_LENGTH: str(sum(map(len, head)))}


def is_small(request: InferRequest, results: dict[str, Any]) -> bool:
    """Whether `render_response` takes no longer than another request may wait for it."""
    arrays = [(np.asarray(results[name]), binary) for name, binary in request.outputs.items()]
    return sum(array.size for array, binary in arrays if not binary or array.dtype.kind == "O") <= SMALL_VALUES


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _opened(document: dict[str, Any], last: str) -> bytes:
    """An object that is not at its end: the value of its last key is to follow."""
    return _json(document)[:-1] + b"," + json.dumps(last).encode() + b":"


def _split(body: bytes, header_length: str | None) -> tuple[dict[str, Any], memoryview]:
    view, end = memoryview(body), len(body)
    if header_length is not None:
        digits = header_length.isascii() and header_length.isdigit() and len(header_length) < 20
        end = int(header_length) if digits else -1
        if not 0 <= end <= len(body):
            _refuse(f"a length up to the body's {len(body)} bytes", header_length, HEADER_LENGTH)
    try:
        text = str(view[:end], "utf-8")
        check_depth(view[:end])
        document = json.loads(text, parse_int=_integer, parse_float=_float, parse_constant=_constant)
    except Problem:
        raise
    except (ValueError, RecursionError) as error:
        raise Problem(f"Expected JSON, got something else ({error}) - at the request's body") from None
    if not isinstance(document, dict):
        _refuse("a JSON object", type(document).__name__, "request")
    return document, view[end:]


def _feeds(described: list[dict[str, Any]], blocks: memoryview, signature: Signature) -> dict[str, np.ndarray]:
    feeds: dict[str, np.ndarray] = {}
    for index, tensor in enumerate(described):
        name = tensor.get("name")
        spec = signature.inputs.get(name) if isinstance(name, str) else None
        if spec is None or name is None:
            _refuse(f"an input ({', '.join(signature.inputs)})", name, f"inputs[{index}].name")
        if name in feeds:
            _refuse("each input once", name, f"inputs[{index}].name")
        where, datatype = f"input {name!r}", datatype_of(spec)
        if tensor.get("datatype") != datatype:
            _refuse(datatype, tensor.get("datatype"), f"{where}.datatype")
        shape = tensors.read_shape(tensor.get("shape"), where)
        if not spec.fits(shape):
            _refuse(str(spec), list(shape), f"{where}.shape")
        size = _parameters(tensor, where).get("binary_data_size")
        if size is None:
            feeds[name] = tensors.from_json(tensor.get("data"), datatype, shape, where)
            continue
        if "data" in tensor:
            _refuse("either data or binary_data_size", "both", where)
        if type(size) is not int or not 0 <= size <= len(blocks):
            _refuse(f"at most the {len(blocks)} bytes that are left", size, f"{where}.binary_data_size")
        feeds[name] = tensors.from_binary(blocks[:size], datatype, shape, where)
        blocks = blocks[size:]
    if len(blocks):
        _refuse("a body that ends with its last tensor", f"{len(blocks)} bytes more", "the request's body")
    missing = [name for name in signature.inputs if name not in feeds]
    if missing:
        _refuse(f"the inputs {', '.join(signature.inputs)}", f"none named {missing[0]!r}", "request.inputs")
    return feeds


def _outputs(document: dict[str, Any], binary: bool, signature: Signature) -> dict[str, bool]:
    asked = _objects(document, "outputs") if document.get("outputs") is not None else []
    found: dict[str, bool] = {}
    for index, tensor in enumerate(asked):
        name, where = tensor.get("name"), f"outputs[{index}]"
        if not isinstance(name, str) or name not in signature.outputs:
            _refuse(f"an output ({', '.join(signature.outputs)})", name, f"{where}.name")
        if name in found:
            _refuse("each output once", name, f"{where}.name")
        found[name] = _flag(_parameters(tensor, where), "binary_data", where, binary)
    return found or dict.fromkeys(signature.outputs, binary)


def _objects(document: dict[str, Any], key: str) -> list[dict[str, Any]]:
    value = document.get(key)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        _refuse("a list of objects", type(value).__name__, f"request.{key}")
    return value


def _parameters(holder: dict[str, Any], where: str) -> dict[str, Any]:
    """Parameters, those refused that would change the answer and have no meaning here; others are the client's own."""
    parameters = holder.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        _refuse("an object", parameters, f"{where}.parameters")
    for name, hint in _REFUSED.items():
        if parameters.get(name) not in _NEUTRAL:
            raise Problem(f"Expected no {name}, got one - at {where}.parameters", hint=hint)
    return parameters


def _flag(parameters: dict[str, Any], name: str, where: str, default: bool = False) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        _refuse("true or false", value, f"{where}.parameters.{name}")
    return value


def _timeout(parameters: dict[str, Any]) -> float | None:
    value = parameters.get("timeout")
    if value is None or value == 0:
        return None
    if type(value) is not int or value < 0:
        _refuse("microseconds", value, "request.parameters.timeout")
    return min(value, 2**53) * _MICROSECONDS


def _integer(digits: str) -> int:
    """`int` as a function of Python's: the parser calls it for each number, and other threads get their turns there."""
    return int(digits)


def _float(digits: str) -> float:
    return float(digits)


def _constant(name: str) -> NoReturn:
    raise Problem(f"Expected JSON, got {name}, which it has not - at the request's body", hint="send binary data")


def _refuse(expected: str, got: object, where: str) -> NoReturn:
    text = str(got)
    shown = text if len(text) <= 60 else f"{text[:60]}..."
    raise Problem(f"Expected {expected}, got {shown or 'nothing'} - at {where}")
