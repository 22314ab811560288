"""What a served model takes and gives, in the protocol's words."""

from __future__ import annotations

from dataclasses import dataclass

from omni_sdk.errors import SettingsError
from omni_sdk.specs import TensorSpec
from omni_sdk.tools.scale.datatypes import datatype_of

PLATFORM = "onnxruntime_onnx"
VERSION = "1"
"""The only version of a model that a server has."""


@dataclass(frozen=True, slots=True)
class Signature:
    """A served model's name, inputs and outputs.

    Parameters
    ----------
    name : str
    inputs, outputs : mapping of str to TensorSpec
        Those that carry a stream's state left out: over this protocol each request begins anew.
    """

    name: str
    inputs: dict[str, TensorSpec]
    outputs: dict[str, TensorSpec]

    @classmethod
    def of(
        cls,
        name: str,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        state: dict[str, str],
    ) -> Signature:
        """Of a model's specs and its pairs of state.

        Raises
        ------
        SettingsError
            When the name can't stand in a path.
        ModelError
            When a tensor's type has no name in the protocol.
        """
        check_name(name)
        carried = {*state, *state.values()}
        made = cls(
            name,
            {spec.name: spec for spec in inputs if spec.name not in carried},
            {spec.name: spec for spec in outputs if spec.name not in carried},
        )
        made.metadata()
        return made

    def metadata(self) -> dict[str, object]:
        """The answer to `GET v2/models/NAME`; -1 stands for a dimension of any size."""
        return {
            "name": self.name,
            "versions": [VERSION],
            "platform": PLATFORM,
            "inputs": [_tensor(spec) for spec in self.inputs.values()],
            "outputs": [_tensor(spec) for spec in self.outputs.values()],
        }


def check_name(name: object) -> None:
    """`SettingsError` for a name that no client could ask for: it is one part of a URL's path."""
    if not isinstance(name, str) or name in ("", ".", "..") or "/" in name or not name.isprintable():
        raise SettingsError(f"Expected a name that is one part of a path, got {name!r} - at the served model's name",
                            hint="name it by --name, or name in the application's args")  # fmt: skip


def _tensor(spec: TensorSpec) -> dict[str, object]:
    sizes = [size if isinstance(size, int) else -1 for size in spec.shape]
    return {"name": spec.name, "datatype": datatype_of(spec), "shape": sizes}
