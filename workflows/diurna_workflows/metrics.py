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
STEP_SECONDS: Final = Histogram(
    "diurna_workflow_step_seconds",
    "How long a step took, by how it ended: completed, failed, cancelled, error.",
    ["workflow_type", "step", "status"],
    buckets=_SECONDS,
)
