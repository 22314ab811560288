"""What is known at the end of preparing, as the report and the manifest hold it."""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Sequence
from dataclasses import dataclass

from omni_sdk.installed import runtimes
from omni_sdk.strict import JSON
from omni_sdk.tools.prepare.calibration import Samples
from omni_sdk.tools.prepare.ledger import Ledger
from omni_sdk.tools.prepare.parity import Difference, Trial
from omni_sdk.tools.prepare.quantize.gate import Chosen
from omni_sdk.tools.prepare.report import Parity, Speed, Tiling

PACKAGES = ("onnx", "onnx-ir", "onnxscript", "numpy")


@dataclass(frozen=True, slots=True)
class Facts:
    """Outcomes of all steps.

    Parameters
    ----------
    trials : sequence of Trial
        What parity was judged on.
    differences : sequence of Difference
        Of the rewritten FP32 model, every layer direct.
    ledgers : sequence of Ledger
        Of the rewrites that the bundle holds.
    tiling : Tiling or None
        Of the FP32 model.
    speed : Speed or None
        Where it was measured.
    samples : Samples or None
        What calibrated.
    int8 : Chosen
        The gate's outcome.
    """

    trials: Sequence[Trial]
    differences: Sequence[Difference]
    ledgers: Sequence[Ledger]
    tiling: Tiling | None
    speed: Speed | None
    samples: Samples | None
    int8: Chosen

    def parity(self) -> Parity:
        """Worst figures of the FP32 rewrites over all trials."""
        return Parity(
            trials=len(self.trials),
            smallest=self.trials[0].sizes,
            worst_relative=max(each.relative for each in self.differences),
            snr_db=min(each.snr_db for each in self.differences),
        )

    def quality(self) -> dict[str, JSON]:
        """Figures for the manifest."""
        parity = self.parity()
        figures: dict[str, JSON] = {"fp32_relative_difference": parity.worst_relative, "trials": parity.trials}
        snr_db = parity.snr_db if self.tiling is None else self.tiling.snr_db
        if math.isfinite(snr_db):
            figures["fp32_snr_db"] = round(snr_db, 2)
        if self.speed is not None:
            figures["time_against_original"] = round(self.speed.ratio, 4)
        point = next((each for each in self.int8.frontier if each.chosen and each.groups), None)
        if point is not None:
            figures["int8_snr_db"] = round(point.snr_db, 2) if math.isfinite(point.snr_db) else None
            figures["int8_log_spectral_db"] = point.log_spectral_db
            figures["int8_multi_resolution_stft"] = point.multi_resolution_stft
        return figures

    def preparation(self) -> dict[str, JSON]:
        """What was done, and with what, for the manifest."""
        fired: dict[str, JSON] = {rule: count for each in self.ledgers for rule, count in each.counts().items()}
        tiles = self.tiling.groups if self.tiling is not None else ()
        return {
            "rules": fired,
            "tiles": {each.group: each.tile for each in tiles},
            "int8": {
                "summary": self.int8.summary,
                "scheme": self.int8.scheme,
                "calibration_method": self.int8.method,
                "channels_equalized": self.int8.equalized,
            },
            "calibration": self.samples.fingerprint if self.samples is not None else None,
            "versions": {**runtimes(), **{name: importlib.metadata.version(name) for name in PACKAGES}},
        }
