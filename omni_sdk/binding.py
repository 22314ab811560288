"""One run: ORT's IO binding over leased buffers, or a plain `session.run` where nothing can be bound."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from numbers import Real
from typing import Any, TypeAlias

import numpy as np
import onnxruntime as ort

from omni_sdk._buffers import BufferPool
from omni_sdk._runs import BoundRun, Frame
from omni_sdk.errors import InputError, ModelError
from omni_sdk.feeds import unpacked
from omni_sdk.session import Device, explained
from omni_sdk.specs import NATIVE, TensorSpec
from omni_sdk.stats import Counter

DeviceValue: TypeAlias = ort.OrtValue
_Bind: TypeAlias = Callable[[str, ort.OrtValue], None]


def bound_run(
    session: ort.InferenceSession,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    input_shapes: Sequence[tuple[int, ...]],
    output_shapes: Sequence[tuple[int, ...]],
    pool: BufferPool,
    counter: Counter,
    *,
    stages: bool = False,
) -> BoundRun:
    """A run at fixed shapes over ORT's IO binding.

    Parameters
    ----------
    session : onnxruntime.InferenceSession
    inputs, outputs : sequence of TensorSpec
        Tensors of numbers only.
    input_shapes, output_shapes : sequence of tuple of int
    pool : BufferPool
        Where results live.
    counter : Counter
        Of runs.
    stages : bool
        Whether small inputs that lie elsewhere every time are copied in the end, and counted, to where one stays bound.
    """
    one, other = session.io_binding(), session.io_binding()
    into = one.bind_ortvalue_input, other.bind_ortvalue_input
    out_of = one.bind_ortvalue_output, other.bind_ortvalue_output
    return BoundRun(
        _frame(inputs, input_shapes, into, pool if stages else None),
        _frame(outputs, output_shapes, out_of, None),
        pool,
        session.run_with_iobinding,
        (one, other),
        _failure,
        counter.add,
    )


def _frame(
    specs: Sequence[TensorSpec],
    shapes: Sequence[tuple[int, ...]],
    binds: tuple[_Bind, _Bind],
    stager: BufferPool | None,
) -> Frame:
    types = [spec.element.onnx for spec in specs if spec.element]

    def value_of(index: int, array: np.ndarray) -> ort.OrtValue:
        return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array, types[index])

    return Frame([spec.name for spec in specs], [spec.dtype for spec in specs], shapes, binds, value_of, stager)


def on_device(array: np.ndarray, device: Device) -> DeviceValue:
    """A value in a device's memory, owned by ONNX Runtime's allocator; on the CPU the array itself, kept alive."""
    return ort.OrtValue.ortvalue_from_numpy(array, *device)


class RunFailed(ModelError):
    """ONNX Runtime failed on a run, or was told to stop."""


class Interrupt:
    """Ends a run from outside: after a time, or when told to. One for each call, as a context around it.

    Parameters
    ----------
    timeout : float, optional
        Seconds from when it is made, by when the context should be entered; it may be entered within itself.

    Attributes
    ----------
    told : concurrent.futures.Future
        Done once it fired: for a call that waits for something else than ONNX Runtime.

    Raises
    ------
    InputError
        When the timeout is no number.
    """

    def __init__(self, timeout: float | None = None) -> None:
        self.options = ort.RunOptions()
        self.timeout = None if timeout is None else _seconds(timeout)
        self.told: Future[None] = Future()
        self._timer = None if self.timeout is None else threading.Timer(self.timeout, self.fire)
        self._made = time.monotonic()

    def shrink_arena(self) -> None:
        """ONNX Runtime gives its arena back to the system when the run is over."""
        self.options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")

    @property
    def fired(self) -> bool:
        """Whether the run was told to stop."""
        return self.told.done()

    def fire(self) -> None:
        """ONNX Runtime stops at the next node."""
        with suppress(InvalidStateError):  # told before, by the timer or the caller
            self.told.set_result(None)
        self.options.terminate = True

    def __enter__(self) -> Interrupt:
        if self._timer is not None and self._timer.ident is None:  # not started by a context around this one
            self._timer.interval = max(0.0, self._timer.interval - (time.monotonic() - self._made))
            self._timer.daemon = True
            self._timer.start()
        return self

    def __exit__(self, *raised: object) -> None:
        if self._timer is not None:
            self._timer.cancel()


def run_unbound(
    session: ort.InferenceSession,
    feeds: Mapping[str, Any],
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    options: ort.RunOptions | None = None,
) -> tuple[dict[str, Any], int]:
    """A run whose outputs ONNX Runtime allocates, and the bytes that had to be copied out of it.

    Sequences, maps, optionals and strings pass through as ONNX Runtime gives them.
    """
    if all(spec.type_name in NATIVE or spec.element is None for spec in (*inputs, *outputs)):
        try:
            values = session.run(None, dict(feeds), options)
        except Exception as error:
            raise _failure(error) from error
        return _parted(_named(values, outputs), feeds)
    return _run_on_values(session, feeds, inputs, outputs, options)


def _parted(results: dict[str, Any], feeds: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    """Results apart from the caller's memory, and the bytes copied: ONNX Runtime 1.23 gives an input that is an output
    as well back where it lay."""
    copied = 0
    for name in results.keys() & feeds.keys():
        result, fed = results[name], feeds[name]
        if isinstance(result, np.ndarray) and isinstance(fed, np.ndarray) and np.may_share_memory(result, fed):
            results[name], copied = result.copy(), copied + result.nbytes
    return results, copied


def _run_on_values(
    session: ort.InferenceSession,
    feeds: Mapping[str, Any],
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    options: ort.RunOptions | None,
) -> tuple[dict[str, Any], int]:
    """For element types that numpy lacks: `session.run` takes values of them, and gives none.

    `run_with_ort_values` gives them, and takes nothing but values, which cannot be made of strings and sequences.
    """
    bits = next((spec for spec in outputs if spec.element is not None and spec.type_name not in NATIVE), None)
    others = [spec for spec in inputs if spec.element is None and not isinstance(feeds[spec.name], ort.OrtValue)]
    if bits is not None and others:
        raise ModelError(
            f"Expected inputs of numbers beside the output {bits}, got {others[0]} - at infer",
            hint=f"ONNX Runtime gives Python no {bits.type_name} then: have the graph cast that output to float",
        )
    names = [spec.name for spec in outputs]
    try:
        values = {spec.name: _ort_value(feeds[spec.name], spec) for spec in inputs}
        run = session.run if bits is None else session.run_with_ort_values
        found = run(names, values, options)
    except Exception as error:
        raise _failure(error) from error
    if bits is None:
        return _named(found, outputs), 0
    _refuse_none([spec for spec, value in zip(outputs, found, strict=True) if not value.has_value()])
    results: dict[str, Any] = {}
    copied = 0
    for spec, value in zip(outputs, found, strict=True):
        if spec.element is None or spec.type_name in NATIVE:
            results[spec.name] = value.numpy() if value.is_tensor() else value
            continue
        data = np.frombuffer(ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes()), np.uint8)
        copied += data.nbytes
        if spec.element.packed:
            results[spec.name] = unpacked(data, value.shape(), spec.element.bits, spec.dtype)
        else:
            results[spec.name] = data.view(spec.dtype).reshape(value.shape()).copy()
    return results, copied


def _named(values: Sequence[Any], outputs: Sequence[TensorSpec]) -> dict[str, Any]:
    results = dict(zip((spec.name for spec in outputs), values, strict=True))
    _refuse_none([spec for spec in outputs if results[spec.name] is None])
    return results


def _refuse_none(specs: Sequence[TensorSpec]) -> None:
    """A graph's branch may leave out a tensor that its interface promises; an optional may be none."""
    for spec in specs:
        if spec.is_tensor:
            raise ModelError(f"Expected {spec}, got nothing from ONNX Runtime - at infer")


def _seconds(timeout: object) -> float:
    if isinstance(timeout, np.ndarray):
        hint = "an input that is called 'timeout' goes in by a mapping: infer({'timeout': array})"
        raise InputError("Expected a number of seconds, got an array - at timeout", hint=hint)
    if not isinstance(timeout, Real) or timeout != timeout:  # NaN; of integers `math.isnan` takes no large ones
        raise InputError(f"Expected a number of seconds, got {timeout!r} - at timeout")
    return 0.0 if timeout <= 0 else float(timeout) if timeout < threading.TIMEOUT_MAX else threading.TIMEOUT_MAX


def _failure(error: Exception) -> RunFailed:
    message, hint = explained(error)
    return RunFailed(f"Expected a run to succeed, got {message} - at infer", hint=hint)


def _ort_value(array: Any, spec: TensorSpec) -> Any:
    """A value of ONNX Runtime's; of strings and of what is no tensor the thing itself."""
    if spec.element is None:
        return array
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array, spec.element.onnx)
