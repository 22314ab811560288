"""Streams on a device with memory of its own: the state stays there from step to step.

Who owns what: state lies in memory of ONNX Runtime's allocator for the device, one value for each state, handed from a
step's outputs to the next one's inputs; results lie in leased arrays of ours, as everywhere. Only the new inputs and
the results cross over.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from omni_sdk.binding import DeviceValue, RunFailed, on_device
from omni_sdk.runner import Runner
from omni_sdk.session import Device, Session, explained
from omni_sdk.specs import NATIVE
from omni_sdk.states import first_shapes
from omni_sdk.stream import CarriedStream, Results


class DeviceStateStream(CarriedStream):
    """A stream whose state never leaves its device.

    A step that fails has replaced no state, so it can be taken again.

    Parameters
    ----------
    runner : Runner
    device : (str, int)
        As ONNX Runtime names it for bindings: `("cuda", 0)`.
    pairs : mapping of str to str
        State input -> state output.
    constants : mapping of str to ndarray
        Inputs that are the same at every step; they are copied to the device once.
    initial : mapping of str to ndarray
        First states; those left out are zeros.
    record : callable
        Told the seconds of each step.
    """

    def __init__(
        self,
        runner: Runner,
        device: Device,
        pairs: Mapping[str, str],
        constants: Mapping[str, Any],
        initial: Mapping[str, np.ndarray],
        record: Callable[[float], None],
    ) -> None:
        super().__init__(runner, pairs, constants, record)
        self._device = device
        self._constants = self._sent(self._checked(constants, self._steady))
        first = self._checked(initial, [spec for spec in self._state_specs if spec.name in initial])
        self._initial = {name: array.copy() for name, array in first.items()}
        self._results = [spec for spec in runner.outputs if spec.name not in self._pairs.values()]
        self._states: dict[str, DeviceValue] = {}

    def reset(self) -> None:
        """Back to the beginning: the states are the initial ones again."""
        self._states = {}

    def snapshot(self) -> dict[str, np.ndarray]:
        """A copy of every state by input name, in the host's memory; empty before the first step."""
        return {name: np.array(value.numpy()) for name, value in self._states.items()}

    def close(self) -> None:
        super().close()
        self.reset()

    def _go_on_from(self, states: Mapping[str, np.ndarray]) -> None:
        self._states = self._sent(states)

    def _step(self, feeds: dict[str, Any]) -> Results:
        session = self._runner.opened()
        started = time.perf_counter()
        fresh = self._checked(feeds, self._fresh)
        states = self._states or self._sent(self._first_states(fresh))
        run = DeviceRun(session, self._device)
        run.bind_inputs({**self._constants, **states}, fresh)
        run.bind_outputs(kept=self._pairs.values(), delivered=[spec.name for spec in self._results])
        kept, delivered = run.run()
        for spec in self._state_specs:
            self._check_state(spec, tuple(kept[self._pairs[spec.name]].shape()))
        self._states = {name: kept[source] for name, source in self._pairs.items()}
        results = {name: self._leased(array) for name, array in delivered.items()}
        self._runner.count_run()
        self._record(time.perf_counter() - started)
        return results

    def _first_states(self, fresh: Mapping[str, Any]) -> dict[str, np.ndarray]:
        shapes = first_shapes(self._pairs, self._runner.inputs, self._runner.outputs, fresh)
        zeros = {spec.name: np.zeros(shapes[spec.name], spec.dtype) for spec in self._state_specs}
        return {**zeros, **self._initial}

    def _sent(self, arrays: Mapping[str, np.ndarray]) -> dict[str, DeviceValue]:
        return {name: on_device(array, self._device) for name, array in arrays.items()}

    def _leased(self, array: np.ndarray) -> np.ndarray:
        mine = self._runner.pool.array(array.dtype, array.shape)
        np.copyto(mine, array)
        self._runner.count_copied(0, array.nbytes)
        return mine


def stays_on_device(runner: Runner) -> bool:
    """Whether every tensor of a model is of a type that can be handed over there: one that numpy has."""
    return all(spec.type_name in NATIVE for spec in (*runner.inputs, *runner.outputs))


class DeviceRun:
    """One run whose inputs lie on a device and some of whose outputs stay there, in memory of ONNX Runtime's.

    Parameters
    ----------
    session : Session
    device : (str, int)
        As ONNX Runtime names it for bindings.
    """

    def __init__(self, session: Session, device: Device) -> None:
        self._session = session
        self._binding = session.io_binding()
        self._device = device
        self._kept: list[str] = []
        self._delivered: list[str] = []

    def bind_inputs(self, values: Mapping[str, DeviceValue], arrays: Mapping[str, np.ndarray]) -> None:
        """Values as they are, and arrays of the host, which ONNX Runtime sends over."""
        for name, value in values.items():
            self._binding.bind_ortvalue_input(name, value)
        for name, array in arrays.items():
            self._binding.bind_cpu_input(name, array)

    def bind_outputs(self, kept: Iterable[str], delivered: Iterable[str]) -> None:
        """Outputs that stay on the device, and those that come back to the host."""
        self._kept, self._delivered = list(kept), list(delivered)
        for name in self._kept:
            self._binding.bind_output(name, *self._device)
        for name in self._delivered:
            self._binding.bind_output(name, "cpu")

    def run(self) -> tuple[dict[str, DeviceValue], dict[str, np.ndarray]]:
        """Values of what was kept, and views of what was delivered, in ONNX Runtime's memory, by name.

        Raises
        ------
        RunFailed
        """
        try:
            self._session.run_with_iobinding(self._binding)
        except Exception as error:
            message, hint = explained(error)
            raise RunFailed(f"Expected a run to succeed, got {message} - at Stream.step", hint=hint) from error
        values = dict(zip([*self._kept, *self._delivered], self._binding.get_outputs(), strict=True))
        return {name: values[name] for name in self._kept}, {name: values[name].numpy() for name in self._delivered}
