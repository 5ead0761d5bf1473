"""Projections: how far the tables, and the audit, are behind the log."""

from __future__ import annotations

from typing import Final

from diurna_deploy.dashboards.model import Dashboard, Metric, Panel, Sql

DASHBOARD: Final = Dashboard(
    "diurna-projections",
    "projections",
    "How far the tables, and the audit, are behind the log.",
    rows=(
        (
            "The tables",
            (
                Panel(
                    "Lag",
                    "Records of the log that are not in the tables yet.",
                    "short",
                    [Metric("max by (topic) (diurna_projection_lag_records)", "{{topic}}")],
                ),
                Panel(
                    "Oldest missing record",
                    "How long the oldest record that is not in the tables has waited.",
                    "s",
                    [Metric("max by (topic) (diurna_projection_lag_seconds)", "{{topic}}")],
                    warn_at=60,
                ),
                Panel(
                    "Freshness",
                    "From a record's own time to its row being committed.",
                    "s",
                    [
                        Metric(
                            f"histogram_quantile({share}, sum by (le) "
                            "(rate(diurna_projection_freshness_seconds_bucket[$__rate_interval])))",
                            words,
                        )
                        for share, words in ((0.5, "median"), (0.95, "95 %"), (0.99, "99 %"))
                    ],
                ),
                Panel(
                    "Records",
                    "Records a second, by what became of them.",
                    "ops",
                    [
                        Metric(
                            "sum by (outcome) (rate(diurna_projection_records_total[$__rate_interval]))", "{{outcome}}"
                        )
                    ],
                    stacked=True,
                ),
                Panel(
                    "Transactions",
                    "How long a transaction of rows and positions takes: 95 of 100 stay below.",
                    "s",
                    [
                        Metric(
                            "histogram_quantile(0.95, sum by (le) "
                            "(rate(diurna_projection_batch_seconds_bucket[$__rate_interval])))",
                            "95 %",
                        )
                    ],
                ),
                Panel(
                    "Trouble",
                    "Transactions tried again, and times the bulk path caught up, in five minutes.",
                    "short",
                    [
                        Metric("sum(increase(diurna_projection_retries_total[5m]))", "tried again"),
                        Metric("sum(increase(diurna_projection_bulk_runs_total[5m]))", "bulk runs"),
                    ],
                ),
                Panel(
                    "Positions",
                    "Where each partition is in the tables.",
                    "none",
                    [
                        Sql(
                            """
select topic, partition, next, duplicates, aliens, dead_letters, incarnation, hash
from diurna.positions
order by topic, partition
"""
                        )
                    ],
                    "table",
                    width=24,
                ),
            ),
        ),
        (
            "The audit",
            (
                Panel(
                    "Audit lag",
                    "Events that were not audited yet.",
                    "short",
                    [Metric("sum by (topic) (diurna_audit_lag_records)", "{{topic}}")],
                    warn_at=10_000,
                ),
                Panel(
                    "Audited",
                    "Events audited a second, by what became of them.",
                    "ops",
                    [
                        Metric(
                            "sum by (family, outcome) (rate(diurna_audit_events_total[$__rate_interval]))",
                            "{{family}} {{outcome}}",
                        )
                    ],
                ),
            ),
        ),
    ),
)
