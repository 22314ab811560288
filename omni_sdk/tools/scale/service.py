"""A model at the service of many callers: bounded, each with a deadline, whole answers or streams of audio."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from omni_sdk.bundle import Audio
from omni_sdk.errors import SettingsError
from omni_sdk.model import Model
from omni_sdk.tools.scale.aside import Aside, finished
from omni_sdk.tools.scale.gate import Deadline, Gate
from omni_sdk.tools.scale.messages import MAX_JSON_BYTES, InferRequest
from omni_sdk.tools.scale.problems import DEADLINE, TOO_MANY, Problem
from omni_sdk.tools.scale.signature import Signature
from omni_sdk.tools.synth import CHUNK, FIRST_CHUNK, Synthesis

BODIES = 2
"""Large bodies that are read or rendered at a time."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one replica takes on.

    Parameters
    ----------
    slots : int, default 1
        Runs at a time.
    queue : int, default 1
        Requests that wait for one; more are turned away with 429. Each adds a run's time to the worst latency.
    streams : int, default 8
        Streams of audio open at a time; each step of one is a run. More are turned away with 429.
    deadline_seconds : float, default 30
        For a whole answer, from the request's first byte to the end of the run; a client may ask for less.
    stream_seconds : float, default 600
        The same for a stream, to its last sample; its request's body has `deadline_seconds` at most.
    max_body_bytes : int, default 16 MiB
        Of a request, decompressed.
    max_json_bytes : int, default 64 MiB
        Of the outputs' values in an answer, where they were asked for in JSON.

    Raises
    ------
    SettingsError
        When one is out of its range.
    """

    slots: int = 1
    queue: int = 1
    streams: int = 8
    deadline_seconds: float = 30.0
    stream_seconds: float = 600.0
    max_body_bytes: int = 16 << 20
    max_json_bytes: int = MAX_JSON_BYTES

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name.endswith("seconds"):
                if not is_positive(value):
                    raise SettingsError(f"Expected a number above 0, got {value!r} - at Limits.{field.name}")
                continue
            least = 0 if field.name in ("queue", "streams") else 1
            if type(value) is not int or value < least:
                raise SettingsError(f"Expected int of {least} or more, got {value!r} - at Limits.{field.name}")


def is_positive(value: object) -> bool:
    """Whether it is a finite number above 0; NaN and truth values are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= sys.float_info.max


class Service:
    """A loaded model behind a gate.

    Parameters
    ----------
    model : Model
        Closed by the caller.
    name : str
        What clients call it.
    limits : Limits
    audio : Audio, optional
        What its bundle says of its audio; without it there are no streams.
    state : mapping of str to str, optional
        Its bundle's pairs of state.

    Raises
    ------
    ModelError
        When an input or output has a type that the protocol has no name for.
    """

    def __init__(
        self,
        model: Model,
        name: str,
        limits: Limits | None = None,
        *,
        audio: Audio | None = None,
        state: dict[str, str] | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self.signature = Signature.of(name, model.inputs, model.outputs, state or {})
        self.audio = audio if state else None
        self.gate = Gate(self.limits.slots, self.limits.queue)
        self.aside = Aside(BODIES, self.limits.slots + self.limits.queue + self.limits.streams)
        self.streams = 0
        self._model = model
        self._steps = ThreadPoolExecutor(self.limits.slots, thread_name_prefix="omni-sdk-stream")

    async def infer(self, request: InferRequest, deadline: Deadline) -> dict[str, Any]:
        """Run the model once, within the deadline.

        Raises
        ------
        Problem
            When there is no room, or no turn in time.
        TimeoutError
            When the run took too long, and was ended.
        OmniError
            As `Model.infer` does.
        """
        async with self.gate.slot(deadline):
            return await self._model.infer_async(request.feeds, timeout=max(deadline.left(), 1e-3))

    def synthesis(self, feeds: dict[str, np.ndarray]) -> Synthesis:
        """A synthesis of the codes among these feeds, not begun.

        Raises
        ------
        Problem
            When the model makes no audio step by step.
        InputError
            When the codes do not fit the model.
        """
        if self.audio is None:
            raise Problem(
                f"Expected a model that streams audio, got one that does not - at {self.signature.name!r}",
                hint="post to infer, or serve a streaming bundle: omni-sdk export code2wav",
            )
        codes = feeds[self.audio.input]
        if codes.ndim != 3 or codes.shape[0] != 1:
            raise Problem(f"Expected codes of one stream, [1, quantizers, frames], got {list(codes.shape)} - at codes")
        return Synthesis(self._model, self.audio, codes, first_chunk=FIRST_CHUNK, chunk=CHUNK)

    async def pieces(self, synthesis: Synthesis, deadline: Deadline) -> AsyncGenerator[np.ndarray, None]:
        """The samples of each step as it is made, float32 [samples]; a turn of its own for each.

        Raises
        ------
        Problem
            429 when too many streams are open or wait, 504 when the deadline has passed.
        """
        if self.streams >= self.limits.streams:
            raise Problem(
                f"Expected fewer than {self.limits.streams} open streams, got one more - at the server",
                status=TOO_MANY,
                retry_after=self.gate.retry_after(),
            )
        self.streams += 1
        steps, is_first = (piece for piece in synthesis), True
        try:
            while True:
                async with self.gate.slot(deadline, bounded=is_first):
                    piece = await finished(self._steps, next, steps, None)
                if piece is None:
                    return
                is_first = False
                yield piece
                if not deadline.left():
                    raise Problem("Expected a stream within its deadline, got a longer one - at the stream",
                                  status=DEADLINE)  # fmt: skip
        finally:
            self.streams -= 1
            steps.close()

    def close(self) -> None:
        """End the threads behind streams and bodies; the model stays open."""
        self.aside.close()
        self._steps.shutdown(wait=False, cancel_futures=True)
