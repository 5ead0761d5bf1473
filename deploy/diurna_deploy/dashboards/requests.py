"""Requests: how many, how they end, how long they take, and which are open."""

from __future__ import annotations

from typing import Final

from diurna_deploy.dashboards.model import Dashboard, Metric, Panel, Sql, Variable

_OF = 'target_agent=~"$agent"'

DASHBOARD: Final = Dashboard(
    "diurna-requests",
    "requests",
    "How many requests there are, how they end, how long they take, and which are open.",
    variables=(Variable("agent", "Asked agent", "label_values(agent_request_duration_seconds_count, target_agent)"),),
    rows=(
        (
            "As the callers see it",
            (
                Panel(
                    "Requests",
                    "Answered requests a second, by agent and how they ended.",
                    "reqps",
                    [
                        Metric(
                            "sum by (target_agent, status) "
                            f"(rate(agent_request_duration_seconds_count{{{_OF}}}[$__rate_interval]))",
                            "{{target_agent}} {{status}}",
                        )
                    ],
                    stacked=True,
                ),
                Panel(
                    "Duration",
                    "From asking to the answer: the median, and what 95 of 100 stay below.",
                    "s",
                    [
                        Metric(
                            f"histogram_quantile({share}, sum by (target_agent, le) "
                            f"(rate(agent_request_duration_seconds_bucket{{{_OF}}}[$__rate_interval])))",
                            "{{target_agent}} " + words,
                        )
                        for share, words in ((0.5, "median"), (0.95, "95 %"))
                    ],
                ),
                Panel(
                    "Time-outs",
                    "The share of requests nobody answered in time.",
                    "percentunit",
                    [Metric(f"target_agent:agent_request_timeouts:ratio_rate5m{{{_OF}}}", "{{target_agent}}")],
                    warn_at=0.05,
                ),
                Panel(
                    "Awaited now",
                    "Requests whose answer somebody awaits, by process.",
                    "short",
                    [Metric("sum by (instance) (agent_requests_active)", "{{instance}}")],
                ),
            ),
        ),
        (
            "As the agents see it",
            (
                Panel(
                    "Handlers at work",
                    "Requests that agents work on now.",
                    "short",
                    [Metric('sum by (agent_id) (diurna_agent_handlers_active{agent_id=~"$agent"})', "{{agent_id}}")],
                ),
                Panel(
                    "Handler duration",
                    "What 95 of 100 handler runs stay below, by agent and request type.",
                    "s",
                    [
                        Metric(
                            "histogram_quantile(0.95, sum by (agent_id, request_type, le) "
                            '(rate(diurna_agent_handler_seconds_bucket{agent_id=~"$agent"}[$__rate_interval])))',
                            "{{agent_id}} {{request_type}}",
                        )
                    ],
                ),
                Panel(
                    "Handlers that did not succeed",
                    "Errors, rejections, time-outs and cancellations a second.",
                    "ops",
                    [
                        Metric(
                            "sum by (agent_id, status) (rate(diurna_agent_handler_seconds_count"
                            '{agent_id=~"$agent", status!="success"}[$__rate_interval]))',
                            "{{agent_id}} {{status}}",
                        )
                    ],
                ),
                Panel(
                    "Deciding",
                    "From reading a batch of commands to its events being durable: 99 of 100 stay below.",
                    "s",
                    [
                        Metric(
                            "histogram_quantile(0.99, sum by (family, le) "
                            "(rate(diurna_decider_batch_seconds_bucket[$__rate_interval])))",
                            "{{family}}",
                        )
                    ],
                ),
                Panel(
                    "Open requests",
                    "Those that wait or are worked on, the oldest first.",
                    "none",
                    [
                        Sql(
                            """
select request_id, agent_id, status, request_type, priority, source_agent, attempts, correlation_id,
       to_timestamp(submitted_at_ms / 1000.0) as submitted, to_timestamp(deadline_ms / 1000.0) as deadline
from diurna.requests
where finished_at_ms is null
order by submitted_at_ms
limit 100
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
