"""Drift: how far a candidate is from its reference, what is wrong with it by name, and whether it repeats itself."""

from omni_sdk.tools.evaluate.drift.compare import Limits, OutputDrift, compare
from omni_sdk.tools.evaluate.drift.determinism import Repetition, check_determinism
from omni_sdk.tools.evaluate.drift.faults import Diagnosis, diagnose
from omni_sdk.tools.evaluate.drift.picture import draw_drift
from omni_sdk.tools.evaluate.drift.run import DriftReport, drift, read_case

__all__ = [
    "Diagnosis",
    "DriftReport",
    "Limits",
    "OutputDrift",
    "Repetition",
    "check_determinism",
    "compare",
    "diagnose",
    "draw_drift",
    "drift",
    "read_case",
]
