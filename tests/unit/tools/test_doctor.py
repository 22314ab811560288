"""What the doctor sees on devices that are not this one."""

from __future__ import annotations

import struct
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import psutil
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

from omni_sdk import Settings, cpu, installed, memory
from omni_sdk.cli import main
from omni_sdk.settings_check import Finding
from omni_sdk.tools import doctor, isa
from omni_sdk.tools.doctor import Places, examine

FAST = frozenset({"avx2", "fma", "avx512f", "avx512_vnni"})


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    """A device in good order: fast, four cores, memory free, nothing swapped."""
    monkeypatch.setattr(cpu, "describe", lambda processors=None: cpu.Cpu("Test CPU", FAST, 4))
    monkeypatch.setattr(cpu, "quota", lambda: None)
    monkeypatch.setattr(memory, "device", lambda: memory.DeviceMemory(16 << 30, 12 << 30, "machine"))
    monkeypatch.setattr(psutil, "swap_memory", lambda: SimpleNamespace(used=0))
    monkeypatch.setattr(isa, "kernels", lambda library, machine: isa.KNOWN)
    return Places(tmp_path / "sys", tmp_path / "proc", tmp_path)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def named(found: list[Finding], setting: str) -> Finding:
    return next(finding for finding in found if finding.setting == setting)


def test_a_device_in_order_has_no_findings(places: Places) -> None:
    assert examine(places=places) == []


def test_a_quota_below_the_cores(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "quota", lambda: 1.5)
    assert named(examine(places=places), "cpu quota").level == "info"
    found = examine(settings=Settings(intra_op_num_threads=4), places=places)
    assert any("4 threads on a quota of 1.5" in finding.message and finding.level == "warning" for finding in found)
    assert any(finding.hint == "set intra_op_num_threads to 1 or 'auto'" for finding in found)


@pytest.mark.parametrize(
    ("governor", "driver", "warns"),
    [
        ("powersave", "acpi-cpufreq", True),
        ("powersave", "intel_pstate", False),
        ("performance", "acpi-cpufreq", False),
        ("schedutil", "cpufreq-dt", False),
        ("ondemand", "cpufreq-dt", True),
    ],
)
def test_the_frequency_governor(governor: str, driver: str, warns: bool, places: Places) -> None:
    folder = places.sys / "devices/system/cpu/cpu0/cpufreq"
    write(folder / "scaling_governor", governor)
    write(folder / "scaling_driver", driver)
    assert any(finding.setting == "frequency governor" for finding in examine(places=places)) == warns


def test_huge_pages(places: Places) -> None:
    path = places.sys / "kernel/mm/transparent_hugepage/enabled"
    write(path, "always madvise [never]")
    assert "madvise" in str(named(examine(places=places), "huge pages").hint)
    write(path, "always [madvise] never")
    assert examine(places=places) == []


def test_memory_and_swap(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "device", lambda: memory.DeviceMemory(8 << 30, 1 << 30, "cgroup"))
    monkeypatch.setattr(psutil, "swap_memory", lambda: SimpleNamespace(used=1 << 30))
    found = examine(places=places)
    assert "1.0 GiB of 8.0 GiB are free (cgroup)" in named(found, "memory").message
    assert "1.0 GiB are swapped out" in named(found, "swap").message


@pytest.mark.parametrize(
    ("flags", "text"), [({"avx2"}, "AVX-512-VNNI"), ({"asimd"}, "asimddp"), ({"sse4_2"}, "neither AVX2")]
)
def test_missing_instructions(flags: set[str], text: str, places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "describe", lambda processors=None: cpu.Cpu("Old CPU", frozenset(flags), 4))
    assert any(text in finding.message for finding in examine(places=places) if finding.setting == "instructions")


def test_a_build_without_the_kernels(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isa, "kernels", lambda library, machine: frozenset({"avx_vnni"}))
    found = named(examine(places=places), "onnxruntime")
    assert "holds no avx512_vnni code" in found.message


def test_spinning_in_a_container(places: Places) -> None:
    spinning = Settings(allow_spinning=True, intra_op_num_threads=4)
    warned = [f for f in examine(settings=spinning, places=places) if f.level == "warning"]
    assert warned == []
    write(places.proc / "1/cgroup", "0::/docker/4f2a")
    assert "burn its quota" in named(examine(settings=spinning, places=places), "allow_spinning").message
    assert examine(settings=Settings(), places=places) == []


def test_options_that_do_nothing(places: Places) -> None:
    found = examine(settings=Settings(strict=False, session_entries={"session.arena_size": "1"}), places=places)
    assert found[0].level == "error"
    assert "unknown to the installed ONNX Runtime" in found[0].message


def test_a_quantized_model_on_a_processor_that_gains_nothing(
    places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("DequantizeLinear", ["w", "s"], ["y"])],
        "g",
        [],
        [value("y", TensorProto.FLOAT, [4])],
        [numpy_helper.from_array(np.ones(4, "i1"), "w"), numpy_helper.from_array(np.array(0.1, "f4"), "s")],
    )
    path = tmp_path / "int8.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    assert examine(path, places=places) == []
    monkeypatch.setattr(cpu, "describe", lambda processors=None: cpu.Cpu("Old CPU", frozenset({"avx2"}), 4))
    assert "slower here than in FP32" in named(examine(path, places=places), "quantization").message
    monkeypatch.setattr(memory, "device", lambda: memory.DeviceMemory(3, 3, "machine"))
    assert examine(path, places=places)[0].level == "error"


def test_the_installed_build_has_the_kernels_of_its_machine() -> None:
    """The official wheels bring every kernel that is looked for on x86-64 and ARM alike."""
    import platform

    import onnxruntime

    folder = Path(onnxruntime.__file__).parent / "capi"
    library = next(path for path in folder.glob("*pybind11_state*"))
    wanted = {"x86_64": frozenset(isa.X86), "aarch64": frozenset(isa.ARM)}.get(platform.machine(), frozenset())
    assert isa.kernels(library, platform.machine()) == wanted


def test_instructions_are_found_by_their_encoding_and_noise_is_not(tmp_path: Path) -> None:
    library = tmp_path / "lib.so"
    noise = np.random.default_rng(0).integers(0, 256, 8 << 20, dtype=np.uint8).tobytes()
    library.write_bytes(noise)
    assert isa.kernels(library, "x86_64") == frozenset()
    assert isa.counts(library, "riscv64") == {}
    # vpdpbusd zmm0, zmm1, zmm2; vpdpbusd ymm0, ymm1, ymm2 {vex}; tdpbssd tmm0, tmm1, tmm2; sdot v0.4s, v1.16b, v2.16b
    library.write_bytes(b"\x62\xf2\x75\x48\x50\xc2" * 20)
    assert isa.kernels(library, "x86_64") == {"avx512_vnni"}
    library.write_bytes(b"\xc4\xe2\x75\x50\xc2" * 20)
    assert isa.kernels(library, "x86_64") == {"avx_vnni"}
    library.write_bytes(b"\xc4\xe2\x6b\x5e\xc1" * 20)
    assert isa.kernels(library, "AMD64") == {"amx_int8"}
    library.write_bytes(struct.pack("<I", 0x4E829420) * 20)
    assert isa.kernels(library, "aarch64") == {"asimddp"}


def test_the_same_thing_is_said_once(places: Places) -> None:
    found = examine(settings=Settings(intra_op_num_threads=64), places=places)
    assert len(found) == len(set(found))
    assert doctor.examine is examine


def test_the_command_exits_with_1_for_an_error_only(places: Places, tmp_path: Path) -> None:
    settings = tmp_path / "mine.toml"
    settings.write_text('strict = false\n[session_entries]\n"session.arena_size" = "1"\n')
    done = CliRunner().invoke(main, ["doctor", "--settings", str(settings)])
    assert done.exit_code == 1, done.output
    assert "unknown to the installed ONNX Runtime" in done.output
    assert CliRunner().invoke(main, ["doctor"]).exit_code == 0


def test_two_distributions_of_onnx_runtime_at_once(places, monkeypatch):
    one, two = {"onnxruntime": "1.32.0"}, {"onnxruntime": "1.32.0", "onnxruntime-openvino": "1.24.1"}
    monkeypatch.setattr(installed, "runtimes", lambda: one)
    assert not [finding for finding in examine(places=places) if finding.setting == "onnxruntime"]
    monkeypatch.setattr(installed, "runtimes", lambda: two)
    (finding,) = [finding for finding in examine(places=places) if finding.setting == "onnxruntime"]
    assert finding.level == "error"
    assert "onnxruntime and onnxruntime-openvino" in finding.message
    assert "pip uninstall onnxruntime onnxruntime-openvino" in finding.hint


def test_a_model_in_orts_own_format_leaves_the_device_to_look_at(places: Places, tmp_path: Path) -> None:
    path = tmp_path / "m.ort"
    path.write_bytes(b"\0\0\0\0ORTM")
    found = examine(path, places=places)
    assert any(finding.setting == "model" and "cannot be read" in finding.message for finding in found)


def test_settings_that_were_never_tuned_leave_the_device_to_look_at(tmp_path: Path) -> None:
    path = tmp_path / "m.ort"
    path.write_bytes(b"\0\0\0\0ORTM")
    common = ["doctor", str(path), "--settings"]
    done = CliRunner().invoke(main, [*common, "tuned"], env={"OMNI_SDK_CACHE_DIR": str(tmp_path)})
    assert "warning tuned" in done.output
    assert "no such file" in CliRunner().invoke(main, [*common, "gone.toml"]).output
    assert "Expected the model that was tuned" in CliRunner().invoke(main, ["doctor", "--settings", "tuned"]).output
