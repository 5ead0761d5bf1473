"""What the streams count and time, in Prometheus' words."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from diurna_schemas import topics

DECISION_SECONDS: Final = Histogram(
    "diurna_decider_batch_seconds",
    "From reading a batch of commands to its events being durable.",
    ["family"],
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 5),
)
COMMANDS: Final = Counter("diurna_decider_commands_total", "Commands decided.", ["family"])
EVENTS: Final = Counter("diurna_decider_events_total", "Events written.", ["family"])
COMMAND_AGE_SECONDS: Final = Histogram(
    "diurna_decider_command_age_seconds",
    "How long the oldest command of a batch had been on the log when it was read.",
    ["family"],
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 5, 30, 300),
)
CHAIN_ALARMS: Final = Counter(
    "diurna_chain_alarms_total", "Events that do not link to the last accepted one, and were dropped.", ["topic"]
)
CHAIN_DUPLICATES: Final = Counter(
    "diurna_chain_duplicates_total", "Events another owner had decided the same, and were dropped.", ["topic"]
)
DEAD_LETTERS: Final = Counter("diurna_dead_letters_total", "Records nobody could understand.", ["topic"])
RECOVERIES: Final = Counter(
    "diurna_decider_recoveries_total", "Times a decider gave up what it had not read back.", ["family"]
)
PARTITIONS_OWNED: Final = Gauge("diurna_decider_partitions", "Partitions this process decides.", ["family"])
LOG_FAILURES: Final = Counter(
    "diurna_log_failures_total",
    "Times Kafka did not do what it was asked: connect, ask (where a partition begins or ends), read, write.",
    ["operation"],
)
STALE_MARKED: Final = Counter("diurna_monitor_stale_total", "Instances the monitor gave up.", [])


class OfFamily:
    """What the decider of one family counts: its series, looked up once."""

    def __init__(self, family: str) -> None:
        self.seconds = DECISION_SECONDS.labels(family)
        self.command_age_seconds = COMMAND_AGE_SECONDS.labels(family)
        self.commands = COMMANDS.labels(family)
        self.events = EVENTS.labels(family)
        self.recoveries = RECOVERIES.labels(family)
        self.partitions = PARTITIONS_OWNED.labels(family)


# Series that are not there cannot rise: an alert on the first dead letter needs the 0 before it.
for _topic in topics.TOPICS:
    DEAD_LETTERS.labels(_topic)
for _topic in topics.EVENT_TOPICS:
    CHAIN_ALARMS.labels(_topic)
    CHAIN_DUPLICATES.labels(_topic)
for _operation in ("connect", "ask", "read", "write"):
    LOG_FAILURES.labels(_operation)
