"""What ONNX Runtime has one of in a process: the thread pool and the arena that sessions may share."""

from __future__ import annotations

import logging
import threading

import numpy as np
import onnxruntime as ort

from omni_sdk.errors import ModelError
from omni_sdk.ort_options import ARENA_STRATEGIES
from omni_sdk.settings import Settings
from omni_sdk.source import Source
from omni_sdk.specs import TensorSpec

log = logging.getLogger(__name__)

# First block of the arena that a host's models share; it grows as runs need it.
SHARED_ARENA_BYTES = 1 << 20
# Far more than a thread's own data takes; asked for, given back, never touched.
ROOM_BESIDE_A_STACK = 2 << 20


def share_threads(settings: Settings) -> None:
    """Sets up one thread pool and one arena for all sessions of the process; the first call decides on sizes."""
    Threads.register((settings.intra_threads, settings.inter_threads))
    if Arena.registered is None:
        Arena.register(settings.arena_bytes or SHARED_ARENA_BYTES, settings.arena_extend_strategy)


class Threads:
    """ONNX Runtime's process-wide thread pool. Once there is one, every session must use it."""

    _lock = threading.Lock()
    sized: tuple[int, int] | None = None

    @classmethod
    def register(cls, sizes: tuple[int, int]) -> None:
        """Makes the pool of (intra-operator, inter-operator) threads, unless there is one already."""
        with cls._lock:
            if cls.sized is None:
                try:
                    ort.set_global_thread_pool_sizes(*sizes)
                except Exception as error:  # other code of this process made one with sizes of its own
                    log.warning("the process has a thread pool already: %s", error)
                cls.sized = sizes
        if cls.sized != sizes:
            log.warning("%d threads have no effect: the process shares a pool of %d", sizes[0], cls.sized[0])


class Arena:
    """The process-wide arena behind `Settings.arena_bytes`: ONNX Runtime has one, and the first to ask sizes it."""

    _lock = threading.Lock()
    registered: tuple[int, str] | None = None

    @classmethod
    def register(cls, size: int, strategy: str) -> None:
        """Makes the arena, unless there is one already; `registered` says what is in effect."""
        asked = (size, strategy)
        with cls._lock:
            if cls.registered is None:
                memory = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
                config = ort.OrtArenaCfg(
                    {"initial_chunk_size_bytes": size, "arena_extend_strategy": ARENA_STRATEGIES[strategy]}
                )
                ort.create_and_register_allocator(memory, config)
                cls.registered = asked
        if cls.registered != asked:
            log.warning("arena_bytes=%d has no effect: the process has an arena of %d", size, cls.registered[0])


def require_threads(count: int, source: Source) -> None:
    """Asks the system for threads, because ONNX Runtime waits for ever where it gets some of a pool's and not all.

    And for a little room beside their stacks: where a thread finds none for its thread-local data, the C library ends
    the process.
    """
    over, started = threading.Event(), list[threading.Thread]()
    try:
        for _ in range(count):
            thread = threading.Thread(target=over.wait, daemon=True)
            thread.start()
            started.append(thread)
        np.empty(count * ROOM_BESIDE_A_STACK, np.uint8)
    except (RuntimeError, MemoryError) as error:
        raise ModelError(
            f"Expected {count} more threads, got {len(started)} from the system - at load of {source}",
            hint="raise the limits of address space and processes, or lower intra_op_num_threads",
        ) from error
    finally:
        over.set()
        for thread in started:
            thread.join()


def give_back_arena(session: ort.InferenceSession, inputs: tuple[TensorSpec, ...]) -> bool:
    """Gives the memory that a session's arena keeps back to the system; whether it could.

    ONNX Runtime does so at the end of a run only. One that is ended before it begins computes nothing; its inputs are
    zeros of the least sizes.
    """
    options = ort.RunOptions()
    options.terminate = True
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    if any(spec.element is None for spec in inputs):
        return False
    try:
        feeds = {
            spec.name: ort.OrtValue.ortvalue_from_numpy_with_onnx_type(
                np.zeros([size if isinstance(size, int) else 0 for size in spec.shape], spec.dtype), spec.element.onnx
            )
            for spec in inputs
            if spec.element is not None
        }
        session.run_with_ort_values(None, feeds, options)
    except Exception as error:
        return "terminate flag" in str(error)
    return True
