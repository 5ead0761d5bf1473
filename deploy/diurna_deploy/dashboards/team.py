"""The team: who is there, how busy they are, and whether the record is sound."""

from __future__ import annotations

from typing import Final

from diurna_deploy.dashboards.model import Dashboard, Metric, Panel, Sql, Variable

_SOUND: Final = {0: ("sound", "green"), 1: ("diverged", "red")}

DASHBOARD: Final = Dashboard(
    "diurna-team",
    "team",
    "Who is there, how busy they are, and whether the record is sound.",
    variables=(Variable("agent", "Agent", "label_values(diurna_agent_instances, agent_id)"),),
    rows=(
        (
            "At a glance",
            (
                Panel(
                    "Agents with a live instance",
                    "Agents that take requests now.",
                    "short",
                    [
                        Metric(
                            'count(sum by (agent_id) (diurna_agent_instances{status=~"active|busy|idle"}) > 0)',
                            "agents",
                        )
                    ],
                    "stat",
                    width=4,
                    height=4,
                ),
                Panel(
                    "Stale instances",
                    "Instances that were silent for more than 60 seconds.",
                    "short",
                    [Metric('sum(diurna_agent_instances{status="stale"}) or vector(0)', "stale")],
                    "stat",
                    width=4,
                    height=4,
                    warn_at=1,
                ),
                Panel(
                    "Requests waiting",
                    "Requests that wait for an instance with room.",
                    "short",
                    [Metric("sum(diurna_agent_queue_depth)", "waiting")],
                    "stat",
                    width=4,
                    height=4,
                    warn_at=10,
                    alarm_at=100,
                ),
                Panel(
                    "History",
                    "Whether the auditor found every event to be what the rules say.",
                    "none",
                    [Metric("max(diurna_audit_diverged)", "history")],
                    "stat",
                    width=4,
                    height=4,
                    alarm_at=1,
                    values=_SOUND,
                ),
                Panel(
                    "Dead letters, 24 h",
                    "Records nobody could understand.",
                    "short",
                    [Metric("sum(increase(diurna_dead_letters_total[24h]))", "dead letters")],
                    "stat",
                    width=4,
                    height=4,
                    warn_at=1,
                ),
                Panel(
                    "Processes that answer",
                    "Processes of Diurna whose metrics Prometheus reads.",
                    "short",
                    [Metric('sum(up{job="diurna"})', "processes")],
                    "stat",
                    width=4,
                    height=4,
                ),
            ),
        ),
        (
            "Agents",
            (
                Panel(
                    "At work",
                    "Requests that instances have, beside what they take at once.",
                    "short",
                    [
                        Metric('sum by (agent_id) (diurna_agent_in_flight{agent_id=~"$agent"})', "{{agent_id}}"),
                        Metric('sum by (agent_id) (diurna_agent_capacity{agent_id=~"$agent"})', "{{agent_id}} at most"),
                    ],
                ),
                Panel(
                    "Queue",
                    "Requests that wait, by agent.",
                    "short",
                    [Metric('sum by (agent_id) (diurna_agent_queue_depth{agent_id=~"$agent"})', "{{agent_id}}")],
                ),
                Panel(
                    "Oldest waiting request",
                    "How long the request that has waited longest has waited.",
                    "s",
                    [Metric('max by (agent_id) (diurna_agent_queue_age_seconds{agent_id=~"$agent"})', "{{agent_id}}")],
                    warn_at=60,
                ),
                Panel(
                    "Last heartbeat",
                    "How long ago the instance that was heard last was heard; 60 seconds are stale.",
                    "s",
                    [
                        Metric(
                            'max by (agent_id) (diurna_agent_heartbeat_age_seconds{agent_id=~"$agent"})', "{{agent_id}}"
                        )
                    ],
                    warn_at=30,
                    alarm_at=60,
                ),
                Panel(
                    "Registry",
                    "The agents as the tables hold them.",
                    "none",
                    [
                        Sql(
                            """
select a.agent_id, a.agent_name, a.status, a.instances, i.concurrency,
       to_timestamp(greatest(i.last_ms, a.created_at_ms) / 1000.0) as last_heartbeat, a.base_url
from diurna.agents a
left join lateral (
    select sum(i.concurrency) as concurrency, max(h.last_ms) as last_ms
    from diurna.agent_instances i left join diurna.heartbeats h using (agent_id, instance_id)
    where i.agent_id = a.agent_id) i on true
order by a.agent_id
"""
                        )
                    ],
                    "table",
                    width=24,
                ),
            ),
        ),
    ),
)
