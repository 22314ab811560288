from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from omni_sdk._buffers import BufferPool

class Frame:
    names: tuple[str, ...]
    dtypes: tuple[np.dtype[Any], ...]
    shapes: tuple[tuple[int, ...], ...]
    nbytes: int
    def __init__(
        self,
        names: Sequence[str],
        dtypes: Sequence[npt.DTypeLike],
        shapes: Sequence[Sequence[int]],
        binds: tuple[Callable[[str, Any], None], Callable[[str, Any], None]],
        value_of: Callable[[int, np.ndarray], object],
        stager: BufferPool | None = None,
    ) -> None: ...

class BoundRun:
    inputs: Frame
    outputs: Frame
    bound: int
    def __init__(
        self,
        inputs: Frame,
        outputs: Frame,
        pool: BufferPool,
        start: Callable[..., object],
        bindings: tuple[object, object],
        failure: Callable[[Exception], Exception],
        count: Callable[[], object],
    ) -> None: ...
    def run(
        self,
        feeds: dict[str, Any],
        options: object = None,
        given: dict[str, np.ndarray] | None = None,
        *,
        held: dict[str, np.ndarray] | None = None,
        apart: dict[str, np.ndarray] | None = None,
    ) -> dict[str, Any] | None: ...
