"""The model to prepare, read without being touched, and refused early where it cannot be prepared."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import onnx
import onnx_ir as ir

from omni_sdk.bundle import Audio, Bundle, is_bundle
from omni_sdk.errors import ModelError
from omni_sdk.strict import JSON

OLDEST_OPSET, NEWEST_OPSET = 11, 25
"""Of the standard domain: before 11 `Pad` and `Slice` looked different; beyond 25 nothing was tried."""

STANDARD = ("", "ai.onnx")


@dataclass(frozen=True, slots=True)
class SourceModel:
    """Where the model stands, and what is known of it beside its graph."""

    path: Path
    state: Mapping[str, str] = field(default_factory=dict)
    audio: Audio | None = None
    provenance: Mapping[str, JSON] = field(default_factory=dict)

    @classmethod
    def open(cls, model: str | os.PathLike[str]) -> SourceModel:
        """Find the graph of an `.onnx` file or a bundle.

        Raises
        ------
        ModelError
            Where nothing of the kind stands there.
        BundleError
            Where a bundle is not whole.
        """
        path = Path(model)
        if path.is_dir():
            if not is_bundle(path):
                raise ModelError(f"Expected an .onnx file or a bundle, got a folder that is no bundle - at {path}")
            bundle = Bundle.open(path)
            manifest = bundle.manifest
            return cls(bundle.graph_path, dict(manifest.state), manifest.audio, dict(manifest.provenance))
        if not path.is_file():
            raise ModelError(f"Expected an .onnx file or a bundle, got nothing - at {path}")
        return cls(path)

    @property
    def bytes(self) -> int:
        """Size of the graph and its external weights."""
        return self.path.stat().st_size + sum(file.stat().st_size for file in self.external_files())

    def external_files(self) -> set[Path]:
        """Files beside the graph that hold its weights."""
        return {
            Path(value.const_value.path)
            for value in self.read().graph.initializers.values()
            if isinstance(value.const_value, ir.ExternalTensor)
        }

    def read(self) -> ir.Model:
        """The graph; external weights are mapped, not read.

        Raises
        ------
        ModelError
            Where the file is no ONNX model, its weights are missing, or its opset is out of range.
        """
        try:
            model = ir.load(self.path)
        except Exception as error:  # protobuf, onnx-ir and the file system each have their own
            raise ModelError(f"Expected an ONNX model, got {_sentence(error)} - at {self.path}") from error
        opset = model.opset_imports.get("", model.opset_imports.get("ai.onnx"))
        if opset is None or not OLDEST_OPSET <= opset <= NEWEST_OPSET:
            raise ModelError(
                f"Expected an opset from {OLDEST_OPSET} to {NEWEST_OPSET}, got {opset} - at {self.path}",
                hint="export the model anew, or convert it with onnx.version_converter",
            )
        for value in model.graph.initializers.values():
            if isinstance(value.const_value, ir.ExternalTensor) and not Path(value.const_value.path).is_file():
                raise ModelError(
                    f"Expected the weights of {value.name!r} in {value.const_value.path}, got no file - at {self.path}"
                )
        return model

    def check(self) -> None:
        """Let ONNX's own checker look at the graph, unless it holds operators that the checker does not know.

        Raises
        ------
        ModelError
            With what the checker said.
        """
        domains = {node.domain for node in self.read().graph.all_nodes()}
        if not domains <= set(STANDARD):
            return
        try:
            onnx.checker.check_model(str(self.path))
        except Exception as error:
            raise ModelError(f"Expected a valid ONNX model, got: {_sentence(error)} - at {self.path}") from error


def _sentence(error: Exception) -> str:
    """The first line of another library's message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).rstrip(".")[:300]
