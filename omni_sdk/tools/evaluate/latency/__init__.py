"""End-to-end latency: from the end of speech to the first audio of an answer, through a pipeline of stages."""

from omni_sdk.tools.evaluate.latency.config import PipelineConfig, StageConfig, VoiceConfig, read_pipeline
from omni_sdk.tools.evaluate.latency.picture import draw_timeline
from omni_sdk.tools.evaluate.latency.report import LatencyReport, Percentiles, StageReport, measure_latency

__all__ = [
    "LatencyReport",
    "Percentiles",
    "PipelineConfig",
    "StageConfig",
    "StageReport",
    "VoiceConfig",
    "draw_timeline",
    "measure_latency",
    "read_pipeline",
]
