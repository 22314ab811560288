"""The kinds of contender at work: each loads, warms up and runs under one small interface."""

from __future__ import annotations

import importlib
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omni_sdk import warmup
from omni_sdk.errors import ModelError, OmniError, ProviderError
from omni_sdk.settings import Settings
from omni_sdk.tools.measure.contenders import Contender

Feeds = Mapping[str, Any]

WARMUP_PASSES = (2, 8)
"""Least and most passes of those that have no setting for it, as `Settings` has by default."""


class Engine(ABC):
    """A model that runs, one way or another. Made, then loaded: making imports what is needed."""

    def __init__(self, contender: Contender) -> None:
        self.contender = contender

    @abstractmethod
    def load(self) -> None:
        """From the file to the point where `run` works."""

    @abstractmethod
    def run(self, feeds: Feeds) -> Mapping[str, Any]:
        """One inference; outputs by name, past any cache of results."""

    @property
    def passes(self) -> tuple[int, int]:
        """Least and most passes of the warm-up."""
        return WARMUP_PASSES

    def warm_up(self, feeds: Feeds) -> tuple[float, ...]:
        """Seconds of each pass, on the inputs that will be measured: a model may not take others, such as zeros."""

        def timed() -> float:
            started = time.perf_counter()
            self.run(feeds)
            return time.perf_counter() - started

        return warmup.settle(timed, *self.passes)[0]

    def cached(self, feeds: Feeds, count: int) -> tuple[tuple[float, ...], float] | None:
        """Seconds of each of `count` repeats of one request and the share that hit; None without a result cache."""
        return None

    def remarks(self) -> tuple[str, ...]:
        """What is worth saying of how it runs."""
        return ()


class OmniEngine(Engine):
    """`omni_sdk.load` with some settings; the compile cache is left out, so that loading is loading."""

    def load(self) -> None:
        import omni_sdk

        self.settings = self.contender.settings or Settings()
        self.model = omni_sdk.load(self.contender.model, self.settings, cache_dir=None)

    @property
    def passes(self) -> tuple[int, int]:
        asked = self.settings.warmup_passes
        return (asked, asked) if isinstance(asked, int) else asked

    def run(self, feeds: Feeds) -> Mapping[str, Any]:
        return self.model.infer(feeds, cache=False)

    def cached(self, feeds: Feeds, count: int) -> tuple[tuple[float, ...], float] | None:
        if self.model.explain()["cache_bytes"].effective == 0:
            return None
        self.model.infer(feeds)
        before, seconds = self.model.stats().cache_hits, []
        for _ in range(count):
            started = time.perf_counter()
            self.model.infer(feeds)
            seconds.append(time.perf_counter() - started)
        return tuple(seconds), (self.model.stats().cache_hits - before) / count

    def remarks(self) -> tuple[str, ...]:
        found = [str(finding) for finding in self.settings.check(self.contender.model)]
        changed = [effect for effect in self.model.explain().settings if effect.changed]
        return (*found, *(f"{each.setting} is {each.effective!r} in effect: {each.reason}" for each in changed))


class SessionEngine(Engine):
    """`onnxruntime.InferenceSession.run` with every default of ONNX Runtime."""

    def load(self) -> None:
        import onnxruntime as ort

        from omni_sdk import session as sessions
        from omni_sdk.source import Source

        source, options = Source(self.contender.model), ort.SessionOptions()
        options.log_severity_level = 4
        if source.needs_operators:
            options.register_custom_ops_library(str(sessions.kernels_library()))
        try:
            self.session = ort.InferenceSession(source.model, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            message, hint = sessions.explained(error)
            raise ModelError(f"Expected a model that loads, got {message} - at {source}", hint=hint) from error
        self.names = [output.name for output in self.session.get_outputs()]

    def run(self, feeds: Feeds) -> Mapping[str, Any]:
        return dict(zip(self.names, self.session.run(self.names, dict(feeds)), strict=True))


class OpenVinoEngine(Engine):
    """OpenVINO's own runtime, with its hint for latency, in the precision of the model."""

    def __init__(self, contender: Contender) -> None:
        super().__init__(contender)
        try:
            self.openvino: Any = importlib.import_module("openvino")
        except ImportError as error:
            raise ProviderError(
                "Expected the package openvino, got none installed - at the contender openvino",
                hint="pip install openvino",
            ) from error

    def load(self) -> None:
        from omni_sdk.source import Source

        options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        try:
            compiled = self.openvino.Core().compile_model(str(Source(self.contender.model).path), "CPU", options)
            self.request = compiled.create_infer_request()
        except OmniError:
            raise
        except Exception as error:
            gist = str(error).strip().splitlines()[-1]
            raise ModelError(f"Expected a model that OpenVINO takes, got {gist} - at openvino") from error

    def run(self, feeds: Feeds) -> Mapping[str, Any]:
        found = self.request.infer(dict(feeds))
        return {output.any_name: array for output, array in found.to_dict().items()}


class CallableEngine(Engine):
    """A function of the user's, such as a PyTorch model: called with the path it returns the callable to measure."""

    def __init__(self, contender: Contender) -> None:
        from omni_sdk.tools.evaluate.callables import load_callable

        super().__init__(contender)
        self.make = load_callable(contender.function or "", folder=Path.cwd())

    def load(self) -> None:
        self.call = self.make(self.contender.model)
        if not callable(self.call):
            raise ModelError(
                f"Expected a function that returns a callable, got {type(self.call).__name__}"
                f" - at {self.contender.function}"
            )

    def run(self, feeds: Feeds) -> Mapping[str, Any]:
        found = self.call(dict(feeds))
        if not isinstance(found, Mapping):
            raise ModelError(f"Expected outputs by name, got {type(found).__name__} - at {self.contender.function}")
        return found


ENGINES: dict[str, type[Engine]] = {
    "settings": OmniEngine,
    "session": SessionEngine,
    "openvino": OpenVinoEngine,
    "callable": CallableEngine,
}
