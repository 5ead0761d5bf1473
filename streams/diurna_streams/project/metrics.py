"""What the projector counts and times, in Prometheus' words."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from diurna_projections.records import LogRecord
from diurna_projections.store import Applied

LAG: Final = Gauge("diurna_projection_lag_records", "Records of the log that are not in the tables yet.", ["topic"])
LAG_SECONDS: Final = Gauge(
    "diurna_projection_lag_seconds", "How long the oldest record that is not in the tables has waited.", ["topic"]
)
FRESHNESS: Final = Histogram(
    "diurna_projection_freshness_seconds",
    "From a record's own time to its row being committed.",
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 5, 30),
)
RECORDS: Final = Counter(
    "diurna_projection_records_total", "Records shown to the tables, by what became of them.", ["outcome"]
)
BATCH_SECONDS: Final = Histogram(
    "diurna_projection_batch_seconds",
    "One transaction: rows and positions.",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 5),
)
RETRIES: Final = Counter("diurna_projection_retries_total", "Transactions tried again because Postgres did not answer.")
BULK_RUNS: Final = Counter("diurna_projection_bulk_runs_total", "Times the bulk path caught up.")

_ACCEPTED, _REPEATED, _DUPLICATE, _ALIEN, _DEAD_LETTER = (
    RECORDS.labels(outcome) for outcome in ("accepted", "repeated", "duplicate", "alien", "dead_letter")
)


def count(applied: Applied) -> None:
    """Counts what became of a batch."""
    _ACCEPTED.inc(applied.accepted)
    _REPEATED.inc(applied.repeated)
    _DUPLICATE.inc(applied.duplicates)
    _ALIEN.inc(applied.aliens)
    _DEAD_LETTER.inc(applied.dead_letters)


def behind(records: Mapping[str, int], seconds: Mapping[str, float]) -> None:
    """How far the tables are behind each topic."""
    for topic, count in records.items():
        LAG.labels(topic).set(count)
        LAG_SECONDS.labels(topic).set(seconds[topic])


def observe_freshness(records: Sequence[LogRecord]) -> None:
    """How old the records of a committed batch are now."""
    now_ms = time.time() * 1000
    for record in records:
        FRESHNESS.observe(max(now_ms - record.timestamp_ms, 0) / 1000)
