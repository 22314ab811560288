"""How bytes stand for numbers: types of activations and weights, and how many bits of a weight are used."""

from __future__ import annotations

from dataclasses import dataclass

from onnxruntime.quantization import QuantType

from omni_sdk.tools.prepare.hardware import ByteProducts


@dataclass(frozen=True, slots=True)
class Scheme:
    """A way to quantize that ONNX Runtime has fast kernels for.

    `int8` activations are no candidate on x86: ONNX Runtime 1.32 computes them by its reference route there, five
    to ten times slower than uint8 ones (`docs/prepare.md` has the figures).
    """

    name: str
    activation: QuantType
    weight: QuantType
    reduce_range: bool  # weights of 7 bits


FULL = Scheme("uint8 x int8", QuantType.QUInt8, QuantType.QInt8, False)
SEVEN_BITS = Scheme("uint8 x int8 of 7 bits", QuantType.QUInt8, QuantType.QInt8, True)
UNSIGNED = Scheme("uint8 x uint8", QuantType.QUInt8, QuantType.QUInt8, False)
SIGNED = Scheme("int8 x int8", QuantType.QInt8, QuantType.QInt8, False)


def candidates(cpu: ByteProducts) -> tuple[Scheme, ...]:
    """Schemes to measure on a CPU, the expected winner first.

    Where the kernels saturate, uint8 x int8 with 8-bit weights gives wrong sums without a word, so it is no candidate:
    7-bit weights keep its speed, uint8 weights keep the eighth bit at some of its speed.
    """
    if cpu.saturates:
        return (SEVEN_BITS, UNSIGNED)
    if cpu.machine in ("aarch64", "arm64"):
        return (SIGNED, FULL)
    return (FULL,)
