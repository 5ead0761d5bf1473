"""Workflows: what each is doing and has done, step by step, and which failed. Most of it from the tables."""

from __future__ import annotations

from typing import Final

from diurna_deploy.dashboards.model import Dashboard, Metric, Panel, Sql, Variable

_STATES: Final = {
    0: ("over", "transparent"),
    1: ("running", "blue"),
    2: ("completed", "green"),
    3: ("failed", "red"),
    4: ("waiting", "orange"),
    5: ("cancelled", "gray"),
    6: ("paused", "yellow"),
}

_STEPS: Final = Sql(
    """
with asked as (
    select correlation_id as workflow_id, metadata::jsonb ->> 'node' as step, submitted_at_ms as began_ms,
           finished_at_ms as ended_ms,
           case when finished_at_ms is null then 1 when response_status = 'success' then 2
                when status = 'cancelled' then 5 else 3 end as state
    from diurna.requests
    where correlation_id in (${workflow:sqlstring}) and metadata::jsonb ? 'node'
    union all
    select workflow_id, 'approval', requested_at_ms, decided_at_ms,
           case status when 'pending' then 4 when 'approved' then 2 else 3 end
    from diurna.approvals
    where workflow_id in (${workflow:sqlstring})
)
select to_timestamp(at_ms / 1000.0) as time, workflow_id || ' ' || step as metric, value
from asked
cross join lateral (values
    (began_ms, case when step = 'approval' then 4 else 1 end), (ended_ms, state)) moment (at_ms, value)
where at_ms is not null
order by 1
""",
    "time_series",
)
"""A step begins when an agent, or a person, is asked, and ends with the answer."""

_WORKFLOWS: Final = Sql(
    """
select to_timestamp(at_ms / 1000.0) as time, workflow_id as metric, value
from diurna.workflows
cross join lateral (values
    (started_at_ms, 1),
    (case when status = 'paused' then updated_at_ms end, 6),
    (completed_at_ms, case status when 'completed' then 2 when 'failed' then 3 else 5 end)) moment (at_ms, value)
where workflow_id in (${workflow:sqlstring}) and at_ms is not null
order by 1
""",
    "time_series",
)

_LISTED = """
select workflow_id, workflow_type, status, current_step, version, to_timestamp(started_at_ms / 1000.0) as started,
       round((coalesce(completed_at_ms, updated_at_ms) - started_at_ms) / 1000.0, 1) as seconds, error
from diurna.workflows
"""

DASHBOARD: Final = Dashboard(
    "diurna-workflows",
    "workflows",
    "What each workflow is doing and has done, step by step, and which failed.",
    variables=(
        Variable(
            "workflow",
            "Workflow",
            Sql(
                """
select workflow_id from diurna.workflows
where coalesce(completed_at_ms, updated_at_ms) >= $__unixEpochFrom()::bigint * 1000
order by started_at_ms desc limit 25
"""
            ),
        ),
    ),
    rows=(
        (
            "Now",
            (
                Panel(
                    "Workflows",
                    "All the log knows, by status.",
                    "short",
                    [Metric("sum by (status) (diurna_workflows)", "{{status}}")],
                    "stat",
                    height=4,
                ),
                Panel(
                    "Approvals that wait",
                    "Questions nobody has decided yet.",
                    "short",
                    [Metric("sum(diurna_workflow_approvals_waiting)", "waiting")],
                    "stat",
                    width=6,
                    height=4,
                    warn_at=1,
                ),
                Panel(
                    "Driven",
                    "Workflows that orchestrators drive now.",
                    "short",
                    [Metric("sum(diurna_workflows_active)", "driven")],
                    "stat",
                    width=6,
                    height=4,
                ),
                Panel(
                    "Steps",
                    "What each step of the chosen workflows did when. Waiting is for a person.",
                    "none",
                    [_STEPS],
                    "state-timeline",
                    width=24,
                    height=10,
                    values=_STATES,
                ),
                Panel(
                    "Whole workflows",
                    "From their start to their end.",
                    "none",
                    [_WORKFLOWS],
                    "state-timeline",
                    width=24,
                    values=_STATES,
                ),
                Panel(
                    "Running and paused",
                    "The oldest first.",
                    "none",
                    [Sql(_LISTED + "where status in ('running', 'paused') order by started_at_ms limit 100")],
                    "table",
                    width=24,
                ),
                Panel(
                    "Failed",
                    "The newest first, with the reason.",
                    "none",
                    [Sql(_LISTED + "where status = 'failed' order by completed_at_ms desc limit 100")],
                    "table",
                    width=24,
                ),
                Panel(
                    "Approvals",
                    "Questions that wait for a person.",
                    "none",
                    [
                        Sql(
                            """
select approval_id, workflow_id, question, roles, to_timestamp(requested_at_ms / 1000.0) as asked,
       to_timestamp(expires_at_ms / 1000.0) as expires
from diurna.approvals_with_end
where status = 'pending'
order by requested_at_ms
limit 100
"""
                        )
                    ],
                    "table",
                    width=24,
                ),
            ),
        ),
        (
            "Over time",
            (
                Panel(
                    "Ends",
                    "Runs that ended, an hour, by how.",
                    "short",
                    [
                        Metric(
                            "sum by (workflow_type, status) (increase(diurna_workflow_duration_seconds_count[1h]))",
                            "{{workflow_type}} {{status}}",
                        )
                    ],
                    stacked=True,
                ),
                Panel(
                    "Checkpoints",
                    "How long saving and reading what a graph did takes: 95 of 100 stay below.",
                    "s",
                    [
                        Metric(
                            "histogram_quantile(0.95, sum by (operation, le) "
                            "(rate(diurna_checkpoint_seconds_bucket[$__rate_interval])))",
                            "{{operation}}",
                        )
                    ],
                ),
                Panel(
                    "Duration of steps",
                    "What 95 of 100 runs of a step stay below.",
                    "s",
                    [
                        Metric(
                            "histogram_quantile(0.95, sum by (workflow_type, step, le) "
                            "(rate(diurna_workflow_step_seconds_bucket[1h])))",
                            "{{workflow_type}} {{step}}",
                        )
                    ],
                ),
            ),
        ),
    ),
)
