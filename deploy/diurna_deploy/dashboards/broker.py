"""The broker and the deciders: what is written and read, how fast, and what goes wrong."""

from __future__ import annotations

from typing import Final

from diurna_deploy.dashboards.model import Dashboard, Metric, Panel, Sql

DASHBOARD: Final = Dashboard(
    "diurna-broker",
    "broker",
    "What is written to Kafka and read from it, how fast it is decided, and what goes wrong.",
    rows=(
        (
            "Kafka",
            (
                Panel(
                    "Brokers",
                    "Brokers that answer the exporter.",
                    "short",
                    [Metric("max(kafka_brokers)", "brokers")],
                    "stat",
                    width=6,
                ),
                Panel(
                    "Written",
                    "Records a second, by topic.",
                    "ops",
                    [
                        Metric(
                            "sum by (topic) (rate(kafka_topic_partition_current_offset[$__rate_interval])) > 0",
                            "{{topic}}",
                        )
                    ],
                    width=18,
                ),
                Panel(
                    "Groups behind",
                    "Records a consumer group has not taken yet.",
                    "short",
                    [
                        Metric(
                            "sum by (consumergroup, topic) (kafka_consumergroup_lag) > 0", "{{consumergroup}} {{topic}}"
                        )
                    ],
                ),
                Panel(
                    "Partitions without all replicas",
                    "Partitions some of whose replicas are missing or behind.",
                    "short",
                    [Metric("sum(kafka_topic_partition_under_replicated_partition)", "partitions")],
                    alarm_at=1,
                ),
                Panel(
                    "Failures",
                    "Times Kafka did not do what Diurna asked, in five minutes.",
                    "short",
                    [Metric("sum by (operation) (increase(diurna_log_failures_total[5m]))", "{{operation}}")],
                    warn_at=1,
                ),
                Panel(
                    "Told and heard",
                    "Broadcasts written, and events given to subscribers, a second.",
                    "ops",
                    [
                        Metric("sum(rate(event_bus_events_emitted_total[$__rate_interval]))", "written"),
                        Metric("sum(rate(event_bus_events_delivered_total[$__rate_interval]))", "given"),
                        Metric("sum(rate(event_bus_subscriber_errors_total[$__rate_interval]))", "failed"),
                    ],
                ),
            ),
        ),
        (
            "Deciding",
            (
                Panel(
                    "Commands",
                    "Commands decided a second.",
                    "ops",
                    [
                        Metric(
                            "sum by (family) (rate(diurna_decider_commands_total[$__rate_interval]))",
                            "{{family}} commands",
                        ),
                        Metric(
                            "sum by (family) (rate(diurna_decider_events_total[$__rate_interval]))", "{{family}} events"
                        ),
                    ],
                ),
                Panel(
                    "Age of commands",
                    "How long commands lie on the log before they are read: 99 of 100 stay below.",
                    "s",
                    [Metric("family:diurna_decider_command_age_seconds:p99_5m", "{{family}}")],
                    warn_at=1,
                ),
                Panel(
                    "Partitions decided",
                    "By process. All six of a family must have an owner.",
                    "short",
                    [Metric("sum by (family, instance) (diurna_decider_partitions)", "{{family}} {{instance}}")],
                    stacked=True,
                ),
                Panel(
                    "Doubt",
                    "Recoveries, repeated events and events that link to nothing, in five minutes.",
                    "short",
                    [
                        Metric("sum(increase(diurna_decider_recoveries_total[5m]))", "recoveries"),
                        Metric("sum(increase(diurna_chain_duplicates_total[5m]))", "repeated"),
                        Metric("sum(increase(diurna_chain_alarms_total[5m]))", "link to nothing"),
                    ],
                    warn_at=1,
                ),
                Panel(
                    "Dead letters",
                    "Records nobody could understand and nobody has settled, the newest first.",
                    "none",
                    [
                        Sql(
                            """
select id, stage, topic, error_type, error, to_timestamp(timestamp_ms / 1000.0) as at
from diurna.dead_letters_with_verdict
where status = 'open'
order by timestamp_ms desc
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
