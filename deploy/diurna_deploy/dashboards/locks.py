"""Locks: who holds what, who waits, and what is fought for."""

from __future__ import annotations

from typing import Final

from diurna_deploy.dashboards.model import Dashboard, Metric, Panel, Sql, Variable

_OF = 'resource_type=~"$type"'

DASHBOARD: Final = Dashboard(
    "diurna-locks",
    "locks",
    "Who holds what, who waits, and what is fought for.",
    variables=(Variable("type", "Resource type", "label_values(resource_lock_acquisitions_total, resource_type)"),),
    rows=(
        (
            "Now",
            (
                Panel(
                    "Held",
                    "Locks that somebody holds, in the whole team.",
                    "short",
                    [Metric("sum(diurna_locks_held)", "held")],
                    "stat",
                    width=6,
                    height=4,
                ),
                Panel(
                    "Waiting",
                    "Wishes that wait for a lock.",
                    "short",
                    [Metric("sum(diurna_lock_waiters)", "waiting")],
                    "stat",
                    width=6,
                    height=4,
                    warn_at=10,
                ),
                Panel(
                    "Longest wait",
                    "How long the oldest of them has waited.",
                    "s",
                    [Metric("max(diurna_lock_wait_age_seconds)", "waited")],
                    "stat",
                    width=6,
                    height=4,
                    warn_at=60,
                    alarm_at=300,
                ),
                Panel(
                    "Held by clients",
                    "Locks that processes hold through the Python client.",
                    "short",
                    [Metric("sum(resource_locks_active)", "held")],
                    "stat",
                    width=6,
                    height=4,
                ),
                Panel(
                    "Holders",
                    "Every lock that is held, the one held longest first.",
                    "none",
                    [
                        Sql(
                            """
select resource_id, agent_id, fencing_token, to_timestamp(acquired_at_ms / 1000.0) as acquired,
       to_timestamp(deadline_ms / 1000.0) as expires, renewals, reason
from diurna.locks
order by acquired_at_ms
limit 100
"""
                        )
                    ],
                    "table",
                ),
                Panel(
                    "Queue",
                    "Who waits, in the order in which they will get the lock.",
                    "none",
                    [
                        Sql(
                            """
select resource_id, queue_position, agent_id, to_timestamp(asked_at_ms / 1000.0) as asked,
       to_timestamp(until_ms / 1000.0) as waits_until, reason
from diurna.lock_queue
order by resource_id, queue_position
limit 100
"""
                        )
                    ],
                    "table",
                ),
            ),
        ),
        (
            "Over time",
            (
                Panel(
                    "Wishes",
                    "Wishes for locks a second, by how they ended.",
                    "ops",
                    [
                        Metric(
                            "sum by (resource_type, status) "
                            f"(rate(resource_lock_acquisitions_total{{{_OF}}}[$__rate_interval]))",
                            "{{resource_type}} {{status}}",
                        )
                    ],
                    stacked=True,
                ),
                Panel(
                    "Contention",
                    "The share of wishes that met another holder.",
                    "percentunit",
                    [Metric(f"resource_type:resource_lock_contentions:ratio_rate5m{{{_OF}}}", "{{resource_type}}")],
                    warn_at=0.5,
                ),
                Panel(
                    "Wait",
                    "From asking to having the lock: 95 of 100 stay below.",
                    "s",
                    [Metric(f"resource_type:resource_lock_wait_seconds:p95_5m{{{_OF}}}", "{{resource_type}}")],
                ),
                Panel(
                    "Most fought for",
                    "The resources with the most wishes that had to wait or were denied, since the log began.",
                    "none",
                    [
                        Sql(
                            """
select resource_id, wishes, acquisitions, queued, denials, expirations, forced_releases,
       waited_ms_max / 1000.0 as longest_wait_seconds, held_ms_max / 1000.0 as longest_held_seconds
from diurna.lock_statistics
order by queued + denials desc, resource_id
limit 20
"""
                        )
                    ],
                    "table",
                ),
            ),
        ),
    ),
)
