"""What wrong use of an operator gets, and the library as a file: its one symbol, its sessions, an old runtime."""

from __future__ import annotations

import ctypes
import shutil
import subprocess

import numpy as np
import onnxruntime as ort
import pytest
from kernels import FLOAT, LIBRARY, UINT8, Array, model, options, parameters, run, supported_variants

ONE = np.ones(4, np.float32)
SIGNAL = np.zeros((1, 4, 8), np.float32)
QUIET = np.zeros((1, 4, 8), np.uint8)
SCALE = np.array(0.5, np.float32)
BYTE = np.array(0, np.uint8)
PARAMETERS = {"alpha": ONE, "inv_beta": ONE}
QADD = {"X": QUIET, "x_scale": SCALE, "x_zero_point": BYTE, "residual": SIGNAL, **PARAMETERS, "y_scale": SCALE}


@pytest.mark.parametrize(
    ("operator", "feeds", "attributes", "message"),
    [
        ("Snake", {"X": SIGNAL[0], **PARAMETERS}, {}, r"Expected rank 3 \(batch, channels, time\), got shape \[4, 8\]"),
        (
            "Snake",
            {"X": SIGNAL[None, None], **PARAMETERS},
            {},
            "Expected at most 4 axes, got 5 - at omni::Snake, input X",
        ),
        (
            "Snake",
            {"X": SIGNAL, "alpha": ONE[:3], "inv_beta": ONE},
            {},
            r"Expected shape \[4\], got \[3\] - at omni::Snake, input alpha",
        ),
        (
            "Snake",
            {"X": SIGNAL, "alpha": ONE, "inv_beta": ONE[None]},
            {},
            r"Expected shape \[4\], got \[1, 4\] - at omni::Snake, input inv_beta",
        ),
        (
            "Snake",
            {"X": SIGNAL, **PARAMETERS},
            {"channels_last": 1},
            r"Expected shape \[8\], got \[4\] - at omni::Snake, input alpha",
        ),
        (
            "Snake",
            {"X": SIGNAL, **PARAMETERS},
            {"channels_last": 2},
            "Expected a value from 0 to 1, got 2 - at omni::Snake, attribute channels_last",
        ),
        (
            "Snake",
            {"X": SIGNAL, **PARAMETERS},
            {"channels_last": 1.0},
            "Expected an integer, got another type - at omni::Snake, attribute channels_last",
        ),
        (
            "AddSnake",
            {"A": SIGNAL, "B": SIGNAL[:, :, :7], **PARAMETERS},
            {},
            r"Expected shape \[1, 4, 8\], got \[1, 4, 7\] - at omni::AddSnake, input B",
        ),
        (
            "ShuffleSnake",
            {"X": SIGNAL, **PARAMETERS},
            {"stride": 3},
            "Expected a multiple of 3 channels, the stride, got 4 - at omni::ShuffleSnake, input X",
        ),
        (
            "ShuffleSnake",
            {"X": SIGNAL, **PARAMETERS},
            {"trim_begin": 9},
            "Expected at least 9 samples to trim, got 8 - at omni::ShuffleSnake, input X",
        ),
        (
            "ShuffleSnake",
            {"X": SIGNAL, **PARAMETERS},
            {"stride": 0},
            "Expected a value from 1 to .*, got 0 - at omni::ShuffleSnake, attribute stride",
        ),
        (
            "ShuffleSnake",
            {"X": SIGNAL, **PARAMETERS, "bias": ONE[:1]},
            {},
            r"Expected shape \[4\], got \[1\] - at omni::ShuffleSnake, input bias",
        ),
        (
            "QSnake",
            {"X": QUIET, "table": np.zeros((4, 255), np.uint8)},
            {},
            r"Expected shape \[4, 256\], got \[4, 255\] - at omni::QSnake, input table",
        ),
        (
            "QAddSnake",
            {**QADD, "x_scale": np.array([1, 2], np.float32), "y_zero_point": BYTE},
            {},
            r"Expected shape \[\], got \[2\] - at omni::QAddSnake, input x_scale",
        ),
        (
            "QAddSnake",
            {**QADD, "y_scale": np.array(-1, np.float32), "y_zero_point": BYTE},
            {},
            "Expected a positive finite scale, got -1 - at omni::QAddSnake, input y_scale",
        ),
    ],
)
def test_wrong_inputs_are_named(
    operator: str, feeds: dict[str, Array], attributes: dict[str, object], message: str
) -> None:
    with pytest.raises(Exception, match=message):
        run(operator, feeds, [("Y", UINT8 if operator.startswith("Q") else FLOAT)], **attributes)


@pytest.mark.parametrize(
    ("operator", "feeds"),
    [
        ("Snake", {"X": SIGNAL.astype(np.float64), **PARAMETERS}),
        ("QSnake", {"X": QUIET, "table": np.zeros((4, 256), np.int8)}),
        ("QSnake", {"X": SIGNAL, "table": np.zeros((4, 256), np.uint8)}),
        ("Snake", {"X": SIGNAL, "alpha": ONE}),
    ],
    ids=["float64", "mixed-bytes", "float-for-bytes", "too-few-inputs"],
)
def test_wrong_types_are_refused_at_load(operator: str, feeds: dict[str, Array]) -> None:
    made = model(operator, feeds, [("Y", UINT8 if operator.startswith("Q") else FLOAT)])
    with pytest.raises(Exception, match=operator):
        ort.InferenceSession(made.SerializeToString(), options(), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("name", ["avx1024", "AVX2 "])
def test_an_unknown_instruction_set_is_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("OMNI_SDK_KERNELS", name)
    with pytest.raises(Exception, match=f"Expected generic, avx2, avx512 or vnni, got '{name}' - at OMNI_SDK_KERNELS"):
        run("Snake", {"X": SIGNAL, **PARAMETERS})


@pytest.mark.skipif(len(supported_variants()) == 4, reason="this processor has every instruction set")
def test_an_instruction_set_that_the_processor_lacks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = next(name for name in ("avx2", "avx512", "vnni") if name not in supported_variants())
    monkeypatch.setenv("OMNI_SDK_KERNELS", missing)
    with pytest.raises(Exception, match=f"Expected an instruction set of this processor, got '{missing}'"):
        run("Snake", {"X": SIGNAL, **PARAMETERS})


@pytest.mark.skipif(shutil.which("nm") is None, reason="nm is not installed")
def test_one_symbol_is_exported() -> None:
    listed = subprocess.run(
        ["nm", "-D", "--defined-only", str(LIBRARY)], capture_output=True, text=True, check=True
    ).stdout
    assert [line.split()[-1] for line in listed.splitlines()] == ["RegisterCustomOps"]


def test_sessions_may_end_in_any_order() -> None:
    values = parameters(np.random.default_rng(1), 4)
    feeds = {"X": SIGNAL, **values}
    made = model("Snake", feeds, [("Y", FLOAT)]).SerializeToString()
    shared = options()
    sessions = [
        ort.InferenceSession(made, each, providers=["CPUExecutionProvider"]) for each in (shared, options(), shared)
    ]
    for last in (1, 0, 0):
        del sessions[last]
        for session in sessions:
            np.testing.assert_array_equal(session.run(None, feeds)[0], SIGNAL)


def test_an_old_runtime_is_told_which_one_is_needed() -> None:
    """A runtime that knows version 1 of the interface and no later one, made of callbacks."""
    said: list[bytes] = []
    status = ctypes.create_string_buffer(1)
    create_status = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p)(
        lambda _code, message: said.append(message) or ctypes.addressof(status)
    )
    table = (ctypes.c_void_p * 1)(ctypes.cast(create_status, ctypes.c_void_p).value)
    get_api = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_uint32)(
        lambda version: ctypes.addressof(table) if version == 1 else None
    )
    get_version = ctypes.CFUNCTYPE(ctypes.c_void_p)(lambda: ctypes.addressof(name))
    name = ctypes.create_string_buffer(b"1.9.0")
    base = (ctypes.c_void_p * 2)(
        ctypes.cast(get_api, ctypes.c_void_p).value, ctypes.cast(get_version, ctypes.c_void_p).value
    )
    register = ctypes.CDLL(str(LIBRARY)).RegisterCustomOps
    register.restype = ctypes.c_void_p
    register.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    assert register(None, ctypes.addressof(base)) == ctypes.addressof(status)
    assert said == [b"Expected ONNX Runtime 1.18 or later, got 1.9.0 - at the operators of domain omni"]
