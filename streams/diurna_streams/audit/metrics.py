"""What the auditor counts, in Prometheus' words."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge

POSITION: Final = Gauge("diurna_audit_position", "The offset of the next event to be audited.", ["topic", "partition"])
LAG: Final = Gauge("diurna_audit_lag_records", "Events that were not audited yet.", ["topic", "partition"])
DIVERGED: Final = Gauge(
    "diurna_audit_diverged", "1 where a partition's history is not what the rules say.", ["topic", "partition"]
)
DIVERGENCES: Final = Counter("diurna_audit_divergences_total", "Divergences found, by their kind.", ["family", "kind"])
COMMANDS: Final = Counter("diurna_audit_commands_total", "Commands decided again.", ["family"])
EVENTS: Final = Counter(
    "diurna_audit_events_total",
    "Events audited: decided again, folded only, duplicates, aliens.",
    ["family", "outcome"],
)
