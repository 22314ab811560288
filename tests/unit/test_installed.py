"""Which providers can be had here, and what to install for the others."""

from __future__ import annotations

from importlib import metadata
from types import SimpleNamespace

import graphs
import pytest

from omni_sdk import installed
from omni_sdk.errors import ProviderError
from omni_sdk.providers import CPU, CUDA, OPENVINO, TENSORRT
from omni_sdk.settings import Settings

RUNTIMES = {"onnxruntime", "onnxruntime_gpu", "onnxruntime_openvino", "ort_nightly_gpu"}


def files(name):
    """Those that an installer wrote down, by a distribution's name in Python's words."""
    return [metadata.PackagePath("onnxruntime" if name in RUNTIMES else name, "__init__.py")]


@pytest.fixture
def distributions(monkeypatch):
    """Puts distributions in place of those that are installed."""

    def put(**versions):
        found = [
            SimpleNamespace(metadata={"Name": name.replace("_", "-")}, version=version, files=files(name))
            for name, version in versions.items()
        ]
        monkeypatch.setattr(metadata, "distributions", lambda: [*found, SimpleNamespace(metadata={"Name": None})])
        installed.runtimes.cache_clear()

    yield put
    monkeypatch.undo()
    installed.runtimes.cache_clear()


def test_the_order_asked_for_is_kept():
    entries = [("tensorrt", {"trt_fp16_enable": "1"}), ("CUDAExecutionProvider", {}), ("cpu", {})]
    found = installed.chosen(entries, [CPU, CUDA, TENSORRT], allow_fallback=False)
    assert found == [(TENSORRT, {"trt_fp16_enable": "1"}), (CUDA, {}), (CPU, {})]


def test_a_missing_provider_names_what_is_installed_and_what_to_install(distributions):
    distributions(onnxruntime="1.32.0", onnxruntime_extensions="0.14", numpy="2")
    with pytest.raises(ProviderError) as caught:
        installed.chosen([("openvino", {})], [CPU], allow_fallback=False)
    assert str(caught.value) == (
        "Expected an installed execution provider, got 'openvino' - at Settings.providers"
        " (installed: CPUExecutionProvider, by onnxruntime 1.32.0)\n"
        "  hint: pip uninstall onnxruntime && pip install onnxruntime-openvino (only one onnxruntime package at a"
        " time); allow_fallback=True goes on without it"
    )


def test_a_provider_that_nobody_knows():
    for name, remedy in [("opnvino", "did you mean 'openvino'?"), ("Nonsense", "the onnxruntime build that brings it")]:
        with pytest.raises(ProviderError, match=f"got '{name}'") as caught:
            installed.chosen([(name, {})], [CPU], allow_fallback=False)
        assert remedy in caught.value.hint


def test_fallback_leaves_the_missing_out():
    assert installed.chosen([("cuda", {}), ("openvino", {})], [CPU, OPENVINO], allow_fallback=True) == [(OPENVINO, {})]
    assert installed.chosen([("cuda", {})], [CPU], allow_fallback=True) == [(CPU, {})]


def test_two_distributions_at_once_are_named(distributions, monkeypatch):
    distributions(onnxruntime="1.32.0", onnxruntime_openvino="1.24.1")
    installed.refuse_conflicts([CPU])
    says = "got onnxruntime 1.32.0 and onnxruntime-openvino 1.24.1"
    with pytest.raises(ProviderError, match=says) as caught:
        installed.refuse_conflicts([OPENVINO, CPU])
    assert caught.value.hint == ("pip uninstall onnxruntime onnxruntime-openvino && pip install onnxruntime-openvino")
    monkeypatch.setattr(Settings, "provider_list", lambda *_: [(OPENVINO, {})])
    with pytest.raises(ProviderError, match=says):
        graphs.load(graphs.DOUBLE, providers=("openvino",))


def test_one_distribution_is_no_conflict(distributions):
    """Others have names that begin alike, and are meant to stand beside it."""
    distributions(onnxruntime_gpu="1.27.0", onnxruntime_genai_cuda="0.9", onnxruntime_ep_openvino="1.8", ort_python="1")
    installed.refuse_conflicts([CUDA, CPU])
    assert installed.runtimes() == {"onnxruntime-gpu": "1.27.0"}


def test_a_nightly_build_is_a_distribution_too(distributions):
    distributions(onnxruntime="1.32.0", ort_nightly_gpu="1.33.dev1")
    assert installed.runtimes() == {"onnxruntime": "1.32.0", "ort-nightly-gpu": "1.33.dev1"}


def test_a_distribution_that_no_list_of_files_came_with_counts_by_its_name(distributions, monkeypatch):
    monkeypatch.setitem(globals(), "files", lambda name: None)
    distributions(onnxruntime_gpu="1.27.0")
    assert installed.runtimes() == {"onnxruntime-gpu": "1.27.0"}


def test_what_is_installed_here_is_found():
    assert len(installed.runtimes()) == 1
