"""What workflows count and time, in Prometheus' words."""

from __future__ import annotations

from typing import Final

from prometheus_client import Gauge, Histogram

_SECONDS: Final = (0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 24 * 3600)

WORKFLOWS_ACTIVE: Final = Gauge("diurna_workflows_active", "Workflows that this process drives.", ["workflow_type"])
WORKFLOW_SECONDS: Final = Histogram(
    "diurna_workflow_duration_seconds",
    "From the start of a run to its end, by how it ended: completed, failed, cancelled, stopped.",
    ["workflow_type", "status"],
    buckets=_SECONDS,
)
CHECKPOINT_SECONDS: Final = Histogram(
    "diurna_checkpoint_seconds",
    "From saving what a graph did to its being durable, or the run going on: put, put_writes; and reading it: get.",
    ["operation"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5),
)
STEP_SECONDS: Final = Histogram(
    "diurna_workflow_step_seconds",
    "How long a step took, by how it ended: completed, failed, waiting, cancelled, error.",
    ["workflow_type", "step", "status"],
    buckets=_SECONDS,
)
