"""Whether a bundle's manifest and its graph speak of the same model."""

from __future__ import annotations

from collections.abc import Sequence

from omni_sdk.bundle import Bundle
from omni_sdk.errors import BundleError, StreamError
from omni_sdk.specs import TensorSpec
from omni_sdk.states import check_pairs

# Version of the operators of domain `omni` that `_kernels` has.
OPERATORS = 1


def check(bundle: Bundle, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
    """Hold a manifest against the model that its graph became.

    Parameters
    ----------
    bundle : Bundle
    inputs, outputs : sequence of TensorSpec
        Of the model.

    Raises
    ------
    BundleError
        When the manifest names a state, an input or an output that the graph does not have, or that cannot be what it
        is said to be; or operators later than those of this package.
    """
    manifest, where = bundle.manifest, f"manifest of {bundle.path}"
    if manifest.operators > OPERATORS:
        raise BundleError(
            f"Expected operators of version {OPERATORS} or earlier, got {manifest.operators} - at {where}, operators",
            hint="this bundle was made by a later release of omni-sdk; update it, or prepare the model again",
        )
    try:
        check_pairs(manifest.state, inputs, outputs)
    except StreamError as error:
        raise BundleError(f"Expected states of the graph, got others ({error}) - at {where}") from error
    if manifest.audio is None:
        return
    fresh = [spec for spec in inputs if spec.name not in manifest.state]
    given = [spec for spec in outputs if spec.name not in manifest.state.values()]
    for key, name, specs in (("input", manifest.audio.input, fresh), ("output", manifest.audio.output, given)):
        if not any(spec.name == name and spec.element is not None for spec in specs):
            names = ", ".join(spec.name for spec in specs) or "none"
            raise BundleError(f"Expected one of the graph's ({names}), got {name!r} - at {where}, audio.{key}")
